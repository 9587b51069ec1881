"""What steps of a judgement said of the parts of a state, so that a state that grew a little costs a little.

A memo, not a truth: what it gives is exactly what the step gives when it is asked about everything, whatever it was
asked before. Parts are compared by what they hold, never by where they came from, so that late rows, clocks that are
put right and merged partitions need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import polars as pl

from egress.cells import DAY_US, HOUR_US

UNCHANGED = 2**63 - 1
"""Later than any time."""

KEPT = 2
"""States of folds are kept of so many full hours and as many midnights, the latest: what comes is almost in order."""

Frames = tuple[pl.DataFrame, ...]
Step = Callable[[pl.DataFrame], Frames]


@dataclass
class Days:
    """Answers of a step about UTC days, each of which follows from the rows of its day alone."""

    asked: int = 0
    """Days that the step was asked about, each time that it was."""
    _known: dict[int, tuple[pl.DataFrame, Frames]] = field(default_factory=dict)
    """By day, its rows and the answer."""
    _rests_on: object = None

    def answers(self, rows: pl.DataFrame, step: Step, rests_on: object) -> list[Frames]:
        """What `step` gives for each day of `rows`, which have a time `minute`, in order of days.

        `rests_on` is what else the answers follow from: where it is another object, every day is asked about again.
        """
        if self._rests_on is not rests_on:
            self._known, self._rests_on = {}, rests_on
        day = (pl.col("minute").cast(pl.Int64) // DAY_US).alias("day")
        parts = rows.group_by(day, maintain_order=True)
        self._known = {int(number): self._answer(int(number), part, step) for (number,), part in parts}
        return [answer for _, (_, answer) in sorted(self._known.items())]

    def _answer(self, day: int, part: pl.DataFrame, step: Step) -> tuple[pl.DataFrame, Frames]:
        known = self._known.get(day)
        if known is not None and known[0].equals(part):
            return known
        self.asked += 1
        return part, step(part)


def borders_before(last: int) -> tuple[int, int]:
    """A midnight and a full hour before `last` at which a state is worth its room: what is late is hardly later."""
    return (last // DAY_US - 1) * DAY_US, (last // HOUR_US - 1) * HOUR_US


def borders_kept(borders: Collection[int]) -> set[int]:
    """Of several times of states those worth their room."""
    ordered = sorted(borders)
    midnights = [border for border in ordered if border % DAY_US == 0]
    return {*ordered[-KEPT:], *midnights[-KEPT:]}


def first_change(before: pl.DataFrame, after: pl.DataFrame, time: str) -> int:
    """The first `time` at which two frames of the same columns, both in order of it, are not the same."""
    rows = min(before.height, after.height)
    for name in after.columns:
        differs = before[name][:rows].ne_missing(after[name][:rows])
        first = differs.arg_max()
        if first is not None and differs[first]:
            rows = first
    starts = [int(frame[time].cast(pl.Int64)[rows]) for frame in (before, after) if frame.height > rows]
    return min(starts, default=UNCHANGED)
