"""What is kept of flows: sums under two laws, so that batches, order, restarts and duplicates leave no trace.

Sums of disjoint rows **add** up. States of the same rows, some of which have seen more of them than others, **join** by
the larger count. Both laws are associative and commutative, joining is idempotent too. Everything that Egress concludes
is a pure function of these frames, of heartbeats and of what the site declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from egress import cardbytes, cells, conversations, heartbeats, portions, signals
from egress.cells import DAY_US, MINUTE_US
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.schema import CELLS, Table
from egress.sightings import Sightings, sightings
from egress.vantage import dated
from egress.windows import WINDOW_US

PARTS_BEFORE_ADDING = 32
"""Partial sums held before they are added up: adding costs a sort, holding costs memory."""

OPEN_ROWS = 250_000
"""Partial sums held as they are, 35 MB of each kind; packing costs a tenth of summing."""

Law = Callable[[Sequence[pl.DataFrame]], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to sum flows. Every kind is keyed by `host` and `sensor` among others, and by a time of its own."""

    table: Table
    seen: Callable[[Sightings, Inventory], pl.DataFrame]
    """Sums of what was seen, in any order."""
    add: Law
    join: Law
    key: tuple[str, ...]
    time: str
    """The column of the key, a time on the UTC grid, by which sums age."""
    span_us: int
    """A row that begins at t adds to no sum whose time is `t - span_us` or earlier."""

    @property
    def name(self) -> str:
        return self.table.name

    def of(self, flows: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
        """Sums of attributed FLOWS about watched hosts, in any order."""
        return self.seen(sightings(flows), inventory)


def _cells(seen: Sightings, _: Inventory) -> pl.DataFrame:
    return cells.partial(seen)


def _conversations(seen: Sightings, _: Inventory) -> pl.DataFrame:
    return conversations.partial(seen)


KINDS = (
    Kind(CELLS, _cells, cells.add, cells.join, cells.KEY, "minute", MINUTE_US),
    Kind(signals.SIGNALS, signals.partial, signals.add, signals.join, signals.KEY, "window_start", WINDOW_US),
    Kind(
        conversations.CONVERSATIONS,
        _conversations,
        conversations.add,
        conversations.join,
        conversations.KEY,
        "day",
        DAY_US,
    ),
    Kind(
        cardbytes.ON_CARDS, cardbytes.partial, cardbytes.add, cardbytes.join, tuple(cardbytes.KEY), "begin", MINUTE_US
    ),
)


def of_each_kind(seen: Sightings, inventory: Inventory) -> Iterator[tuple[Kind, pl.DataFrame]]:
    """Every kind's sums of what was seen."""
    for kind in KINDS:
        yield kind, kind.seen(seen, inventory)


@dataclass
class Sums:
    """Partial sums under one law, which must be associative and commutative."""

    law: Law
    by: str
    """The first column of the key."""
    open_rows: int | None = None
    """Of more, what was added up lies packed until the total is asked for; None: never."""
    parts: list[pl.DataFrame] = field(default_factory=list)
    is_total: bool = False
    """True: the parts, or what is packed, are the sum of all, in order."""
    _packed: list[portions.Packed] = field(default_factory=list)

    def append(self, part: pl.DataFrame) -> None:
        self.parts.append(part)
        self.is_total = False
        if self.open_rows is not None and sum(part.height for part in self.parts) > self.open_rows:
            self._packed.append(portions.packed(self.law(self.parts)))
            self.parts = []
        elif len(self.parts) >= PARTS_BEFORE_ADDING:
            self.parts = [self.law(self.parts)]

    def total(self) -> pl.DataFrame:
        """A large one belongs to the caller alone, and is made anew when it is asked for again."""
        return pl.concat(self.pieces())

    def pieces(self) -> Iterator[pl.DataFrame]:
        """The total, in order."""
        if not self.is_total:
            self._add()
        yield from self.parts or (piece.opened() for piece in self._packed)

    def _add(self) -> None:
        if self._packed:
            every: list[portions.Part] = [*self._packed, *self.parts]
            self._packed, self.parts = [], []
            self._packed = [portions.packed(piece) for piece in portions.added(self.law, every, self.by)]
        else:
            self.parts = [self.law(self.parts)]
        self.is_total = True


class Seen(Protocol):
    """All that was seen: what there is to judge. What is asked for late may be added up late.

    Signals are in canonical order; of the other sums, each key once, nothing rests on their order.
    """

    @property
    def cells(self) -> pl.DataFrame: ...
    @property
    def signals(self) -> pl.DataFrame: ...
    @property
    def conversations(self) -> pl.DataFrame: ...
    @property
    def on_cards(self) -> pl.DataFrame: ...
    @property
    def heartbeats(self) -> pl.DataFrame: ...
    @property
    def watermark(self) -> int:
        """The time that the cells have reached (`vantage.Dated`)."""


@dataclass(frozen=True, slots=True)
class State:
    """What was seen as it is at one time."""

    cells: pl.DataFrame
    signals: pl.DataFrame
    conversations: pl.DataFrame
    on_cards: pl.DataFrame
    heartbeats: pl.DataFrame = field(default_factory=HEARTBEATS.empty)

    @property
    def watermark(self) -> int:
        return dated(self.cells).watermark


class Totals:
    """Every kind of sum, and heartbeats, under one of the two laws: added up when they are asked for."""

    def __init__(self, laws: Callable[[Kind], Law]) -> None:
        self._sums = {kind.name: Sums(laws(kind), kind.key[0], OPEN_ROWS) for kind in KINDS}
        self._heartbeats = Sums(heartbeats.add, "host")

    def append(self, kind: str, part: pl.DataFrame) -> None:
        """Raises KeyError for a kind that is none of `KINDS`."""
        self._sums[kind].append(part)

    def append_heartbeats(self, frame: pl.DataFrame) -> None:
        self._heartbeats.append(frame)

    def pieces_of_cells(self) -> Iterator[pl.DataFrame]:
        return self._sums["cells"].pieces()

    @property
    def cells(self) -> pl.DataFrame:
        return self._sums["cells"].total()

    @property
    def signals(self) -> pl.DataFrame:
        return self._sums["signals"].total()

    @property
    def conversations(self) -> pl.DataFrame:
        return self._sums["conversations"].total()

    @property
    def on_cards(self) -> pl.DataFrame:
        return self._sums["on_cards"].total()

    @property
    def heartbeats(self) -> pl.DataFrame:
        return self._heartbeats.total()

    @property
    def watermark(self) -> int:
        return dated(self.cells).watermark

    def state(self) -> State:
        return State(self.cells, self.signals, self.conversations, self.on_cards, self.heartbeats)
