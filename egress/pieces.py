"""Grow-only sums kept in pieces of time: what comes touches few of them, and only those are saved again.

Pieces join, so it does not matter in which order, how often, or from which moment of a run they are put together.
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
    key: tuple[str, ...]
    """The canonical order, in which each key stands once."""
    time: str = ""
    """A column of the key; empty: all of it is one piece."""
    span_us: int = HOUR_US
    is_ordered: bool = True
    """False: nothing rests on the order, and sorting two million heartbeats takes 4 s."""


def of_kind(kind: sums.Kind) -> Cut:
    return Cut(kind.table, kind.join, kind.key, kind.time, DAY_US if kind.span_us >= DAY_US else HOUR_US)


CUTS = (
    *map(of_kind, sums.KINDS),
    Cut(HEARTBEATS, heartbeats.add, heartbeats.KEY, "time", is_ordered=False),
    Cut(SENSORS, arrivals.join, arrivals.KEY),
)


@dataclass
class _Piece:
    """States of one span, joined when there are many or when somebody asks."""

    joined: pl.DataFrame
    fresh: list[pl.DataFrame] = field(default_factory=list)
    """What came since, as it came."""
    is_saved: bool = False


class Pieces:
    """Sums of one kind, by spans of time."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._pieces: dict[int, _Piece] = {}
        self._total: pl.DataFrame | None = cut.table.empty()

    def join(self, frame: pl.DataFrame) -> None:
        """Takes states of any sums of this kind, as often as they come."""
        if frame.is_empty():
            return
        self._total = None
        for span, part in self._by_span(frame):
            piece = self._pieces.setdefault(span, _Piece(self.cut.table.empty()))
            piece.fresh.append(part)
            piece.is_saved = False
            if len(piece.fresh) >= PARTS_BEFORE_JOINING:
                self._joined(piece)

    def total(self) -> pl.DataFrame:
        """All of them, each key once; in canonical order unless nothing rests on it."""
        if self._total is None:
            every = pl.concat([self._joined(self._pieces[span]) for span in sorted(self._pieces)])
            is_in_order = self.cut.key[0] == self.cut.time or not self.cut.is_ordered
            self._total = every if is_in_order else every.sort(self.cut.key)
        return self._total

    def changed(self) -> Iterator[Saved]:
        """Pieces that changed since they were asked for last, by key; what a key stood for is replaced."""
        for span in sorted(self._pieces):
            piece = self._pieces[span]
            if piece.is_saved:
                continue
            frame = self._joined(piece)
            for number, start in enumerate(range(0, frame.height, ROWS_IN_A_PIECE)):
                rows = frame[start : start + ROWS_IN_A_PIECE]
                yield f"{self.cut.table.name}/{span}/{number}", pack(rows, self.cut.table)
            piece.is_saved = True

    def restore(self, saved: bytes) -> None:
        """One piece, of whatever span. Raises WireError for bytes that are none."""
        self.join(unpack(saved, self.cut.table, MOST_PIECE_BYTES))

    def _by_span(self, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        if not self.cut.time:
            yield 0, frame
            return
        span = pl.col(self.cut.time).cast(pl.Int64) // self.cut.span_us
        for (number,), part in frame.group_by(span.alias("span"), maintain_order=True):
            yield int(number), part

    def _joined(self, piece: _Piece) -> pl.DataFrame:
        if piece.fresh:
            piece.joined, piece.fresh = self.cut.join([piece.joined, *piece.fresh]), []
        return piece.joined
