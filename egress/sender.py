"""The bus as collectors use it: flows go where their epoch's messages always went, however many partitions grew."""

from __future__ import annotations

import time
from collections.abc import Callable

from egress.config import Kafka
from egress.errors import BusAway, TopicMissing
from egress.growth import FRESH_US, Growth, partition_of
from egress.kafkagrowth import read_growth, write_growth
from egress.kafkawriter import CONNECT_S, Producer
from egress.service import Log

Now = Callable[[], int]
"""UTC microseconds, right to a few minutes."""


class Sender:
    """A producer that finds the partition by itself; see `shipper.Bus`."""

    def __init__(self, settings: Kafka, log: Log, now: Now) -> None:
        self._settings = settings
        self._log = log
        self._now = now
        self._producer = Producer(settings)
        self._growth: Growth | None = None
        self._read_at = 0.0
        self._is_remembered = False
        self._counts: dict[str, int] = {}
        """By epoch."""

    def connect(self, timeout_s: float = CONNECT_S) -> bool:
        return self._producer.connect(timeout_s)

    def offer(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = (),
        partition: int | None = None,
        on_ack: Callable[[int, int], None] | None = None,
    ) -> bool:
        if topic == "flows" and partition is None:
            try:
                partition = partition_of(key, self._count(dict(headers).get("epoch", b"").decode(errors="replace")))
            except BusAway:
                return False
        return self._producer.offer(topic, key, value, headers, partition, on_ack)

    def serve(self, timeout_s: float = 0.0) -> int:
        return self._producer.serve(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        return self._producer.flush(timeout_s)

    def close(self) -> None:
        self._producer.close()

    def _count(self, epoch: str) -> int:
        count = self._counts.get(epoch)
        if count is None:
            if self._growth is None or (time.monotonic() - self._read_at) * 1e6 > FRESH_US:
                self._growth = self._read()
            if self._growth.must_pin(epoch, self._now()):
                self._growth = self._pinned(epoch, self._growth)
            count = self._counts[epoch] = self._growth.of(epoch)
        return count

    def _pinned(self, epoch: str, known: Growth) -> Growth:
        """With the first pin that anybody wrote."""
        if not self._is_remembered:
            return known
        write_growth(self._settings, known.of(epoch), epoch.encode())
        return self._read()

    def _read(self) -> Growth:
        asked_at = time.monotonic()
        count = self._producer.partitions("flows")
        try:
            found = read_growth(self._settings, count)
        except TopicMissing as missing:
            found, hint = None, "make the topic, and let collectors read and write it, before partitions grow"
            self._log.warning("growth_not_known", why=str(missing), hint=hint)
        self._read_at, self._is_remembered = asked_at, found is not None
        return found or Growth(count)
