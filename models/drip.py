"""Slow, steady loss: days on which a host sends outside somewhat more than it used to, until they add up.

A one-sided CUSUM (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954) on the bytes of each UTC day,
standardised on a log scale by median and median absolute deviation of the host's own last 28 days. How regular time
and size of the days are is told as a reason, as a clock does what people do not. Cannot find: what is small beside the
usual variation of a busy host, a loss that runs since before the first record, one burst (`volume`, `edges`).

State of a host: 28 days, and what 24 groups got; 4 kB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from heapq import nsmallest
from math import expm1, log, log1p, sqrt
from typing import Any, NamedTuple

import polars as pl

from egress.config import DAY_US
from egress.words import at, moment, size
from models.byhost import ByHost
from models.guards import RECORD, Reference, could_hold, moved
from models.outside import Exchange, Row, Traffic, Window, located
from models.typical import DAYS_BEFORE_SPEAKING, DAYS_KEPT, middle, spread

VERSION = "2"
UNIT = 1_000_000
"""A megabyte a day: below it days do not differ, whatever the ratio."""
SPREAD_FLOOR = 0.25
"""A fifth to a quarter more or less is what any host does from one day to the next."""
SLACK = 0.5
"""Spreads that a day may exceed for nothing: half of the smallest shift sought, one spread (Page)."""
MOST_A_DAY = 3.0
"""Winsorised: one day, however large, is no drip; it takes three."""
THRESHOLD = 7.0
"""19 years between two false alarms of a host whose days are normal and independent (Siegmund's approximation of the
average run length, (exp(b) - 1 - b) / (2 x slack^2) days with b = 2 x slack x (threshold + 1.166))."""
CEILING = 24.0
"""Above it nothing is added, so that an alarm ends six weeks after its cause."""
DRIFT = 0.25
"""By so much a day the reference follows: work that grew a hundredfold for good is the usual after three weeks."""
STRAY = 2.0
"""Spreads by which the median may run away from the reference."""
MOVED = log(4.0)
"""A usual day four times as large, or as small, is a baseline that has moved."""
SPREAD_WEIGHT = 0.8
"""Excess over several groups is work that grew more often than a theft."""
FORGET_DAYS = 60
GROUPS_KEPT = 24
"""Of a host; beyond, only the half that got most. The others have no name in the reason, but count."""
DAYS_OF_HABIT = 8
"""What a group usually gets is the mean of about so many days."""
REGULAR_SIZE, REGULAR_US = 0.1, 30 * 60 * 1_000_000
"""Days that differ by less than a tenth, and begin within half an hour of each other, look like a clock's work."""
LEAST_DAYS_REGULAR = 3


