"""From where a fold over time has to go on, so that a state that grew a little costs a little.

Memos, not truths: rows are compared by what they hold, never by where they came from, so that late rows, clocks that
are put right and merged partitions need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from egress.cells import DAY_US, HOUR_US

UNCHANGED = 2**63 - 1
"""Later than any time."""

KEPT = 2
"""States of folds are kept of so many full hours and as many midnights, the latest: what comes is almost in order."""


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
