"""Grow-only sums kept in pieces of time and task: what comes touches few of them, and only those are saved again.

Pieces join, so it does not matter in which order, how often, or from which moment of a run they are put together.
Sums of two tasks add up (`publications`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress import arrivals, heartbeats, sums
from egress.arrivals import SENSORS
from egress.cells import DAY_US, HOUR_US
from egress.heartbeats import HEARTBEATS
from egress.packing import pack, unpack
from egress.schema import Table

ROWS_IN_A_PIECE = 20_000
"""Rows saved under one key: below the 1 MB that brokers allow, measured 15 to 40 B a row."""
MOST_PIECE_BYTES = 64 << 20
"""Decompressed; far above what so many rows take."""
PARTS_BEFORE_JOINING = 32

Saved = tuple[str, bytes]
"""A key and what stands under it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How one kind of sum is cut into pieces, and the law under which they join."""

    table: Table
    join: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
    add: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
    key: tuple[str, ...]
    """The canonical order; each key stands once."""
    time: str = ""
    """A column of the key; empty: all of it is one piece."""
    span_us: int = HOUR_US

    @property
    def is_ordered(self) -> bool:
        """Of the others nothing rests on the order, and sorting a million cells takes 2 s."""
        return self.key[0] == self.time


def of_kind(kind: sums.Kind) -> Cut:
    return Cut(kind.table, kind.join, kind.add, kind.key, kind.time, DAY_US if kind.span_us >= DAY_US else HOUR_US)


CUTS = (
    *map(of_kind, sums.KINDS),
    Cut(HEARTBEATS, heartbeats.add, heartbeats.add, heartbeats.KEY, "time"),
    Cut(SENSORS, arrivals.join, arrivals.add, arrivals.KEY),
)


@dataclass
class _Piece:
    """States of one span and task, joined when there are many or when somebody asks."""

    joined: pl.DataFrame
    fresh: list[pl.DataFrame] = field(default_factory=list)
    """What came since, as it came."""
    is_saved: bool = False


class Pieces:
    """Sums of one kind, by spans of time and by who summed."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._pieces: dict[int, dict[int, _Piece]] = {}
        """By span, then by task."""
        self._spans: dict[int, pl.DataFrame] = {}
        """Sums over all tasks, of spans that did not change since they were asked for."""
        self._total: pl.DataFrame | None = cut.table.empty()

    def join(self, frame: pl.DataFrame, task: int = 0) -> None:
        """Takes states of any sums of this kind, as often as they come."""
        if frame.is_empty():
            return
        self._total = None
        for span, part in self._by_span(frame):
            self._spans.pop(span, None)
            piece = self._pieces.setdefault(span, {}).setdefault(task, _Piece(self.cut.table.empty()))
            piece.fresh.append(part)
            piece.is_saved = False
            if len(piece.fresh) >= PARTS_BEFORE_JOINING:
                self._joined(piece)

    def total(self) -> pl.DataFrame:
        """All of them, each key once, span by span; in canonical order where that begins with time."""
        if self._total is None:
            self._total = pl.concat([self._of_all_tasks(span) for span in sorted(self._pieces)])
        return self._total

    def by_task(self) -> list[pl.DataFrame]:
        """What each task knows, in order of their numbers."""
        tasks = sorted({task for pieces in self._pieces.values() for task in pieces})
        return [
            pl.concat([self._joined(pieces[task]) for _, pieces in sorted(self._pieces.items()) if task in pieces])
            for task in tasks
        ]

    def changed(self) -> Iterator[Saved]:
        """Pieces that changed since they were asked for last, by key; what a key stood for is replaced."""
        for span, task in sorted((span, task) for span, pieces in self._pieces.items() for task in pieces):
            piece = self._pieces[span][task]
            if piece.is_saved:
                continue
            frame = self._joined(piece)
            for number, start in enumerate(range(0, frame.height, ROWS_IN_A_PIECE)):
                rows = frame[start : start + ROWS_IN_A_PIECE]
                yield f"{self.cut.table.name}/{task}/{span}/{number}", pack(rows, self.cut.table)
            piece.is_saved = True

    def restore(self, key: str, saved: bytes) -> None:
        """One piece, of whatever span. Raises WireError for bytes that are none, ValueError for a key that is none."""
        _, task, _, _ = key.split("/")
        self.join(unpack(saved, self.cut.table, MOST_PIECE_BYTES), int(task))

    def _by_span(self, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        if not self.cut.time:
            yield 0, frame
            return
        span = pl.col(self.cut.time).cast(pl.Int64) // self.cut.span_us
        for (number,), part in frame.group_by(span.alias("span"), maintain_order=True):
            yield int(number), part

    def _of_all_tasks(self, span: int) -> pl.DataFrame:
        """Each key once. Only hosts whose partition changed are known to more than one task."""
        if span not in self._spans:
            states = [self._joined(piece) for _, piece in sorted(self._pieces[span].items())]
            self._spans[span] = states[0] if len(states) == 1 else self._added(states)
        return self._spans[span]

    def _added(self, states: Sequence[pl.DataFrame]) -> pl.DataFrame:
        hosts = pl.concat([state["host"].unique() for state in states])
        is_shared = pl.col("host").is_in(hosts.filter(hosts.is_duplicated()).unique().implode())
        every = pl.concat(states)
        shared = every.filter(is_shared)
        whole = pl.concat([every.filter(~is_shared), self.cut.add([shared])]) if shared.height else every
        return whole.sort(self.cut.key) if self.cut.is_ordered else whole

    def _joined(self, piece: _Piece) -> pl.DataFrame:
        if piece.fresh:
            piece.joined, piece.fresh = self.cut.join([piece.joined, *piece.fresh]), []
        return piece.joined
