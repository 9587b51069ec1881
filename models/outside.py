"""What hosts exchanged with the outside in one window, as detectors of whole hosts read it and tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

import polars as pl

from egress.schema import NO_ADDRESS
from egress.signals import one_vantage
from egress.words import at

UDP = 17
BULK_FRACTION = 64
LEAST_BULK = 1_000_000
MOST_BULK = 100_000_000
"""Less than a megabyte is no news whatever the model, and 100 MB is some for any."""

Row = dict[str, object]
Got = TypeVar("Got")


class Exchange(NamedTuple):
    """What one host exchanged with one group in one window; charged bytes, times in UTC microseconds."""

    group: str
    is_outside: bool
    sent: int
    received: int
    first: int
    last: int
    low: bytes
    high: bytes
    answered: int = 0
    """Of what was sent, as responder."""
    over_udp: int = 0
    """Of what was sent."""
    conversations: int = 0


@dataclass(frozen=True, slots=True)
class Leader:
    """The group that got most of late, by a vote of bytes (Boyer and Moore's MJRTY, 1981, halved every hour)."""

    group: str = ""
    low: str = ""
    high: str = ""
    """Lowest and highest address, as hex."""
    lead: int = 0
    """Bytes sent there less bytes sent elsewhere."""

    def voted(self, exchange: Exchange) -> Leader:
        if exchange.group != self.group and self.lead >= exchange.sent:
            return replace(self, lead=self.lead - exchange.sent)
        low, high = exchange.low.hex(), exchange.high.hex()
        if exchange.group != self.group:
            return Leader(exchange.group, low, high, exchange.sent - self.lead)
        return Leader(self.group, min(self.low, low), max(self.high, high), self.lead + exchange.sent)

    def of(self, sent: int) -> Exchange | None:
        """The group as a place, if it got at least half of so many bytes."""
        ends = bytes.fromhex(self.low), bytes.fromhex(self.high)
        return Exchange(self.group, True, self.lead, 0, 0, 0, *ends) if self.lead * 2 >= sent else None


@dataclass(frozen=True, slots=True)
class Traffic:
    """One host in one window."""

    host: str
    role: str
    model_bytes: int
    """Of the smallest model that it holds; 0: none."""
    exchanges: tuple[Exchange, ...]
    """At least one, by group."""

    @property
    def sent(self) -> int:
        return sum([each.sent for each in self.exchanges])

    @property
    def received(self) -> int:
        return sum([each.received for each in self.exchanges])

    @property
    def first(self) -> int:
        return min(each.first for each in self.exchanges)

    @property
    def last(self) -> int:
        return max(each.last for each in self.exchanges)

    @property
    def largest(self) -> Exchange:
        """The group that got most; the first by name of equals."""
        return min(self.exchanges, key=lambda each: (-each.sent, each.group))

    @property
    def mostly_to(self) -> Exchange | None:
        """The group that got at least half of what was sent."""
        return self.largest if self.largest.sent * 2 >= self.sent else None


@dataclass(frozen=True, slots=True)
class Window:
    start: int
    """UTC microseconds."""
    seconds: int
    hosts: tuple[Traffic, ...]
    """In order of their ids."""


class Once(Generic[Got]):
    """Keeps the answer for the latest frame, as scoring and learning ask about the same one in turn.

    The frame is kept too, so it cannot be taken for another; `forget` when the answer rests on state that changed.
    """

    def __init__(self, ask: Callable[[pl.DataFrame], Got]) -> None:
        self._ask = ask
        self._latest: tuple[pl.DataFrame, Got] | None = None

    def __call__(self, signals: pl.DataFrame) -> Got:
        if self._latest is None or self._latest[0] is not signals:
            self._latest = signals, self._ask(signals)
        return self._latest[1]

    def forget(self) -> None:
        self._latest = None


def read(signals: pl.DataFrame, with_inside: bool = False) -> Window:
    """SIGNALS of one window, at least one row, without doubles; what stayed inside only where asked for."""
    rows = one_vantage(signals).lazy().filter(pl.col("is_outside") | with_inside).select(_READ)
    exchanges = rows.group_by(_PLACE).agg(_SUMMED).sort(_PLACE).collect().rows()
    by_host = groupby(exchanges, key=lambda row: row[: len(_PLACE) - 1])
    start, seconds = signals.select(pl.col("window_start").dt.epoch("us"), "window_s").row(0)
    hosts = (
        Traffic(host, role, held, tuple(Exchange(*row[len(_PLACE) - 1 :]) for row in own))
        for (host, role, held), own in by_host
    )
    return Window(start, seconds, tuple(hosts))


def located(detector: str, what: str, window: Window, place: Exchange | None) -> Row:
    """The part of a row of SCORES that says when, by whom found, and where; without `place` to several groups."""
    return {
        "window_start": at(window.start),
        "window_s": window.seconds,
        "detector": detector,
        "what": what,
        "group": place.group if place else "",
        "low_address": place.low if place else NO_ADDRESS,
        "high_address": place.high if place else NO_ADDRESS,
    }


def bulk(model_bytes: int) -> int:
    """1/64 of the smallest held model, the least that the ledger mentions, within 1 to 100 MB; 100 MB without any."""
    return min(max(model_bytes // BULK_FRACTION, LEAST_BULK), MOST_BULK) if model_bytes else MOST_BULK


_READ = [
    pl.col("host", "role", "model_bytes", "group", "is_outside", "sent", "received"),
    pl.col("first", "last").dt.epoch("us"),
    pl.col("low_address", "high_address"),
    pl.when("served").then("sent").otherwise(0).alias("answered"),
    pl.when(pl.col("proto") == UDP).then("sent").otherwise(0).alias("over_udp"),
    "flows",
]
# In the order of Exchange.
_PLACE = ["host", "role", "model_bytes", "group"]
_SUMMED = [
    pl.col("is_outside").any(),
    pl.col("sent", "received").sum(),
    pl.col("first").min(),
    pl.col("last").max(),
    pl.col("low_address").min(),
    pl.col("high_address").max(),
    pl.col("answered", "over_udp", "flows").sum(),
]
