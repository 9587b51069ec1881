"""A host that turns from pulling to pushing: its producer/consumer ratio leaves the place where it used to be.

The ratio is (sent - received) / (sent + received) of what a host exchanged with the outside (C. Bullard and J. Gerth,
PCR: A New Flow Metric, FloCon 2014): -1 only receives, +1 only sends. The last 24 hours are compared with the host's
own last 28 days. Cannot find: a host that always sent more than it received, a theft beside a larger download.

State of a host: 24 hours and 28 days of two numbers each; 2 kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import polars as pl

from egress.cells import HOUR_US
from egress.words import at, size
from models.byhost import ByHost
from models.guards import RECORD, Reference, could_hold, moved
from models.outside import Leader, Row, Traffic, Window, bulk, located
from models.typical import DAYS_BEFORE_SPEAKING, DAYS_KEPT, middle, spread

VERSION = "2"
HOURS_A_DAY = 24
PULLS, PUSHES = 0.0, 1 / 3
"""A host that pulls received at least as much as it sent; one that pushes sends at least twice what it receives."""
SPREAD_FLOOR = 0.1
STRANGE = 4.0
"""Spreads between the ratio of the last day and the usual one."""
GROWN = 3
"""Nothing was pushed where sending stayed as it was and only the pulls are missing: times the usual day at least."""
DRIFT, MOVED = 0.05, 0.25
"""By so much a day the reference follows, so a host that turns for good is told for two or three weeks; its move is
told by quarters of the scale's half."""
SPREAD_WEIGHT = 0.8
"""Work spreads over destinations more often than a theft does."""
FORGET_HOURS = 60 * HOURS_A_DAY


