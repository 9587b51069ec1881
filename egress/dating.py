"""Cells by UTC days at credible times: what `vantage.dated` says of all, with only the days opened that changed.

A cell of a broken clock belongs to the day that it is moved to.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress.cells import DAY_US
from egress.days import Answers, Day
from egress.vantage import Clock, clock_of, minutes_of, moved


@dataclass(frozen=True, slots=True)
class DatedDays:
    """Days of cells, whose rows are those of `vantage.Dated`."""

    days: list[Day]
    """In order."""
    watermark: int
    """UTC microseconds of the last credible packet; 0 without cells."""


@dataclass
class Dating:
    """What was found out about the minutes of each day."""

    _minutes: Answers = field(default_factory=Answers)

    def of(self, days: Sequence[Day]) -> DatedDays:
        """The days of all cells, dated."""
        minutes = [found for (found,) in self._minutes.of(days, lambda cells: (minutes_of(cells),), None)]
        if not minutes:
            return DatedDays([], 0)
        clock = clock_of(pl.concat(minutes))
        moves = (
            _NO_MOVES
            if clock.moves is None
            else clock.moves.with_columns(source=pl.col("minute") // DAY_US, target=pl.col("moved_to") // DAY_US)
        )
        strays = moves.filter("is_misdated")
        amiss = {*strays["source"], *strays["target"]}
        calm = [_dated(day.number, day.version, [day], clock) for day in days if day.number not in amiss]
        put_right = [day for number in amiss for day in _put_right(number, days, moves, clock)]
        return DatedDays(sorted([*calm, *put_right], key=lambda day: day.number), clock.watermark)


_NO_MOVES = pl.DataFrame(
    schema={"is_misdated": pl.Boolean()} | dict.fromkeys(("minute", "moved_to", "source", "target"), pl.Int64())
)


def _put_right(number: int, days: Sequence[Day], moves: pl.DataFrame, clock: Clock) -> Iterator[Day]:
    """The day with what is moved to it, and without what is moved away; none if that leaves nothing."""
    sources = set(moves.filter(pl.col("target") == number)["source"])
    parts = [day for day in days if day.number in sources]
    if parts:
        version = (clock.first, clock.last, *((part.number, part.version) for part in parts))
        yield _dated(number, version, parts, clock)


def _dated(number: int, version: Hashable, parts: Sequence[Day], clock: Clock) -> Day:
    is_inside = pl.col("minute").cast(pl.Int64) // DAY_US == number

    def opened() -> pl.DataFrame:
        cells = moved(pl.concat([part.opened() for part in parts]), clock)
        return cells if clock.moves is None else cells.filter(is_inside)

    return Day(number, version, opened)
