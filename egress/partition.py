"""Sums of one partition's log of flows: a fold that gives the same however it was cut, stopped and begun again.

Each message counts once, rows count where `eventtime` places them, and sums are kept as absolute values until no row
can add to them any more. What is handed on are absolute values too, never differences: whoever holds an older state of
the same log says less, not other things, so states join by the larger count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from egress import arrivals
from egress.arrivals import MOST_EPOCHS, SENSORS, Epoch
from egress.eventtime import Clock, Longs, Placed
from egress.inventory import Inventory
from egress.kept import Kept
from egress.schema import TIME
from egress.sightings import Gathering
from egress.sums import KINDS, of_each_kind
from egress.wire import Header

ROWS_AT_ONCE = 50_000
"""Rows that are looked at together: a message alone costs ten times as much a row."""

TABLES = {table.name: table for table in (*(kind.table for kind in KINDS), SENSORS)}
"""What a task hands on."""
MOST_SUMS_BYTES = 64 << 20
"""Decompressed, of one message of sums: far above what 900 kB of them take."""

Stream = tuple[str, str]
"""A watched host, and `collector/sensor` as sums have it."""
Source = tuple[str, str]
"""A host and a sensor, as headers have it."""


@dataclass
class PartitionTask:
    """State of one partition after the messages up to `next_offset`. Knows no bus and no clock on the wall."""

    inventory: Inventory
    late_after: int
    """How far a row may lie behind the time of its stream, in microseconds."""
    next_offset: int = 0
    clocks: dict[Stream, Clock] = field(default_factory=dict)
    epochs: dict[Source, dict[str, Epoch]] = field(default_factory=dict)
    """By the order in which they were last heard of."""
    kept: Mapping[str, Kept] = field(default_factory=lambda: {kind.name: Kept(kind) for kind in KINDS})
    _touched: set[tuple[Source, str]] = field(default_factory=set)
    _left: list[pl.DataFrame] = field(default_factory=list)
    """Epochs that were forgotten since the last taking."""
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _waiting_rows: int = 0
    _gathering: Gathering = field(default_factory=Gathering)

    def feed(self, header: Header, flows: pl.DataFrame, offset: int) -> bool:
        """Takes the next message: FLOWS with `host` and `side`, all about `header.host`. Offsets only rise.

        False: it came before, and counts no more.
        """
        if offset < self.next_offset:
            return False
        self.next_offset = offset + 1
        start = _microseconds(flows["start"])
        epoch = self._epoch(header)
        if not epoch.admits(header.seq, offset, int(start.min()) if flows.height else 0):
            return False
        if flows.is_empty() or not header.host:
            epoch.count(flows.height, None)
            return True
        for stream, rows in _streams(header.host, flows):
            placed = self._clock(stream).place(_microseconds(rows["start"]), _microseconds(rows["end"]))
            epoch.count(rows.height, placed)
            self._gather(_moved(rows, placed))
        return True

    def skip(self, offset: int) -> None:
        """Goes past a message that cannot be used."""
        self.next_offset = max(self.next_offset, offset + 1)

    def take_changes(self) -> dict[str, pl.DataFrame]:
        """Absolute values, by kind, of all that changed since they were last taken; kinds without change are absent.

        What can change no more is forgotten with that: the caller sees to it that what it took arrives.
        """
        self.sum_waiting()
        closed = _closed(self.clocks)
        taken = {name: kept.take(closed) for name, kept in self.kept.items()}
        taken[SENSORS.name] = self._take_sensors()
        return {name: frame for name, frame in taken.items() if frame.height}

    def sum_waiting(self) -> None:
        """Sums what was fed; done by itself often enough."""
        self._look()
        if self._gathering.height:
            for kind, part in of_each_kind(self._gathering.give(), self.inventory):
                self.kept[kind.name].append(part)

    @property
    def has_changes(self) -> bool:
        return bool(
            self._waiting
            or self._gathering.height
            or self._touched
            or self._left
            or any(kept.has_changes for kept in self.kept.values())
        )

    def _epoch(self, header: Header) -> Epoch:
        source = (header.host, header.sensor)
        epochs = self.epochs.setdefault(source, {})
        epoch = epochs.pop(header.epoch, None) or Epoch(header.boot)
        epochs[header.epoch] = epoch
        self._touched.add((source, header.epoch))
        if len(epochs) > MOST_EPOCHS:
            oldest = next(iter(epochs))
            self._left.append(sensor_rows([(source, oldest, epochs.pop(oldest))]))
            self._touched.discard((source, oldest))
        return epoch

    def _clock(self, stream: Stream) -> Clock:
        clock = self.clocks.get(stream)
        if clock is None:
            clock = self.clocks[stream] = Clock(self.late_after)
        return clock

    def _gather(self, rows: pl.DataFrame) -> None:
        self._waiting.append(rows)
        self._waiting_rows += rows.height
        if self._waiting_rows >= ROWS_AT_ONCE:
            self._look()
        if self._gathering.is_full:
            self.sum_waiting()

    def _look(self) -> None:
        if self._waiting:
            self._gathering.take_attributed(pl.concat(self._waiting))  # in one piece they would take a gigabyte more
            self._waiting, self._waiting_rows = [], 0

    def _take_sensors(self) -> pl.DataFrame:
        changed = [(source, name, self.epochs[source][name]) for source, name in self._touched]
        taken = arrivals.join([*self._left, sensor_rows(changed)])
        self._touched, self._left = set(), []
        return taken


def _streams(host: str, flows: pl.DataFrame) -> list[tuple[Stream, pl.DataFrame]]:
    """A message's rows by what saw them: nearly always one."""
    collector, sensor = flows["collector"], flows["sensor"]
    if (collector == collector[0]).all() and (sensor == sensor[0]).all():
        return [((host, f"{collector[0]}/{sensor[0]}"), flows)]
    parts = flows.partition_by(["collector", "sensor"], maintain_order=True, as_dict=True)
    return [((host, f"{by}/{which}"), part) for (by, which), part in parts.items()]


def _moved(rows: pl.DataFrame, placed: Placed) -> pl.DataFrame:
    if not placed.is_moved:
        return rows
    times = (pl.Series("start", placed.start).cast(TIME), pl.Series("end", placed.end).cast(TIME))
    return rows.with_columns(times)


def _microseconds(times: pl.Series) -> Longs:
    found: Longs = times.to_numpy().view(np.int64)  # Polars' own way takes 80 times as long, once a message
    return found


def _closed(clocks: Mapping[Stream, Clock]) -> pl.DataFrame:
    """host, sensor, low, high: where nothing will be charged any more."""
    rows = [
        (host, sensor, low, high)
        for (host, sensor), clock in clocks.items()
        for low, high in clock.intervals()
        if low < high
    ]
    schema = {"host": pl.String(), "sensor": pl.String(), "low": pl.Int64(), "high": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def sensor_rows(epochs: Sequence[tuple[Source, str, Epoch]]) -> pl.DataFrame:
    """Columns of SENSORS, in the order of `epochs`."""
    rows = [(*source, epoch.boot, name, *epoch.row()) for source, name, epoch in epochs]
    plain = {name: pl.Int64() if dtype == TIME else dtype for name, dtype in SENSORS.polars.items()}
    frame = pl.DataFrame(rows, schema=plain, orient="row")
    return frame.with_columns(pl.col("first", "last").cast(TIME))
