"""From a source to the bus: rows are given their hosts, cut into messages, spooled, and sent as brokers take them.

Everything that is sent follows from the content of the inputs and from who is who: its epoch is named by them, and
messages are numbered as they are cut. To collect a file again, or to go on after a crash, is to send the same messages
again, which whoever reads them drops by number.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import polars as pl

from egress import __version__, growth, inputs, wire
from egress.config import Config
from egress.contracts import Batch, ReadSettings, Tally
from egress.errors import ServiceError, UsageError
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.parcels import FILE_SLICE_US, MESSAGE_ROWS, PACED_SLICE_US, SLICE_ROWS, Cutter, who_is_who
from egress.replay import unknown
from egress.schema import FLOWS, TIME
from egress.segments import Parcel, Quantity
from egress.service import Service
from egress.shipper import Bus, Shipper
from egress.spool import Spool
from egress.store import run_of

SENSOR = "replay"
"""What rows of a collector that has no name of its own carry."""
PATIENCE_S = 10.0
"""So long without a message that arrives, and what is left stays in the spool."""
STOP_S = 10.0
"""After a signal: what can be sent until then is."""
LONGEST_PAUSE_US = 3_600_000_000
"""Between two rows, when paced: a night without traffic, or one record from 2106, is not waited for."""
FULL_WAIT_S = 0.05

Watch = Callable[[Tally], bool]


@dataclass(frozen=True, slots=True)
class Request:
    """What to collect, as whom, and by way of which spool."""

    paths: tuple[Path, ...]
    config: Config
    spool: Path
    spool_bytes: int = 1 << 30
    sensor: str = SENSOR
    pace: float = 0.0
    """So many times faster than it happened; 0: as fast as it can be sent, waiting for room in the spool."""
    wait_for_kafka_s: float | None = None
    """None: what Kafka does not take stays in the spool; else so long without it is an error."""
    settings: ReadSettings = field(default_factory=ReadSettings)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of everything. In rows: rows == sent + waiting + shed + refused + known + held."""

    tally: Tally
    epoch: str
    rows: int
    """Once for each watched side, heartbeats and notices included."""
    sent: Quantity
    waiting: Quantity
    """Left in the spool."""
    shed: Quantity
    """Given up for lack of room."""
    refused: int
    """Rows that cannot travel."""
    known: Quantity
    """In the spool already, from a run that did not come to its end: not put there again."""
    held: int
    """Read, but not the whole stretch that they are sent with, because it was stopped: the next run sends them."""
    carried: Quantity
    """Sent beside: what the spool held from before."""
    trouble: str = ""
    was_interrupted: bool = False

    def summary(self, seconds: float) -> dict[str, object]:
        """The object that `--json` prints; `read == metered + sum(skipped)` and the law of rows hold exactly."""
        return {
            **self.tally.summary(),
            "epoch": self.epoch,
            "rows": self.rows,
            "sent": asdict(self.sent),
            "waiting": asdict(self.waiting),
            "shed": asdict(self.shed),
            "refused": {"rows": self.refused},
            "known": asdict(self.known),
            "held": {"rows": self.held},
            "carried": asdict(self.carried),
            "kafka": self.trouble or "well",
            "interrupted": self.was_interrupted,
            "seconds": round(seconds, 3),
        }

    def sentence(self, spool: Path) -> str:
        """What became of the rows, for a person."""
        parts = [f"{self.sent.rows:,} of {self.rows:,} rows sent in {self.sent.messages:,} messages"]
        if self.carried.messages:
            parts.append(f"{self.carried.rows:,} that the spool held from before")
        if self.waiting.messages:
            why = f" ({self.trouble})" if self.trouble else ""
            parts.append(f"{self.waiting.rows:,} wait in {spool}{why}: collecting anything with it sends them")
        if self.shed.messages:
            parts.append(f"{self.shed.rows:,} given up for lack of room; to collect the same again sends them")
        if self.refused:
            parts.append(f"{self.refused:,} cannot be sent")
        return "; ".join(parts)


def collect(
    request: Request, connect: Callable[[], Bus], service: Service, watch: Watch = lambda tally: True
) -> Outcome:
    """Reads everything, and returns when it was sent or must stay in the spool. `service.stop` ends it early.

    Raises InputError where an input is not there, StoreError where the spool cannot be used, ServiceError where Kafka
    is away for longer than was asked for.
    """
    request = replace(request, paths=_in_order(request.paths))
    spool = Spool(request.spool, request.spool_bytes)
    shipper = Shipper(spool, connect, service)
    try:
        run = _Run(request, spool, shipper, service)
        shipper.start()
        return run.run(watch)
    finally:
        shipper.end()
        spool.close()


