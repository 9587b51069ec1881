"""Episodes: from the moment that a window rises to a level until 24 hours without growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import polars as pl

from egress.cells import DAY_US
from egress.contracts import Level
from egress.levels import NAMES, Longs, Rise, Series

LONGEST_IN_64_BITS_US = 3_000_000_000
"""Its square still fits; pieces of minutes are shorter, pieces of hours are not."""

QUIET_US = DAY_US
"""An episode closes after this long without growth."""


@dataclass(frozen=True, slots=True)
class Charged:
    """One model's charges to one subject: their sums by minute, and the pieces that they are made of."""

    series: Series
    charges: pl.DataFrame
    """`minute first last bytes` and where they went, sorted by minute."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of growth in which at least one window rose. Times are UTC microseconds."""

    subject: str
    level: Level
    window: str
    start: int
    last_seen: int
    minutes: tuple[int, int]
    """First and last minute, both included."""
    level_times: Mapping[Level, int]
    rises: tuple[Rise, ...]
    is_closed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class _Growth:
    """Minutes in which a subject was charged anything, with the first and last packet of each."""

    minutes: Longs
    first: Longs
    last: Longs
    ends: Longs
    """For each minute, the index of the last one before 24 quiet hours."""


@dataclass
class _Open:
    start: int
    end: int
    rises: list[Rise] = field(default_factory=list)


def episodes_of(subject: str, charged: Sequence[Charged], rises: Sequence[Rise], watermark: int) -> list[Episode]:
    """The subject's episodes in time order, over all its models together; `rises` in any order."""
    if not rises:
        return []
    growth = _growth(charged)
    stretches = _stretches(sorted(rises, key=_order), growth)
    return [_episode(subject, each, growth, charged, watermark) for each in stretches]


def _order(rise: Rise) -> tuple[int, int, int, str]:
    """In time; within a minute the worst first, explained by the shortest window."""
    return rise.minute, -rise.level, NAMES.index(rise.window), rise.model.id


def _growth(charged: Sequence[Charged]) -> _Growth:
    times = pl.concat([each.charges.select("minute", "first", "last") for each in charged])
    by_minute = times.group_by("minute").agg(pl.col("first").min(), pl.col("last").max()).sort("minute")
    minutes, first, last = (by_minute[name].to_numpy() for name in ("minute", "first", "last"))
    last = np.maximum.accumulate(last)
    is_end = np.append(first[1:] - last[:-1] >= QUIET_US, True)
    ends = np.flatnonzero(is_end)
    return _Growth(minutes, first, last, ends[np.searchsorted(ends, np.arange(len(minutes)))])


def _stretches(every: Sequence[Rise], growth: _Growth) -> list[_Open]:
    """Rises gathered into the stretches of growth that they fall into."""
    found: list[_Open] = []
    for rise in every:
        place = int(np.searchsorted(growth.minutes, rise.minute))
        if not found or place > found[-1].end:
            after_last = found[-1].end + 1 if found else 0
            start = max(after_last, int(np.searchsorted(growth.minutes, rise.since)))
            found.append(_Open(start, int(growth.ends[place])))
        found[-1].rises.append(rise)
    return found


def _episode(subject: str, stretch: _Open, growth: _Growth, charged: Sequence[Charged], watermark: int) -> Episode:
    worst = min(stretch.rises, key=lambda rise: (-rise.level, NAMES.index(rise.window), rise.minute))
    last_seen = int(growth.last[stretch.end])
    return Episode(
        subject,
        worst.level,
        worst.window,
        int(growth.first[stretch.start]),
        last_seen,
        (int(growth.minutes[stretch.start]), int(growth.minutes[stretch.end])),
        _level_times(stretch.rises, charged),
        tuple(stretch.rises),
        watermark - last_seen >= QUIET_US,
        len({rise.minute for rise in stretch.rises}),
    )


def _level_times(found: Sequence[Rise], charged: Sequence[Charged]) -> dict[Level, int]:
    charges = {each.series.model.id: (each.charges, each.charges["minute"].to_numpy()) for each in charged}

    @cache
    def moment(model: str, minute: int, needed: int) -> int:
        rows, minutes = charges[model]
        begin, end = (int(np.searchsorted(minutes, minute, side)) for side in ("left", "right"))
        return moment_of(rows[begin:end], needed)

    times: dict[Level, int] = {}
    for rise in found:
        for level, needed in rise.crossings:
            reached = moment(rise.model.id, rise.minute, needed)  # several windows often rise at once
            times[level] = min(times.get(level, reached), reached)
    return dict(sorted(times.items()))


def moment_of(pieces: pl.DataFrame, needed: int) -> int:
    """When bytes that flow evenly from `first` to `last` of each piece add up to `needed`, in microseconds."""
    first, last, amount = (pieces[name].to_numpy() for name in ("first", "last", "bytes"))
    low, high = int(first.min()), int(last.max())
    # A flood makes a million pieces a minute. 64 bits hold every product and sum below; else Python's integers do.
    if high - low >= LONGEST_IN_64_BITS_US or pieces["bytes"].cast(pl.Int128).sum() >= 2**63:
        first, last, amount = (column.astype(object) for column in (first, last, amount))
    duration = last - first + 1
    whole, rest = amount // duration, amount % duration
    while low < high:
        middle = (low + high) // 2
        elapsed = np.clip(middle - first + 1, 0, duration)
        if (whole * elapsed + rest * elapsed // duration).sum() >= needed:
            high = middle
        else:
            low = middle + 1
    return low
