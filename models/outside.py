"""What hosts exchanged with the outside in one window, as detectors of whole hosts read it and tell of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from egress.schema import NO_ADDRESS
from egress.words import at

BULK_FRACTION = 64
LEAST_BULK = 1_000_000
MOST_BULK = 100_000_000
"""Less than a megabyte is no news whatever the model, and 100 MB is some for any."""

Row = dict[str, object]


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

    def voted(self, exchanges: Iterable[Exchange]) -> Leader:
        group, low, high, lead = self.group, bytes.fromhex(self.low), bytes.fromhex(self.high), self.lead
        for each in exchanges:
            if each.group == group:
                low, high, lead = min(low, each.low), max(high, each.high), lead + each.sent
            elif lead >= each.sent:
                lead -= each.sent
            else:
                group, low, high, lead = each.group, each.low, each.high, each.sent - lead
        return Leader(group, low.hex(), high.hex(), lead)

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

    sent: int
    received: int
    first: int
    last: int
    is_tied: bool = False
    """The ledger has a finding about the host in the queue: nothing is learned."""


@dataclass(frozen=True, slots=True)
class Window:
    start: int
    """UTC microseconds."""
    seconds: int
    hosts: tuple[Traffic, ...]
    """In order of their ids."""


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
