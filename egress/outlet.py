"""What a service has to say, sent patiently: a slow bus makes it wait, a wish to stop makes it give up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from egress.errors import BusAway
from egress.kafka import Producer
from egress.packing import pack
from egress.schema import Table
from egress.service import Service

STOP_S = 20.0
"""So long a stop may wait for brokers. What was not sent then is found again in the log by whoever goes on."""
SERVE_S = 0.1
MOST_BYTES = 900_000
"""Of one message."""
ROWS_AT_ONCE = 16_384
"""Measured 15 to 40 B a row."""


def _nothing(offset: int) -> None:
    """For whoever does not mind where it lies."""


class Outlet:
    """The producer of a service, with its patience."""

    def __init__(self, producer: Producer, running: Service) -> None:
        self._producer = producer
        self._running = running
        self._deadline: float | None = None

    @property
    def is_empty(self) -> bool:
        """Everything that was sent is acknowledged."""
        self._producer.serve()
        return self._producer.in_flight == 0

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        acknowledged: Callable[[int], object] = _nothing,
    ) -> None:
        """Raises BusAway where the service was asked to stop and no broker took the message in time.

        `acknowledged` is called with the message's offset once it has one.
        """

        def note(_: int, offset: int) -> None:
            acknowledged(offset)

        while not self._producer.offer(topic, key, value, headers, partition, note):
            if not self._producer.is_connected:
                self._producer.connect()
            self._producer.serve(SERVE_S)
            self._check_patience()

    def flush(self) -> None:
        """Waits until everything is acknowledged. Raises BusAway as `send` does."""
        while not self._producer.flush(1.0):
            self._check_patience()

    def _check_patience(self) -> None:
        if not self._running.stop.is_set():
            return
        now = self._running.clock()
        self._deadline = self._deadline or now + STOP_S
        if now > self._deadline:
            raise BusAway("no broker takes what is left to be said; it is found again in the log")


def packed(frame: pl.DataFrame, table: Table) -> Iterator[tuple[int, bytes]]:
    """Rows and value of the messages that carry a frame."""
    for start in range(0, frame.height, ROWS_AT_ONCE):
        yield from _fitting(frame[start : start + ROWS_AT_ONCE], table)


def _fitting(frame: pl.DataFrame, table: Table) -> Iterator[tuple[int, bytes]]:
    value = pack(frame, table)
    if len(value) <= MOST_BYTES or frame.height == 1:
        yield frame.height, value
        return
    half = frame.height // 2
    yield from _fitting(frame[:half], table)
    yield from _fitting(frame[half:], table)