def digest_of(request: Request) -> str:
    """What names its epoch, beside its first row: of other content, another inventory or other rules of cutting."""
    rules = (
        *(__version__, "named after its first row"),
        *(wire.FLOWS_V1, wire.HEARTBEATS_V1, _slice_us(request), SLICE_ROWS, MESSAGE_ROWS),
        *(request.sensor, request.settings.is_disjoint, request.settings.max_flows, request.settings.idle_timeout_s),
        *who_is_who(request.config),
    )
    return hashlib.sha256(f"{run_of(request.paths)} {rules!r}".encode()).hexdigest()[:16]


def _slice_us(request: Request) -> int:
    return PACED_SLICE_US if request.pace else FILE_SLICE_US


class _Run:
    """One collection while it goes on."""

    def __init__(self, request: Request, spool: Spool, shipper: Shipper, service: Service) -> None:
        self._request = request
        self._spool = spool
        self._shipper = shipper
        self._service = service
        self._digest = digest_of(request)
        self._epoch = ""
        """Named once there is a row."""
        self._inventory = Inventory(request.config)
        slice_us = _slice_us(request)
        self._flows = Cutter("flows", wire.FLOWS_V1, request.sensor, self._epoch, "start", slice_us)
        self._beats = Cutter("heartbeats", wire.HEARTBEATS_V1, request.sensor, self._epoch, "time", slice_us)
        self._notices = Cutter("heartbeats", wire.HEARTBEATS_V1, request.sensor, f"{self._digest}-shed", "time")
        self._left = spool.numbers_of(self._digest)
        self._known = Quantity()
        self._tally = Tally()
        self._rows = 0
        self._shed_rows = 0
        self._nap = threading.Event()
        """Never set: what to sleep on when a stop has been asked for already."""
        self._began: tuple[float, int] | None = None
        """When the first row was sent, and its event time."""

    def run(self, watch: Watch) -> Outcome:
        is_whole = self._read(watch)
        if is_whole:
            self._put(self._flows, self._flows.rest())
            self._last_word()
            self._put(self._beats, self._beats.rest())
        self._finish(is_whole)
        return self._outcome(is_whole)

    def _read(self, watch: Watch) -> bool:
        for batch in _batches(self._request):
            self._tally += batch.tally
            if batch.heartbeats is not None:
                self._take(self._beats, batch.heartbeats)
            if batch.flows.height:
                self._take(self._flows, self._inventory.attribute(self._named(batch.flows)))
            if not watch(self._tally) or self._service.stop.is_set():
                return False
        return True

    def _named(self, flows: pl.DataFrame) -> pl.DataFrame:
        if self._request.sensor == SENSOR:
            return flows
        is_nameless = pl.col("sensor") == SENSOR
        return flows.with_columns(sensor=pl.when(is_nameless).then(pl.lit(self._request.sensor)).otherwise("sensor"))

    def _take(self, cutter: Cutter, rows: pl.DataFrame) -> None:
        if not self._epoch and rows.height:
            self._name(int(rows[cutter.time].to_physical()[0]))
        self._rows += rows.height
        self._service.metrics.add("read_rows", rows.height)
        self._put(cutter, cutter.cut(rows))

    def _name(self, begun_us: int) -> None:
        """By the first row: what it says of the time decides for ever where all of it goes."""
        self._epoch = self._flows.epoch = self._beats.epoch = growth.named(begun_us, self._digest)

    def _put(self, cutter: Cutter, parcels: Iterator[Parcel]) -> None:
        for parcel in parcels:
            self._shipper.check()
            if self._is_known(parcel):
                self._known += Quantity.of(parcel)
                continue
            if self._request.pace:
                self._wait_for_time(cutter.reached)
            else:
                self._wait_for_room(parcel)
            self._spool.append(parcel)
        self._show()

    def _is_known(self, parcel: Parcel) -> bool:
        """Whether an earlier run left this message in the spool: it goes from there."""
        if not self._left:
            return False
        header = wire.read_header(parcel.headers)
        return header.epoch == self._epoch and header.seq in self._left.get((parcel.topic, header.host), ())

    def _wait_for_room(self, parcel: Parcel) -> None:
        """A file can wait: nothing of it need be given up for lack of room, unless the disk itself has none."""
        while not self._spool.has_room(parcel.bytes) and self._spool.waiting and not self._service.stop.is_set():
            self._show()
            self._check_patience()
            self._service.wait(FULL_WAIT_S)

    def _wait_for_time(self, reached: int) -> None:
        now = self._service.clock()
        if self._began is None or reached - self._began[1] > LONGEST_PAUSE_US:
            self._began = (now, reached)
        due = self._began[0] + (reached - self._began[1]) / 1e6 / self._request.pace
        self._began = (max(now, due), reached)
        while (left := due - self._service.clock()) > 0 and not self._service.wait(min(left, 1.0)):
            self._shipper.check()
            self._check_patience()
            self._show()

    def _check_patience(self) -> None:
        allowed = self._request.wait_for_kafka_s
        if allowed is not None and not self._shipper.is_connected and self._shipper.idle_s > allowed:
            raise self._away(allowed)

    def _away(self, allowed: float) -> ServiceError:
        why = self._shipper.trouble or "nothing was acknowledged"
        left = f"what was read and not sent is in the spool {self._spool.folder}"
        return ServiceError(f"Kafka takes nothing for {allowed:g} s ({why}); {left}")

    def _last_word(self) -> None:
        """The source's last heartbeat: of no host, since nobody's network card was read."""
        if not self._flows.watermark:
            return
        seen = self._tally.metered.bytes
        row = {"time": self._flows.watermark, "host": "", "sensor": self._request.sensor, "epoch": self._epoch}
        skipped = sum(count.frames for count in self._tally.skipped.values())
        said = row | {"seq": 0, "seen_bytes": seen, "dropped_packets": skipped, "version": __version__}
        self._take(self._beats, _beats([said]))

    def _finish(self, is_whole: bool) -> None:
        allowed = self._request.wait_for_kafka_s
        patience = PATIENCE_S if allowed is None else allowed
        began = self._service.clock()
        until = float("inf") if is_whole else began + STOP_S
        while self._spool.waiting and (now := self._service.clock()) < until:
            if min(self._shipper.idle_s, now - began) > patience:
                break
            self._shipper.check()
            self._show()
            self._nap.wait(FULL_WAIT_S)
            if self._service.stop.is_set():
                until = min(until, self._service.clock() + STOP_S)
        left = max(0.0, until - self._service.clock())
        if self._spool.waiting:
            left = 0.0
        else:
            self._tell_losses()
        is_sent = self._shipper.finish(patience, left)
        if is_whole and not is_sent and allowed is not None:
            raise self._away(allowed)

    def _tell_losses(self) -> None:
        """What the spool gave up, now or in earlier runs, as heartbeats of the hosts that it was about.

        Told when the spool is empty: while it is full, telling would push out more.
        """
        told = self._spool.shed
        time = max(self._flows.watermark, self._beats.watermark)
        known: dict[str, object] = {"time": time, "spool_bytes": self._spool.held_bytes, "version": __version__}
        rows: list[dict[str, object]] = [
            known | {"host": stone.host, "sensor": stone.sensor, "epoch": stone.epoch, "shed_rows": stone.rows}
            for stone in told
            if stone.topic == self._flows.topic
        ]
        if rows:
            self._take(self._notices, _beats(rows))
            self._put(self._notices, self._notices.rest())
        self._spool.forget(told)

    def _show(self) -> None:
        metrics, lost = self._service.metrics, self._spool.lost.rows
        metrics.add("shed_rows", lost - self._shed_rows)
        self._shed_rows = lost
        metrics.set("spool_bytes", self._spool.held_bytes)
        metrics.set("spool_messages", self._spool.waiting)

    def _outcome(self, is_whole: bool) -> Outcome:
        refused = sum(self._flows.refused.values()) + sum(self._beats.refused.values())
        return Outcome(
            self._tally,
            self._epoch,
            self._rows,
            self._shipper.sent,
            self._spool.waiting_since(self._spool.first),
            self._spool.lost,
            refused,
            self._known,
            self._flows.held + self._beats.held,
            self._shipper.carried,
            self._shipper.trouble,
            was_interrupted=not is_whole,
        )


def _beats(rows: Sequence[dict[str, object]]) -> pl.DataFrame:
    """HEARTBEATS of what is known; the rest is unknown."""
    whole = [{column.name: row.get(column.name, column.default) for column in HEARTBEATS.columns} for row in rows]
    plain = {name: pl.Int64() if dtype == TIME else dtype for name, dtype in HEARTBEATS.polars.items()}
    return pl.DataFrame(whole, schema=plain).with_columns(pl.col("time").cast(TIME))


def _in_order(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Every file, in an order that follows from content, not from names."""
    if inputs.STDIN in paths:
        raise UsageError("standard input cannot be read again, so it cannot be collected; name a file")
    return tuple(sorted(inputs.expand(paths), key=lambda path: (run_of([path]), str(path))))


def _batches(request: Request) -> Iterator[Batch]:
    known = inputs.sort(request.paths)
    for path in known.unknown:
        yield Batch(FLOWS.empty(), unknown(path))
    for collector, paths in known.claimed:
        yield from collector.read(paths, request.settings)
