"""From the spool to the bus, on a thread of its own: while there is a broker, and again when there is one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from egress.errors import BusAway, BusError
from egress.metrics import Metrics
from egress.segments import Parcel, Quantity
from egress.service import Service
from egress.spool import Spool

TAKE_BYTES = 1 << 20
IDLE_S = 0.05
"""Between two looks into an empty spool."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Between tries at brokers that do not answer or refuse; the last one is repeated."""
SILENT_S = 10.0
"""Where messages wait and none arrives for so long, no broker answers, whatever the client believes."""


class Bus(Protocol):
    """What is needed of `kafka.Producer`."""

    def connect(self, timeout_s: float = ...) -> bool: ...

    def offer(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = ...,
        partition: int | None = ...,
        on_ack: Callable[[int, int], None] | None = ...,
    ) -> bool: ...

    def serve(self, timeout_s: float = ...) -> int: ...

    def flush(self, timeout_s: float) -> bool: ...

    def close(self) -> None: ...


@dataclass
class Shipper:
    """Runs from `start` to `finish`. What could not be sent until then stays in the spool."""

    spool: Spool
    connect: Callable[[], Bus]
    service: Service
    sent: Quantity = field(default_factory=Quantity)
    carried: Quantity = field(default_factory=Quantity)
    """From the spool of an earlier process."""
    trouble: str = ""
    """Why nothing arrives now; empty while all is well."""
    is_connected: bool = False
    _finishing: threading.Event = field(default_factory=threading.Event)
    _patience_s: float = 0.0
    _until: float = 0.0
    _moved_at: float = 0.0
    _waiting_since: float | None = None
    """When the oldest of what waits in the spool came there, at the latest; None: nothing does."""
    _failure: Exception | None = None
    _nothing: threading.Event = field(default_factory=threading.Event)
    """Never set: what to sleep on."""

    def __post_init__(self) -> None:
        self._moved_at = self.service.clock()
        self._thread = threading.Thread(target=self._guarded, name="egress-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, patience_s: float, limit_s: float = float("inf")) -> bool:
        """Waits until all has arrived; False: nothing did for `patience_s`, or `limit_s` are over.

        Raises what ended the thread, if anything did.
        """
        self._patience_s = patience_s
        self._moved_at = self.service.clock()
        self._until = self._moved_at + limit_s
        self._finishing.set()
        self._thread.join()
        self.check()
        return self.spool.waiting == 0

    def end(self) -> None:
        """Ends the thread at once."""
        self._until = 0.0
        self._finishing.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raises what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    @property
    def idle_s(self) -> float:
        """How long nothing arrived."""
        return self.service.clock() - self._moved_at

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised again on the thread that asks
            self._failure = error

    def _run(self) -> None:
        tries = 0
        while not self._is_over():
            bus = self.connect()
            try:
                if bus.connect():
                    self._say_connected()
                    tries = 0
                    self._ship(bus)
                    return
                raise BusAway("no broker answers")
            except BusError as error:
                self.service.metrics.add("kafka_retries")
                self._say_trouble(str(error))
            finally:
                self.is_connected = False
                bus.close()
                self.spool.take_back()
            self._pause(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    def _ship(self, bus: Bus) -> None:
        """Until the end, or BusError."""
        while not self._is_over():
            taken = self.spool.take(TAKE_BYTES)
            for number, parcel in taken:
                on_ack = partial(self._arrived, number, parcel)
                while not bus.offer(parcel.topic, parcel.key, parcel.value, parcel.headers, None, on_ack):
                    bus.serve(0.1)
                    self._look()
                    if self._is_over():
                        return
            bus.serve(0.0 if taken else IDLE_S)
            self._look()

    def _arrived(self, number: int, parcel: Parcel, partition: int, offset: int) -> None:
        self.spool.arrived(number)
        if number >= self.spool.first:
            self.sent += Quantity.of(parcel)
        else:
            self.carried += Quantity.of(parcel)
        self._moved_at = self.service.clock()
        if self.trouble:
            self._say_connected()
        count_sent(self.service.metrics, parcel, partition, offset)

    def _look(self) -> None:
        """The client sends again until a broker answers, and says nothing of it."""
        if not self.spool.waiting:
            self._waiting_since = None
            return
        now = self.service.clock()
        if self._waiting_since is None:
            self._waiting_since = now
        if now - max(self._waiting_since, self._moved_at) >= SILENT_S:
            self._say_trouble(f"no broker answered for {SILENT_S:.0f} s")

    def _is_over(self) -> bool:
        if not self._finishing.is_set():
            return False
        is_late = self.idle_s > self._patience_s or self.service.clock() >= self._until
        return is_late or self.spool.waiting == 0

    def _pause(self, seconds: float) -> None:
        until = self.service.clock() + seconds
        while self.service.clock() < until and not self._is_over():
            self._nothing.wait(0.1)

    def _say_connected(self) -> None:
        self.is_connected = True
        self.service.metrics.set("is_connected", 1)
        if self.trouble:
            self.service.log.info("kafka_back", spooled_messages=self.spool.waiting)
        self.trouble = ""
        self._moved_at = self.service.clock()

    def _say_trouble(self, what: str) -> None:
        self.is_connected = False
        self.service.metrics.set("is_connected", 0)
        if what != self.trouble:
            self.service.log.warning("kafka_away", why=what, spool=str(self.spool.folder), hint="rows go to the spool")
        self.trouble = what


def count_sent(metrics: Metrics, parcel: Parcel, partition: int, offset: int) -> None:
    """A message has arrived, wherever: for `on_ack` of a producer."""
    metrics.add("sent_messages", topic=parcel.topic)
    metrics.add("sent_rows", parcel.rows, topic=parcel.topic)
    metrics.add("sent_bytes", parcel.bytes, topic=parcel.topic)
