"""One piece of grow-only sums: open while states come, packed once they come elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress.cells import DAY_US, HOUR_US
from egress.packing import pack, unpack
from egress.schema import Table

ROWS_TOGETHER = 20_000
"""Rows saved under one key: below the 1 MB that brokers allow, measured 15 to 40 B a row."""
MOST_PIECE_BYTES = 64 << 20
"""Decompressed; far above what so many rows take."""
PARTS_BEFORE_JOINING = 32
OPEN_US = DAY_US
"""So much time, that something came of last, lies open: packed it takes a tenth of the memory, and 1 ms to open."""


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

    @property
    def open_spans(self) -> int:
        return OPEN_US // self.span_us + 1


@dataclass
class Piece:
    """States of one span and task, joined when there are many or when somebody asks."""

    cut: Cut
    is_saved: bool = False
    _packed: list[bytes] = field(default_factory=list)
    """One state as it is saved under its keys, where it is not open."""
    _open: pl.DataFrame | None = None
    _fresh: list[pl.DataFrame] = field(default_factory=list)
    """What came since, as it came."""

    def take(self, state: pl.DataFrame) -> None:
        self.is_saved = False
        self._fresh.append(state)
        if len(self._fresh) >= PARTS_BEFORE_JOINING:
            self.rows()

    def restore(self, number: int, saved: bytes, state: pl.DataFrame) -> None:
        """What was saved under one of its keys, as it was and unpacked."""
        is_whole = number == 0 and state.height < ROWS_TOGETHER
        if is_whole and self._open is None and not self._packed and not self._fresh:
            self._packed, self.is_saved = [saved], True
        else:
            self.take(state)  # it may be of another moment than the rest

    def rows(self) -> pl.DataFrame:
        """All of it, each key once."""
        if self._fresh:
            self._open, self._packed, self._fresh = self.cut.join([self._known(), *self._fresh]), [], []
        return self._known()

    def rest(self) -> None:
        """Nothing comes for now."""
        # What was compressed lies in room for the whole, of which the C library gives nothing back: four times as much.
        self._packed = [bytes(memoryview(saved)) for saved in self.saved()]
        self._open, self._fresh = None, []

    def saved(self) -> list[bytes]:
        """What to keep under each of its keys, by number.

        Rows move to higher numbers when others come before them: who writes the highest first loses none on the way.
        """
        if self._packed and not self._fresh:
            return self._packed
        rows = self.rows()
        rows = rows if rows.height <= ROWS_TOGETHER else rows.sort(self.cut.key)
        starts = range(0, rows.height, ROWS_TOGETHER)
        return [pack(rows[start : start + ROWS_TOGETHER], self.cut.table) for start in starts]

    def _known(self) -> pl.DataFrame:
        if self._open is not None:
            return self._open
        parts = [unpack(saved, self.cut.table, MOST_PIECE_BYTES) for saved in self._packed]
        return pl.concat([self.cut.table.empty(), *parts])
