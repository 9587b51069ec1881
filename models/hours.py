"""What one host did in one hour, as a few numbers that can be compared between hosts of one role."""

from __future__ import annotations

from math import expm1, log1p
from typing import NamedTuple

from egress.words import size
from models.outside import Leader, Traffic

NAMES = (
    "sent outside",
    "sent inside",
    "answered outside",
    "sent over UDP",
    "networks at once",
    "conversations",
)
COUNTS = ("networks at once", "conversations")
LEAST_BYTES = 10_000_000
"""An hour: below, bytes do not differ."""


class Hour(NamedTuple):
    """One host in the hour under way; times in UTC microseconds."""

    role: str
    model_bytes: int
    first: int
    last: int
    sums: tuple[int, ...]
    """In the order of NAMES."""
    is_tied: bool = False
    leader: Leader = Leader()

    @property
    def sent(self) -> int:
        """Bytes that left."""
        return self.sums[0]

    def with_window(self, traffic: Traffic) -> Hour:
        """`networks at once` is the most of any window, all others are sums."""
        pairs = zip(NAMES, self.sums, _sums(traffic), strict=True)
        sums = tuple(max(ours, new) if name == COUNTS[0] else ours + new for name, ours, new in pairs)
        first, last = min(self.first, traffic.first), max(self.last, traffic.last)
        leader = self.leader.voted(each for each in traffic.exchanges if each.is_outside)
        is_tied = self.is_tied or traffic.is_tied
        return Hour(traffic.role, traffic.model_bytes, first, last, sums, is_tied, leader)

    def features(self) -> list[float]:
        """On the scale of log(1 + x), x being a count, or bytes in units below which they do not differ."""
        return [log1p(value / _unit(name)) for name, value in zip(NAMES, self.sums, strict=True)]


def begun(traffic: Traffic) -> Hour:
    """An hour without its first window."""
    return Hour(traffic.role, traffic.model_bytes, traffic.first, traffic.last, (0,) * len(NAMES))


def _sums(traffic: Traffic) -> tuple[int, ...]:
    outside = [each for each in traffic.exchanges if each.is_outside]
    sent = sum([each.sent for each in outside])
    return (
        sent,
        traffic.sent - sent,
        sum([each.answered for each in outside]),
        sum([each.over_udp for each in traffic.exchanges]),
        len(outside),
        sum([each.conversations for each in traffic.exchanges]),
    )


def told(name: str, feature: float) -> str:
    """A feature as an analyst reads it: `1.4 GB`, `12`."""
    value = round(expm1(feature) * _unit(name))
    return f"{value:,}" if name in COUNTS else size(value)


def _unit(name: str) -> int:
    return 1 if name in COUNTS else LEAST_BYTES