class Habit(NamedTuple):
    """What one group got since the sum last was zero: integers, so that sums of squares are exact."""

    low: str
    high: str
    """Lowest and highest address, as hex."""
    before: int = 0
    """Bytes a day while the sum was zero."""
    today: int = 0
    began: int = 0
    """Microseconds into the UTC day of the first bytes today."""
    days: int = 0
    """Whole days before today with bytes, their sizes and beginnings, summed and summed as squares."""
    sizes: int = 0
    squares: int = 0
    times: int = 0
    times_squared: int = 0

    @property
    def total(self) -> int:
        return self.sizes + self.today

    @classmethod
    def begun(cls, exchange: Exchange) -> Habit:
        return cls(exchange.low.hex(), exchange.high.hex(), 0, exchange.sent, exchange.first % DAY_US)

    def with_bytes(self, exchange: Exchange) -> Habit:
        began = exchange.first % DAY_US
        return Habit(
            min(self.low, exchange.low.hex()),
            max(self.high, exchange.high.hex()),
            self.before,
            self.today + exchange.sent,
            min(self.began, began) if self.today else began,
            *self[5:],
        )

    def quiet(self) -> Habit:
        """At midnight, with the sum at zero: what it got today was usual."""
        return Habit(self.low, self.high, self.before + (self.today - self.before) // DAYS_OF_HABIT)

    def raised(self) -> Habit:
        """At midnight, with the sum above zero."""
        if not self.today:
            return self
        return self._replace(
            today=0,
            days=self.days + 1,
            sizes=self.sizes + self.today,
            squares=self.squares + self.today**2,
            times=self.times + self.began,
            times_squared=self.times_squared + self.began**2,
        )


@dataclass(frozen=True, slots=True)
class Past:
    """One host: the day under way, and those before."""

    day: int
    """Days since 1970."""
    sent: int = 0
    level: float = 0.0
    """CUSUM of whole days, in spreads."""
    since: int = 0
    """UTC microseconds of the first bytes of the run: the sum was zero before that day."""
    excess: int = 0
    """Bytes of the run's whole days beyond the usual."""
    told: int = 0
    """Of the excess, what earlier scores have told."""
    centre: float = 0.0
    scale: float = SPREAD_FLOOR
    """Median and spread of `days`."""
    days: tuple[float, ...] = ()
    """log1p of megabytes sent on the last days."""
    reference: Reference | None = None
    """Of the centre, which it holds; none before the host `speaks`."""
    is_tied: bool = False
    """Today belongs to a finding."""
    groups: Mapping[str, Habit] = field(default_factory=dict)

    @property
    def speaks(self) -> bool:
        return len(self.days) >= DAYS_BEFORE_SPEAKING

    @property
    def usual(self) -> int:
        return round(UNIT * expm1(self.centre))

    @property
    def strangeness(self) -> float:
        """Spreads by which today exceeds the usual so far."""
        return min((log1p(self.sent / UNIT) - self.centre) / self.scale, MOST_A_DAY)

    @property
    def sum(self) -> float:
        """CUSUM with today in."""
        return min(max(0.0, self.level + self.strangeness - SLACK), CEILING) if self.speaks else 0.0

    @property
    def is_news(self) -> bool:
        """Today is one of the days that the alarm is about, and has something that was not told yet."""
        is_raised = self.sum >= THRESHOLD and self.strangeness >= 2 * SLACK
        return is_raised and self.exceeded - self.told >= UNIT

    @property
    def exceeded(self) -> int:
        """Bytes beyond the usual since the run began, with today."""
        return self.excess + max(0, self.sent - self.usual)

    @property
    def leader(self) -> tuple[str, int]:
        """The group that got most beyond what it used to get, and how much."""
        run_days = self.day - self.since // DAY_US + 1
        return max((habit.total - habit.before * run_days, group) for group, habit in self.groups.items())[::-1]

    def with_bytes(self, traffic: Traffic) -> Past:
        new = {each.group: each for each in traffic.exchanges if each.sent}
        known = dict(self.groups)
        if len(known.keys() | new) > GROUPS_KEPT:
            sizes = {group: self._size(group, new) for group in known.keys() | new}
            kept = set(nsmallest(GROUPS_KEPT // 2, sizes, key=lambda group: (-sizes[group], group)))
            known = {group: habit for group, habit in known.items() if group in kept}
            new = {group: each for group, each in new.items() if group in kept}
        for group, each in new.items():
            known[group] = known[group].with_bytes(each) if group in known else Habit.begun(each)
        return replace(self, sent=self.sent + traffic.sent, since=self.since or traffic.first,
                       is_tied=self.is_tied or traffic.is_tied, groups=known)  # fmt: skip

    def _size(self, group: str, new: Mapping[str, Exchange]) -> int:
        """What decides whether a group is remembered."""
        habit, sent = self.groups.get(group), new[group].sent if group in new else 0
        return max(habit.total + sent, habit.before) if habit else sent

    def at(self, day: int, model_bytes: int) -> Past:
        """The same host on a later day, with all days in between learned; itself where time has not moved on."""
        if day <= self.day:
            return self
        if day - self.day > FORGET_DAYS:
            return Past(day)
        past = self._closed(model_bytes)
        while past.day < day:
            past = past._closed(model_bytes)
        return past

    def _closed(self, model_bytes: int) -> Past:
        """The next day. A run that could hold a theft teaches nothing, nor does a day of a finding: both are usual."""
        is_gated = self.is_tied or (self.sum >= THRESHOLD and could_hold(self.exceeded, model_bytes))
        days = (*self.days, self.centre if is_gated else log1p(self.sent / UNIT))[-DAYS_KEPT:]
        scale, reference = max(SPREAD_FLOOR, spread(days)), self._followed(middle(days), len(days))
        centre = reference.held(middle(days), STRAY * scale) if reference else middle(days)
        next_day = Past(self.day + 1, centre=centre, scale=scale, days=days, reference=reference)
        if self.sum == 0.0:
            quiet = {group: habit.quiet() for group, habit in self.groups.items()}
            return replace(next_day, groups={group: habit for group, habit in quiet.items() if habit.before})
        raised = {group: habit.raised() for group, habit in self.groups.items()}
        return replace(next_day, level=self.sum, since=self.since, excess=self.exceeded, told=self.told, groups=raised)

    def _followed(self, usual: float, days: int) -> Reference | None:
        if self.reference:
            return self.reference.followed(usual, DRIFT)
        return Reference.frozen(usual) if days >= DAYS_BEFORE_SPEAKING else None


class Drip(ByHost[Past]):
    """A CUSUM for each host: a row for each that is above the threshold, and has sent more since last told."""

    name = "drip"
    version = VERSION

    def _judge(self, signals: pl.DataFrame) -> list[tuple[str, Past, Row | None]]:
        """Each host that sent something outside in this window: its past with the window in, and a row to tell."""
        window = self._reader.outside(signals)
        day = window.start // DAY_US
        judged: list[tuple[str, Past, Row | None]] = []
        for traffic in window.hosts:
            if traffic.sent:
                known = self._hosts.get(traffic.host)
                past = (known.at(day, traffic.model_bytes) if known else Past(day)).with_bytes(traffic)
                row = _row(past, traffic, window) if past.is_news else _moved(past, traffic, window)
                judged.append((traffic.host, past, row))
        return judged

    @staticmethod
    def _told(past: Past, row: Row) -> Past:
        if row["score"] == RECORD and past.reference:
            return replace(past, reference=past.reference.as_told())
        return replace(past, told=past.exceeded)

    @staticmethod
    def _heard(past: Past) -> int:
        return past.day

    @staticmethod
    def _dump(past: Past) -> Sequence[object]:
        return astuple(past)

    @staticmethod
    def _load(values: list[Any]) -> Past:
        *plain, days, reference, is_tied, groups = values
        habits = {group: Habit(*numbers) for group, numbers in groups.items()}
        known = Reference(*reference) if reference else None
        return replace(Past(*plain), days=tuple(days), reference=known, is_tied=is_tied, groups=habits)


def _moved(past: Past, traffic: Traffic, window: Window) -> Row | None:
    if past.reference is None or not past.reference.has_moved(MOVED):
        return None
    before, now = (size(round(UNIT * expm1(value))) for value in (past.reference.told, past.reference.value))
    row = moved(Drip.name, traffic.host, (traffic.first, traffic.last), f"{before} a day", f"{now} a day")
    return {"window_start": at(window.start), "window_s": window.seconds} | row


def _row(past: Past, traffic: Traffic, window: Window) -> Row:
    group, beyond = past.leader
    habit = past.groups[group]
    ends = bytes.fromhex(habit.low), bytes.fromhex(habit.high)
    place = Exchange(group, True, beyond, 0, 0, 0, *ends) if beyond * 2 >= past.exceeded else None
    weight = 1.0 if place else SPREAD_WEIGHT
    return located(Drip.name, "steady excess to", window, place) | {
        "host": traffic.host,
        "score": weight * past.sum**2 / (past.sum**2 + THRESHOLD**2),
        "bytes": past.exceeded - past.told,
        "first": at(traffic.first if past.told else past.since),
        "last": at(traffic.last),
        "reason": _reason(past),
    }


def _reason(past: Past) -> str:
    group, beyond = past.leader
    return (
        f"{size(past.exceeded)} more than usual left since {moment(past.since)}, of it {size(max(0, beyond))} to "
        f"{group}{_regularity(past.groups[group])}; {size(past.sent)} today, usual {size(past.usual)} a day after "
        f"{len(past.days)} days; the excess adds up to {past.sum:.1f} spreads, told from {THRESHOLD:g}"
    )


def _regularity(habit: Habit) -> str:
    """What the whole days of one group have in common, as the end of a sentence; empty where it is nothing."""
    if habit.days < LEAST_DAYS_REGULAR:
        return ""
    mean = habit.sizes // habit.days
    variation = sqrt(max(0, habit.days * habit.squares - habit.sizes**2)) / habit.sizes
    apart_us = sqrt(max(0, habit.days * habit.times_squared - habit.times**2)) / habit.days
    told = []
    if variation < REGULAR_SIZE:
        told.append(f"{size(mean)} give or take {100 * variation:.0f} %")
    if apart_us < REGULAR_US:
        told.append(f"from {at(habit.times // habit.days):%H:%M} UTC give or take {apart_us / 60e6:.0f} min")
    return f", on {habit.days} days {' '.join(told)}" if told else ""
