"""Writes to the bus: in order, once, and never holding more than a cap while the brokers are slow or gone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from egress.config import Kafka
from egress.errors import BusAway, BusError
from egress.kafkaclient import MAX_MESSAGE_BYTES, explain, made

Acknowledged = Callable[[int, int], None]
"""Called with partition and offset, in the thread that uses the producer."""

CONNECT_S = 1.0
"""Of one attempt: so long a stop may have to wait."""
BATCH_BYTES = 256 << 10
"""Several messages to a request under load; one alone is sent at once."""
FOR_EVER_MS = 1_000_000_000
"""12 days. A message given up early would be overtaken by the ones behind it, and the caller could not tell."""
METADATA_MS = 2_000
OVERHEAD_BYTES = 200
"""What a message costs beside its bytes, roughly; keeps a million empty messages within the cap."""


class Producer:
    """One thread's writer. Not connected until it is used; every message is acknowledged by all copies in sync.

    A message is kept and sent again until a broker takes it. BusError says that the brokers refuse for good: what was
    not acknowledged until then must be sent by another producer.
    """

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self._client: Any = None
        self._seen: set[str] = set()
        """Topics that are there."""
        self._done: deque[tuple[int, Any, Acknowledged | None]] = deque()
        self._something = threading.Event()
        self._refusal: BusError | None = None
        self.in_flight_bytes = 0
        """Sent and not acknowledged, with an allowance for each message."""
        self.in_flight = 0

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    def connect(self, timeout_s: float = CONNECT_S) -> bool:
        """Tries to reach a broker; False: none answers now. Raises BusError when refused."""
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        if self._client is not None:
            return True
        try:
            self._client = made(
                KafkaProducer,
                self._settings,
                timeout_s,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                acks="all",
                enable_idempotence=True,
                compression_type=None,
                delivery_timeout_ms=FOR_EVER_MS,
                batch_size=BATCH_BYTES,
                max_block_ms=METADATA_MS,
                max_request_size=2 * MAX_MESSAGE_BYTES,
            )
        except KafkaError as error:
            failure = explain(error, self._settings)
            if isinstance(failure, BusAway):
                return False
            raise failure from error
        return True

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        on_ack: Acknowledged | None = None,
    ) -> None:
        """Hands over a message, and waits, serving acknowledgements, while there is no broker or no room.

        Raises BusError as soon as anything was refused. Whoever must stop meanwhile uses `offer`.
        """
        while not self.offer(topic, key, value, headers, partition, on_ack):
            if not self.is_connected:
                self.connect()
            self.serve(0.1)

    def offer(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        on_ack: Acknowledged | None = None,
    ) -> bool:
        """`send` that does not wait: False if there is no broker or no room now."""
        from kafka.errors import KafkaError

        self.serve()
        size = _size(key, value, headers)
        if size > MAX_MESSAGE_BYTES:
            raise BusError(f"a message for {topic} has {size} bytes, at most {MAX_MESSAGE_BYTES} fit")
        cost = size + OVERHEAD_BYTES
        if not self.is_connected or self.in_flight_bytes + cost > self._settings.in_flight_bytes:
            return False
        if not self._is_known(topic, partition):
            return False
        try:
            future = self._client.send(
                self._settings.topic(topic), value=value, key=key, headers=list(headers), partition=partition
            )
        except KafkaError as error:
            return self._not_now(explain(error, self._settings))
        self.in_flight_bytes += cost
        self.in_flight += 1
        future.add_both(partial(self._finish, cost, on_ack, future))
        return True

    def serve(self, timeout_s: float = 0.0) -> int:
        """Calls back for what was acknowledged, after waiting up to so long for the first; says for how many."""
        if timeout_s and not self._done and self._refusal is None:
            self._something.wait(timeout_s)
        self._something.clear()
        served = 0
        while self._done:
            cost, future, on_ack = self._done.popleft()
            self.in_flight_bytes -= cost
            self.in_flight -= 1
            if future.failed():
                self._refusal = self._refusal or self._refused(future.exception)
                continue
            served += 1
            if on_ack is not None:
                on_ack(future.value.partition, future.value.offset)
        if self._refusal is not None:
            raise self._refusal
        return served

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything sent is acknowledged; False if that took longer."""
        until = time.monotonic() + timeout_s
        self.serve()
        while self.in_flight and time.monotonic() < until:
            self.serve(min(0.1, max(0.0, until - time.monotonic())))
        return not self.in_flight

    def close(self) -> None:
        """Lets go at once; what is not flushed may or may not arrive."""
        from kafka.errors import KafkaTimeoutError

        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.close(timeout=0)
        except KafkaTimeoutError:  # with messages under way the library stops there, and its thread would send for ever
            client._sender.force_close()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, as far as was heard in the last minute.

        Raises BusError if it is not there, BusAway if nobody can tell now.
        """
        from kafka.errors import KafkaError, KafkaTimeoutError

        if not self.connect():
            raise self._away()
        name = self._settings.topic(topic)
        try:
            return len(self._client.partitions_for(name))
        except KafkaTimeoutError as error:
            if self._is_missing(name):
                raise BusError(f"{name} is not there; `egress init --kafka` makes the topics") from error
            raise self._away() from error
        except KafkaError as error:
            raise explain(error, self._settings) from error

    def _is_known(self, topic: str, partition: int | None) -> bool:
        if partition is None and topic in self._seen:
            return True
        try:
            count = self.partitions(topic)
            if partition is not None and partition >= count:
                count = self._partitions_now(topic)
        except BusAway:
            return False
        if partition is not None and not 0 <= partition < count:
            raise BusError(f"{self._settings.topic(topic)} has no partition {partition}; it has {count}")
        self._seen.add(topic)
        return True

    def _partitions_now(self, topic: str) -> int:
        """Asks a broker: whoever names a partition may have heard of it earlier than this client."""
        answered = threading.Event()
        self._client._metadata.request_update().add_both(lambda *_: answered.set())
        self._client._sender.wakeup()
        if not answered.wait(METADATA_MS / 1000):
            raise self._away()
        return self.partitions(topic)

    def _away(self) -> BusAway:
        return BusAway(f"{', '.join(self._settings.servers)}: no broker answers now")

    def _is_missing(self, name: str) -> bool:
        """Whether a broker lists its topics, and this one is not among them."""
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            admin = made(KafkaAdminClient, self._settings, CONNECT_S)
            try:
                return name not in admin.list_topics()
            finally:
                admin.close()
        except KafkaError:
            return False

    def _not_now(self, failure: BusError) -> bool:
        if isinstance(failure, BusAway):
            return False
        raise failure

    def _finish(self, cost: int, on_ack: Acknowledged | None, future: Any, _: object) -> None:
        """On the library's thread: only notes what `serve` then does on the caller's."""
        self._done.append((cost, future, on_ack))
        self._something.set()

    def _refused(self, error: BaseException) -> BusError:
        failure = explain(error, self._settings)
        if isinstance(failure, BusAway):  # the library gave up what it should have tried again
            failure = BusError(f"a message was not taken ({type(error).__name__}: {error})")
        return BusError(f"{failure}; what was not acknowledged must be sent again, by another producer")


def _size(key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    return len(key) + len(value or b"") + sum(len(name) + len(text) for name, text in headers)
