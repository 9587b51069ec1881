"""Bytes out that are unusual for this host at this hour; for a host without a past, against the model it could lose.

Never silences anything and is at most a hint: a host that always sent much has a baseline to match, which is why the
ledger decides. An hour that could hold a stolen model teaches nothing, nor does one of a finding
(`models/guards.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import groupby
from math import expm1, log, log1p
from operator import itemgetter
from typing import Any

import polars as pl

from egress.cells import HOUR_US, MOST
from egress.schema import NO_ADDRESS
from egress.words import at, moment, share, size
from models import guards
from models.baseline import Baseline
from models.byhost import ByHost
from models.outside import Row, Traffic
from models.reading import Line

VERSION = f"2 river {version('river')}"
STRANGE = 4.0
"""Spreads above the forecast from which an hour is told: a factor of 55 or more, as a spread is at least 2.7."""
MOVED = log(4.0)
"""An hour of the day in which four times as much is usual, or as little, is a baseline that has moved."""
LEAST_BYTES = 1_000_000
"""A megabyte an hour; less is no news, whatever the ratio."""
COLD_FRACTION = 16
"""Without a past: 1/16 of the smallest held model in an hour; the strongest published compression could be complete."""
FORGET_HOURS = 30 * 24
"""A past that ended a month ago is none; also what bounds the work of learning silent hours."""


@dataclass(frozen=True, slots=True)
class Past:
    """One host: the hour under way, and all those before as a baseline."""

    hour: int
    """Hours since 1970."""
    sent: int = 0
    """Bytes that left so far in this hour."""
    told: int = 0
    """Of them, what earlier scores have told."""
    could_hold: bool = False
    """This hour could hold a stolen model."""
    is_tied: bool = False
    """... or belongs to a finding."""
    baseline: Baseline = field(default_factory=Baseline)

    def at(self, hour: int) -> Past:
        """The same host in a later hour, with all hours in between learned; itself where time has not moved on."""
        if hour <= self.hour:
            return self
        if hour - self.hour > FORGET_HOURS:
            return Past(hour)
        baseline = self.baseline.copy()
        baseline.learn(baseline.usual if self.could_hold or self.is_tied else log1p(self.sent))
        for _ in range(self.hour + 1, hour):
            baseline.learn(0.0)
        return Past(hour, baseline=baseline)


Judged = list[tuple[str, Past, Row | None]]


class Volume(ByHost[Past]):
    """A baseline for each host: a row for each whose hour is strange so far."""

    name = "volume"
    version = VERSION

    def _judge(self, signals: pl.DataFrame) -> Judged:
        """Each host that sent something outside in this window: its past with the window in, and a row to tell."""
        window, rows = self._reader.outside(signals), self._reader.rows(signals)
        hour = window.start // HOUR_US
        judged: Judged = []
        for traffic in window.hosts:
            if traffic.sent:
                past = self._with_window(traffic, hour)
                found = _strange(past, traffic.model_bytes)
                row = None
                if found:
                    row = rows.window | _row(past, rows.lines_of(traffic.host), *found)
                elif _has_moved(past):
                    row = rows.window | _moved(past, rows.lines_of(traffic.host))
                judged.append((traffic.host, past, row))
        return judged

    def _with_window(self, traffic: Traffic, hour: int) -> Past:
        known = self._hosts.get(traffic.host)
        past = known.at(hour) if known else Past(hour)
        total = past.sent + traffic.sent
        could_hold = past.could_hold or guards.could_hold(total, traffic.model_bytes)
        return Past(past.hour, total, past.told, could_hold, past.is_tied or traffic.is_tied, past.baseline)

    @staticmethod
    def _told(past: Past, row: Row) -> Past:
        if row["score"] == guards.RECORD:
            return replace(past, baseline=past.baseline.as_told())
        return replace(past, told=past.sent)

    @staticmethod
    def _heard(past: Past) -> int:
        return past.hour

    @staticmethod
    def _dump(past: Past) -> Sequence[object]:
        return past.hour, past.sent, past.told, past.could_hold, past.is_tied, past.baseline.dump()

    @staticmethod
    def _load(values: list[Any]) -> Past:
        hour, sent, told, could_hold, is_tied, baseline = values
        return Past(hour, sent, told, could_hold, is_tied, Baseline.load(baseline))


def _strange(past: Past, model_bytes: int) -> tuple[float, str] | None:
    """Score and reason of an hour so far, or None where there is nothing to tell."""
    if past.sent < LEAST_BYTES:
        return None
    began = moment(past.hour * HOUR_US)
    if not past.baseline.speaks:
        if not past.could_hold:
            return None
        fraction = past.sent / model_bytes
        reason = (
            f"{size(past.sent)} left in the hour from {began}, {share(fraction)} of a model of {size(model_bytes)}; "
            f"{past.baseline.hours} hours of past are too few to compare with"
        )
        return fraction / (fraction + 1 / COLD_FRACTION), reason
    strangeness = past.baseline.strangeness(log1p(past.sent))
    if strangeness < STRANGE:
        return None
    reason = (
        f"{size(past.sent)} left in the hour from {began}, expected {size(round(expm1(past.baseline.usual)))} after "
        f"{past.baseline.hours} hours of its own past: {strangeness:.1f} times the usual spread, on a log scale"
    )
    return strangeness**2 / (strangeness**2 + STRANGE**2), reason


def _has_moved(past: Past) -> bool:
    before, now = past.baseline.move
    return abs(now - before) >= MOVED and max(before, now) >= log1p(LEAST_BYTES)


def _moved(past: Past, lines: Sequence[Line]) -> Row:
    usual = [f"{size(round(expm1(value)))} in the hour from {past.hour % 24:02}:00 UTC" for value in past.baseline.move]
    sent = _sent_outside(lines)
    first, last = min(each.first for each in sent), max(each.last for each in sent)
    return guards.moved(Volume.name, lines[0].host, (first, last), *usual)


def _row(past: Past, lines: Sequence[Line], score: float, reason: str) -> dict[str, object]:
    sent = _sent_outside(lines)
    largest = min(sent, key=lambda each: (-each.sent, each.group))
    is_mostly_one = largest.sent * 2 >= sum(each.sent for each in sent)
    return {
        "host": largest.host,
        "detector": Volume.name,
        "group": largest.group if is_mostly_one else "",
        "what": "unusual volume to",
        "score": score,
        "bytes": past.sent - past.told,
        "first": at(min(each.first for each in sent)),
        "last": at(max(each.last for each in sent)),
        "low_address": largest.low_address if is_mostly_one else NO_ADDRESS,
        "high_address": largest.high_address if is_mostly_one else NO_ADDRESS,
        "reason": reason,
    }


def _sent_outside(lines: Sequence[Line]) -> list[Line]:
    """What left from one host in one window, by group."""
    left = [line for line in lines if line.is_outside and line.sent]
    return [_of_group(list(same)) for _, same in groupby(left, key=itemgetter(1))]


def _of_group(lines: list[Line]) -> Line:
    """Lines of one group as one, as far as volume asks."""
    if len(lines) == 1:
        return lines[0]
    return lines[0]._replace(
        sent=min(sum([line.sent for line in lines]), MOST),
        first=min([line.first for line in lines]),
        last=max([line.last for line in lines]),
        low_address=min([line.low_address for line in lines]),
        high_address=max([line.high_address for line in lines]),
    )