@dataclass(frozen=True, slots=True)
class Past:
    """One host: its last 24 hours, the one under way included, and its last days."""

    hour: int
    """Hours since 1970."""
    sent: tuple[int, ...] = (0,)
    received: tuple[int, ...] = (0,)
    """Of the last hours, the latest last."""
    ratios: tuple[float, ...] = ()
    daily: tuple[int, ...] = ()
    """Ratio and bytes sent of the last days that ended with 23:00 UTC and had any traffic."""
    reference: Reference | None = None
    """Of the usual ratio; none before the host `speaks`."""
    is_tied: bool = False
    """The day under way belongs to a finding."""
    told: int = 0
    """Of the bytes sent in the last hours, what earlier scores have told."""
    leader: Leader = field(default_factory=Leader)

    @property
    def ratio(self) -> float:
        return _ratio(sum(self.sent), sum(self.received))

    @property
    def speaks(self) -> bool:
        return len(self.ratios) >= DAYS_BEFORE_SPEAKING

    @property
    def strangeness(self) -> float:
        """Spreads by which the last 24 hours push more than usual."""
        return (self.ratio - self.usual) / self.spread

    @property
    def spread(self) -> float:
        return max(SPREAD_FLOOR, spread(self.ratios))

    @property
    def usual(self) -> float:
        """The median, held by the reference: within one spread of it."""
        return self.reference.held(middle(self.ratios), self.spread) if self.reference else middle(self.ratios)

    def with_bytes(self, traffic: Traffic) -> Past:
        return replace(
            self,
            sent=(*self.sent[:-1], self.sent[-1] + traffic.sent),
            received=(*self.received[:-1], self.received[-1] + traffic.received),
            leader=self.leader.voted(traffic.exchanges),
            is_tied=self.is_tied or traffic.is_tied,
        )

    def at(self, hour: int, model_bytes: int) -> Past:
        """The same host in a later hour; itself where time has not moved on."""
        if hour <= self.hour:
            return self
        if hour - self.hour > FORGET_HOURS:
            return Past(hour)
        past = self
        while past.hour < hour:
            past = past._next(model_bytes)
        return past

    def _next(self, model_bytes: int) -> Past:
        past = self._learned(model_bytes) if (self.hour + 1) % HOURS_A_DAY == 0 else self
        return replace(
            past,
            hour=self.hour + 1,
            sent=(*self.sent, 0)[-HOURS_A_DAY:],
            received=(*self.received, 0)[-HOURS_A_DAY:],
            # What is no longer among the last hours can no longer have been told of them.
            told=max(0, self.told - (self.sent[0] if len(self.sent) == HOURS_A_DAY else 0)),
            leader=replace(self.leader, lead=self.leader.lead // 2),
        )

    def _learned(self, model_bytes: int) -> Past:
        """With the UTC day that ends; one that could hold a theft teaches nothing, nor does one without traffic."""
        sent = sum(self.sent)
        is_gated = self.is_tied or (_is_turned(self) and could_hold(sent, model_bytes))
        past = replace(self, is_tied=False)
        if is_gated or not sent + sum(self.received):
            return past
        past = replace(past, ratios=(*self.ratios, self.ratio)[-DAYS_KEPT:], daily=(*self.daily, sent)[-DAYS_KEPT:])
        if not past.speaks:
            return past
        usual = middle(past.ratios)
        followed = self.reference.followed(usual, DRIFT) if self.reference else Reference.frozen(usual)
        return replace(past, reference=followed)


class Roles(ByHost[Past]):
    """A ratio for each host: a row for each that pushed in its last 24 hours and used to pull."""

    name = "roles"
    version = VERSION

    def _judge(self, signals: pl.DataFrame) -> list[tuple[str, Past, Row | None]]:
        """Each host with traffic outside in this window: its past with the window in, and a row to tell."""
        window = self._reader.outside(signals)
        hour = window.start // HOUR_US
        judged: list[tuple[str, Past, Row | None]] = []
        for traffic in window.hosts:
            known = self._hosts.get(traffic.host)
            past = (known.at(hour, traffic.model_bytes) if known else Past(hour)).with_bytes(traffic)
            is_news = _is_turned(past) and _is_bulk(past, traffic)
            judged.append(
                (traffic.host, past, _row(past, traffic, window) if is_news else _moved(past, traffic, window))
            )
        return judged

    @staticmethod
    def _told(past: Past, row: Row) -> Past:
        if row["score"] == RECORD and past.reference:
            return replace(past, reference=past.reference.as_told())
        return replace(past, told=sum(past.sent))

    @staticmethod
    def _heard(past: Past) -> int:
        return past.hour

    @staticmethod
    def _dump(past: Past) -> Sequence[object]:
        return astuple(past)

    @staticmethod
    def _load(values: list[Any]) -> Past:
        hour, *lists, reference, is_tied, told, leader = values
        sent, received, ratios, daily = (tuple(values) for values in lists)
        known = Reference(*reference) if reference else None
        return Past(hour, sent, received, ratios, daily, known, is_tied, told, Leader(*leader))


def _moved(past: Past, traffic: Traffic, window: Window) -> Row | None:
    if past.reference is None or not past.reference.has_moved(MOVED):
        return None
    ratios = [f"a producer/consumer ratio of {value:+.2f}" for value in (past.reference.told, past.reference.value)]
    row = moved(Roles.name, traffic.host, (traffic.first, traffic.last), *ratios)
    return {"window_start": at(window.start), "window_s": window.seconds} | row


def _ratio(sent: int, received: int) -> float:
    return (sent - received) / (sent + received) if sent + received else 0.0


def _is_bulk(past: Past, traffic: Traffic) -> bool:
    """Whether as much as on a usual day, or what is bulk for this host, was sent and not told yet."""
    return sum(past.sent) - past.told >= max(bulk(traffic.model_bytes), middle(past.daily))


def _is_turned(past: Past) -> bool:
    if not past.speaks or past.ratio < PUSHES or past.usual > PULLS:
        return False
    return sum(past.sent) >= GROWN * middle(past.daily) and past.strangeness >= STRANGE


def _row(past: Past, traffic: Traffic, window: Window) -> Row:
    untold, leader = sum(past.sent) - past.told, past.leader
    place = leader.of(untold)
    weight = 1.0 if place else SPREAD_WEIGHT
    return located(Roles.name, "pushing instead of pulling to", window, place) | {
        "host": traffic.host,
        "score": weight * past.strangeness**2 / (past.strangeness**2 + STRANGE**2),
        "bytes": untold,
        "first": at(traffic.first),
        "last": at(traffic.last),
        "reason": _reason(past),
    }


def _reason(past: Past) -> str:
    return (
        f"{size(sum(past.sent))} left and {size(sum(past.received))} came in within 24 hours, producer/consumer ratio "
        f"{past.ratio:+.2f}; usual {past.usual:+.2f} with {size(round(middle(past.daily)))} a day over "
        f"{len(past.ratios)} days: {past.strangeness:.1f} times the usual spread"
    )
