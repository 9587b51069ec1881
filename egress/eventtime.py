"""What time it is for one stream of rows, told by the rows themselves, and where rows go that come too late.

One record from 2106 or 1970 must not move the time: a place far from it is believed once whole messages keep coming
from there and none from here. Everything is counted in the order of the log, so whoever reads it says the same.

Sums behind the horizon are closed: they were published and may be forgotten. A row that would still add to them is
charged at the horizon instead. Which places are closed is remembered, so that a clock that went wrong for a while, or
a second file about an earlier week, is neither lost nor added to sums that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from egress.cells import DAY_US, LONGEST_ROW_US

PERSISTS = 8
"""Messages in a row from another place until it is believed: some 80 s of a live sensor."""
MOST_STRAYS = 1000
"""Rows at unbelieved times that keep them; what comes beyond is charged at the watermark. Bounds state."""
MOST_CLOSED = 16
"""Closed places remembered; the two with the smallest hole between them become one."""
NEVER = -1
FAR = 2**62

Longs = npt.NDArray[np.int64]
Interval = tuple[int, int]
"""From, inclusive, and to, exclusive; UTC microseconds."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows as they are charged."""

    start: Longs
    end: Longs
    late: int = 0
    skewed: int = 0
    """Rows now known to have had a wrong clock, earlier ones included."""
    is_moved: bool = False
    first: int = FAR
    last: int = NEVER
    """Where the believed ones begin; `first` > `last` without any."""


@dataclass(slots=True)
class Clock:
    """The time of one stream. All times are UTC microseconds, from 0 to the year 2255."""

    late_after: int
    watermark: int = NEVER
    low: int = 0
    """Where the closed place begins that the horizon ends."""
    horizon: int = 0
    closed: list[Interval] = field(default_factory=list)
    """Other closed places, in order."""
    pending: int = 0
    """Messages in a row that came from elsewhere."""
    pending_rows: int = 0
    pending_low: int = FAR
    strays: int = 0

    def place(self, start: Longs, end: Longs) -> Placed:
        """Where the rows of the next message go (at least one; none ends before it starts), and what time it is then.

        A row begins where it starts, or where it ends if it is too long to be believed, as in the ledger.
        """
        lengths = end - start
        begin = start if lengths.max() < LONGEST_ROW_US else np.where(lengths < LONGEST_ROW_US, start, end)
        if self.watermark == NEVER:
            self._settle(int(np.partition(begin, (len(begin) - 1) // 2)[(len(begin) - 1) // 2]))
        last = int(begin.max())
        if start.min() >= self.horizon and last <= self.watermark + self._leap and end.max() < self._ceiling():
            skewed = self._contradicted()
            self._advance(last)
            return Placed(start, end, skewed=skewed, first=int(begin.min()), last=last)
        return self._sorted_out(start, end, begin)

    def intervals(self) -> list[Interval]:
        """All closed places: no row will be charged there any more."""
        return [*self.closed, (self.low, self.horizon)]

    @property
    def _leap(self) -> int:
        """How far one message moves the time. Less than the horizon's distance: rows in between are not late then."""
        return self.late_after // 2

    def _ceiling(self) -> int:
        return min((low for low, _ in self.closed if low >= self.horizon), default=FAR)

    def _sorted_out(self, start: Longs, end: Longs, begin: Longs) -> Placed:
        late = np.zeros(len(start), np.bool_)
        for low, high in self.intervals():
            late |= (start < high) & (end >= low)
        near = ~late & (begin >= self.horizon) & (begin <= self._reach(begin[~late]))
        far = ~late & ~near
        start, end = self._charged_late(start, end, begin, late)
        skewed, first, last = 0, FAR, NEVER
        if near.any():
            skewed = self._contradicted() + int(far.sum())
            is_full = self._keeps_no_more(int(far.sum()))
            start, end = self._at_watermark(start, end, far & is_full)
            first, last = int(begin[near].min()), int(begin[near].max())
            self._advance(last)
        elif far.any():
            start, end = self._at_watermark(start, end, far & (self.strays >= MOST_STRAYS))
            self._wait(begin[far])
        is_moved = bool(late.any() or far.any())
        return Placed(start, end, int(late.sum()), skewed, is_moved, first, last)

    def _reach(self, begin: Longs) -> int:
        """How far rows go without a gap from now on: a message may be about some hours."""
        ahead = np.sort(begin[begin > self.watermark])
        steps = np.diff(ahead, prepend=self.watermark) > self._leap
        reached = ahead[: int(steps.argmax()) if steps.any() else len(ahead)]
        return int(reached[-1]) if len(reached) else self.watermark

    def _charged_late(self, start: Longs, end: Longs, begin: Longs, late: npt.NDArray[np.bool_]) -> tuple[Longs, Longs]:
        """Late rows between horizon and watermark; one that is too long stays one that counts where it ends."""
        ends = np.where(late, end.clip(self.horizon, max(self.horizon, self.watermark)), end)
        starts = np.where(begin == start, start.clip(self.horizon, ends), ends)
        return np.where(late, starts, start), ends

    def _at_watermark(self, start: Longs, end: Longs, which: npt.NDArray[np.bool_]) -> tuple[Longs, Longs]:
        return np.where(which, self.watermark, start), np.where(which, self.watermark, end)

    def _keeps_no_more(self, rows: int) -> bool:
        if self.strays + rows > MOST_STRAYS:
            return True
        self.strays += rows
        return False

    def _contradicted(self) -> int:
        """What waited to be believed was wrong: a row from here came."""
        wrong = self.pending_rows
        if self.pending:
            self.strays += wrong
            self._forget_pending()
        return wrong

    def _wait(self, begin: Longs) -> None:
        self.pending += 1
        self.pending_rows += len(begin)
        self.pending_low = min(self.pending_low, int(begin.max()))
        if self.pending >= PERSISTS:
            self._settle(self.pending_low)
            self._forget_pending()

    def _forget_pending(self) -> None:
        self.pending, self.pending_rows, self.pending_low = 0, 0, FAR

    def _settle(self, now: int) -> None:
        """It is `now`; what was closed stays so."""
        if self.horizon > self.low:
            self.closed = _fewer(sorted([*self.closed, (self.low, self.horizon)]), now)
        self.watermark, self.horizon = now, max(0, now - self.late_after)
        self.low = self.horizon // DAY_US * DAY_US  # on the grid of every kind of sum
        below = [place for place in self.closed if place[0] <= now]
        if below and below[-1][1] >= self.low:
            self.closed.remove(below[-1])
            self.low, self.horizon = below[-1][0], max(self.horizon, below[-1][1])

    def _advance(self, last: int) -> None:
        self.watermark = max(self.watermark, last)
        self.horizon = max(self.horizon, self.watermark - self.late_after)


def _fewer(closed: Sequence[Interval], now: int) -> list[Interval]:
    """At most `MOST_CLOSED`; the hole that holds `now` stays one."""
    if len(closed) <= MOST_CLOSED:
        return list(closed)
    pairs = enumerate(pairwise(closed))
    _, at = min((after[0] - before[1], at) for at, (before, after) in pairs if not before[1] <= now < after[0])
    return [*closed[:at], (closed[at][0], closed[at + 1][1]), *closed[at + 2 :]]
