"""How long a bus keeps its users waiting: small messages to every broker, and when each was acknowledged and read."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import TracebackType
from typing import Self

from egress.config import Kafka
from egress.kafka import Consumer, Producer, make_topics

PAUSE_S = 0.05
PARTITIONS = 6
"""Each of three brokers leads two."""


@dataclass
class Probe:
    """While entered, sends to each partition of topics of its own every 0.3 s, through the client that services use."""

    settings: Kafka
    written: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When messages were acknowledged, by partition."""
    read: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.settings = replace(self.settings, prefix=f"{self.settings.prefix}-probe", partitions=PARTITIONS)
        make_topics(self.settings)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._read)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def partitions(self) -> range:
        return range(PARTITIONS)

    @property
    def topic(self) -> str:
        return self.settings.topic("flows")

    def pause(self, partitions: Sequence[int], since: float, until: float) -> float:
        """The longest silence of writing or reading one of these partitions that began after `since`."""
        gaps = [
            _longest_gap(moments, part, since, until) for moments in (self.written, self.read) for part in partitions
        ]
        return max(gaps)

    def _write(self) -> None:
        with closing(Producer(self.settings)) as producer:
            number = 0
            while not self._stop.wait(PAUSE_S):
                if not producer.connect():
                    continue
                partition = number % PARTITIONS
                number += 1

                def note(at: int, offset: int) -> None:
                    self.written[at].append(time.monotonic())

                producer.offer("flows", b"probe", b"?", (), partition, note)
                producer.serve()

    def _read(self) -> None:
        with closing(Consumer(self.settings, "", ["flows"])) as consumer:
            while not self._stop.is_set():
                for message in consumer.poll(PAUSE_S):
                    self.read[message.partition].append(time.monotonic())


def _longest_gap(moments: Mapping[int, Sequence[float]], partition: int, since: float, until: float) -> float:
    near = [moment for moment in list(moments[partition]) if since - 1 <= moment <= until]
    return max((after - before for before, after in pairwise(near)), default=until - since)
