"""How much of a model could be gone: sums over sliding windows, and the moments at which they reach a level.

Everything is exact in integers; a fraction of a model becomes the smallest number of bytes that reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from egress.cells import DAY_US, HOUR_US, MINUTE_US
from egress.config import Model
from egress.contracts import Level

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LIFETIME = "lifetime"
WINDOWS = (("1h", MINUTE_US, 60), ("1d", HOUR_US, 24), ("7d", DAY_US, 7), ("30d", DAY_US, 30))
"""Name, bucket and number of buckets, shortest first; the last bucket is the one that is filling."""

NAMES = (*(name for name, _, _ in WINDOWS), LIFETIME)

SHARES = ((64, Level.INFO), (32, Level.MEDIUM), (16, Level.HIGH), (4, Level.CRITICAL))
"""One part in how many is which level. 1/16: the strongest published compression; 1/4: a 4-bit copy."""

ASSUMED_SHARES = ((4, Level.INFO), (2, Level.MEDIUM), (1, Level.HIGH))

FITS_MACHINE = 2**60
"""Sums below it can be multiplied by four in 64 bits; above, the same code runs on Python's integers."""


@dataclass(frozen=True, slots=True)
class Series:
    """What was charged to one model for one subject, by minute."""

    model: Model
    minutes: Longs
    """UTC microseconds, ascending, each once."""
    amounts: Longs
    """Bytes; Python's integers where 64 bits might not hold a sum."""
    is_retiring: Flags
    drained: Longs
    """Of the bytes before each minute, what reviews have drained."""
    since: Longs
    """When the lifetime that each minute belongs to began: the last review of everything, else 0."""


@dataclass(frozen=True, slots=True)
class Rise:
    """One window's sum reached a level, or a lifetime another quarter of the model."""

    minute: int
    window: str
    level: Level
    model: Model
    since: int
    """First microsecond that the window covers."""
    is_retiring: bool
    crossings: tuple[tuple[Level, int], ...]
    """Levels that were new, each with how many bytes of this minute it took."""


def numbers(amounts: Sequence[int]) -> Longs:
    """The amounts as an array on which sums are exact, however large."""
    if sum(amounts) < FITS_MACHINE:
        return np.array(amounts, dtype=np.int64)
    return cast(Longs, np.array(amounts, dtype=object))


def ladder(model: Model) -> tuple[tuple[int, Level], ...]:
    """Bytes from which each level holds, ascending."""
    shares = ASSUMED_SHARES if model.is_assumed else SHARES
    return tuple((-(-model.bytes // share), level) for share, level in shares)


def windows(series: Series) -> Iterator[tuple[str, Longs, Longs]]:
    """For each window its name, since when it covers at each minute, and its sum after each minute."""
    total = np.concatenate([series.amounts[:0], [0], np.cumsum(series.amounts)])
    for name, bucket, buckets in WINDOWS:
        since = (series.minutes // bucket - (buckets - 1)) * bucket
        yield name, since, total[1:] - total[np.searchsorted(series.minutes, since)]
    yield LIFETIME, series.since, total[1:] - series.drained


def rises(series: Series) -> Iterator[Rise]:
    """Every time that a window's sum rose to a level above the one it stood at, window by window."""
    for name, since, sums in windows(series):
        yield from _rises(series, name, since, sums)


def peak(series: Series, window: str, minutes: tuple[int, int]) -> int:
    """The largest sum of a window between two minutes, both included."""
    begin, end = np.searchsorted(series.minutes, minutes[0]), np.searchsorted(series.minutes, minutes[1], "right")
    return max(int(sums[begin:end].max()) for name, _, sums in windows(series) if name == window)


def _rises(series: Series, window: str, since: Longs, sums: Longs) -> Iterator[Rise]:
    # A sum only falls between two minutes, as bytes leave the window, and what was raised falls with it. So the level
    # that stands is that of the sum just before this minute's bytes.
    before = sums - series.amounts
    was_retiring = np.concatenate([[False], series.is_retiring[:-1]])
    rank, old_rank = _rank(series.model, sums, series.is_retiring), _rank(series.model, before, was_retiring)
    is_rise = rank > old_rank
    if window == LIFETIME:
        quarters, old_quarters = sums * 4 // series.model.bytes, before * 4 // series.model.bytes
        is_rise |= (quarters > old_quarters) & (rank == len(ladder(series.model)))
    for index in np.flatnonzero(is_rise):
        yield Rise(
            int(series.minutes[index]),
            window,
            ladder(series.model)[rank[index] - 1][1],
            series.model,
            int(since[index]),
            bool(series.is_retiring[index]),
            _crossings(series, int(index), int(old_rank[index]), int(rank[index]), int(before[index])),
        )


def _rank(model: Model, sums: Longs, is_retiring: Flags) -> Longs:
    """How many levels each sum reaches; one more while the model is retiring."""
    steps = ladder(model)
    rank = sum((sums >= threshold).astype(np.int64) for threshold, _ in steps)
    return np.minimum(rank + ((rank > 0) & is_retiring), len(steps))


def _crossings(series: Series, index: int, old_rank: int, rank: int, before: int) -> tuple[tuple[Level, int], ...]:
    steps = ladder(series.model)
    shift = int(series.is_retiring[index])
    return tuple((steps[place][1], max(0, steps[max(0, place - shift)][0] - before)) for place in range(old_rank, rank))
