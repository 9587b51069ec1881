"""Sums of one kind that may still grow, and which of them did."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from egress.sums import Kind, Sums

LOOKS_AGAIN = 1.25
"""What is closed is looked for when there is a quarter more than was left the last time: each sum is seen few times."""
FEW = 10_000


@dataclass
class Kept:
    """Absolute sums. `total` holds every key once, in no order."""

    kind: Kind
    total: pl.DataFrame = field(init=False)
    _new: Sums = field(init=False)
    _left: int = 0

    def __post_init__(self) -> None:
        self.total = self.kind.table.empty()
        self._new = Sums(self.kind.add, self.kind.key[0])

    def append(self, part: pl.DataFrame) -> None:
        """Takes sums of rows that were in no other part."""
        self._new.append(part)

    @property
    def has_changes(self) -> bool:
        return bool(self._new.parts)

    def take(self, closed: pl.DataFrame) -> pl.DataFrame:
        """The sums that changed, in canonical order; then forgets those behind `closed` (host, sensor, low, high)."""
        changed = self.merge()
        if self.total.height > max(FEW, LOOKS_AGAIN * self._left):
            self._forget(closed)
        return changed

    def merge(self) -> pl.DataFrame:
        """Adds what is new to the total; gives the sums that changed with it."""
        new = self._new.total()
        self._new = Sums(self.kind.add, self.kind.key[0])
        if new.is_empty():
            return new
        is_older = pl.col(self.kind.time) < new[self.kind.time].min()
        older, recent = self.total.filter(is_older), self.total.filter(~is_older)
        grown = recent.join(new.select(self.kind.key), on=self.kind.key, how="semi")
        same = recent.join(new.select(self.kind.key), on=self.kind.key, how="anti") if grown.height else recent
        changed = self.kind.add([grown, new]) if grown.height else new
        self.total = pl.concat([older, same, changed])
        return changed

    def _forget(self, closed: pl.DataFrame) -> None:
        time = pl.col(self.kind.time).cast(pl.Int64)
        is_over = (time >= pl.col("low")) & (time + self.kind.span_us <= pl.col("high"))
        places = self.total.lazy().select("host", "sensor", self.kind.time).with_row_index("row")
        over = places.join(closed.lazy(), on=["host", "sensor"]).filter(is_over).select("row").unique().collect()
        kept = pl.int_range(pl.len(), dtype=pl.UInt32).is_in(over["row"].implode()).not_()
        self.total = self.total.filter(kept)
        self._left = self.total.height
