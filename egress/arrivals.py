"""Which messages of each sensor came: each counts once, and what never came is known.

A sensor numbers its messages from 0 in each epoch (one start of it, or one content of a file). What was seen is kept as
ranges of numbers, so a sensor that lost nothing costs one range, however long it runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from egress.eventtime import Placed
from egress.schema import TIME, Column, Table

MOST_RANGES = 64
"""Holes remembered in one epoch; the oldest is then taken as lost for good: what comes of it later is a duplicate."""
MOST_EPOCHS = 64
"""Epochs remembered of one sensor and host: longer ago, a message sent again counts again."""
NO_NUMBER = 2**53
"""Above every number and every time."""


def _text(name: str, meaning: str) -> Column:
    return Column(name, pl.String(), "LowCardinality(String)", meaning, default="")


def _number(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name, pl.Int64(), "Int64", meaning, unit, "T64, ZSTD(1)", 0)


def _time(name: str, meaning: str) -> Column:
    return Column(name, TIME, "DateTime64(6, 'UTC')", meaning, "UTC microseconds", "DoubleDelta, ZSTD(1)")


_LEAST = ("first_seq", "first_offset", "first")
_MOST = ("last_seq", "received", "duplicates", "rewound", "rows", "late_rows", "skewed_rows", "last_offset", "last")
_COUNTED = ("received", "duplicates", "rewound", "rows", "late_rows", "skewed_rows")

SENSORS = Table(
    "sensors",
    "One row is what came of one sensor about one host in one epoch.",
    (
        _text("host", "watched host; empty: rows about none"),
        _text("sensor", "which instance of the collector"),
        _text("boot", "which start of the host; empty if unknown"),
        _text("epoch", "which start of the sensor, or which content of a file"),
        _number("first_seq", "lowest number of a message that came"),
        _number("last_seq", "highest number of a message that came"),
        _number("received", "different numbers that came; last_seq - first_seq + 1 - received are missing", "messages"),
        _number("duplicates", "messages that came again, and were dropped", "messages"),
        _number(
            "rewound", "messages whose number was used before for earlier traffic: the sensor went back", "messages"
        ),
        _number("rows", "rows charged", "rows"),
        _number("late_rows", "of them behind the horizon when they came, and charged at it", "rows"),
        _number("skewed_rows", "of them from a time that the rest of the stream contradicts", "rows"),
        _number("first_offset", "where the first message lies in its partition"),
        _number("last_offset", "where the last one lies"),
        _time("first", "earliest believed start of a row"),
        _time("last", "latest believed start of a row"),
    ),
)

KEY = ("host", "sensor", "boot", "epoch")


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same sensors as one: what saw more of them. Idempotent; in canonical order."""
    states = pl.concat([SENSORS.empty(), *parts]).lazy()
    joined = states.group_by(KEY).agg(pl.col(_LEAST).min(), pl.col(_MOST).max())
    return joined.sort(KEY).select(SENSORS.names).collect()


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What different partitions know of the same sensors, in canonical order; offsets then say nothing any more."""
    states = pl.concat([SENSORS.empty(), *parts]).lazy()
    outwards = [pl.col(_LEAST).min(), pl.col([name for name in _MOST if name not in _COUNTED]).max()]
    added = states.group_by(KEY).agg(pl.col(_COUNTED).sum(), *outwards)
    return added.sort(KEY).select(SENSORS.names).collect()


@dataclass(slots=True)
class Numbers:
    """A set of numbers as ranges, both ends included, in order."""

    ranges: list[list[int]] = field(default_factory=list)

    def add(self, number: int) -> bool:
        """True if it was not there before."""
        ranges = self.ranges
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
            return True
        at = bisect_right(ranges, number, key=lambda each: each[0])
        if at and number <= ranges[at - 1][1]:
            return False
        ranges.insert(at, [number, number])
        self._close(at)
        if len(ranges) > MOST_RANGES:
            ranges[0][1] = ranges.pop(1)[1]
        return True

    def text(self) -> str:
        return ",".join(f"{low}-{high}" for low, high in self.ranges)

    def _close(self, at: int) -> None:
        """Ranges that touch become one."""
        for left in (at, at - 1):
            if 0 <= left < len(self.ranges) - 1 and self.ranges[left][1] + 1 == self.ranges[left + 1][0]:
                self.ranges[left][1] = self.ranges.pop(left + 1)[1]


def numbers_of(text: str) -> Numbers:
    """What `Numbers.text` gave. Raises ValueError for anything else."""
    pairs = [pair.split("-") for pair in text.split(",") if pair]
    return Numbers([[int(low), int(high)] for low, high in pairs])


@dataclass(slots=True)
class Epoch:
    """What came of one epoch; the columns of SENSORS that are no key."""

    boot: str
    seen: Numbers = field(default_factory=Numbers)
    first_seq: int = NO_NUMBER
    last_seq: int = -1
    received: int = 0
    duplicates: int = 0
    rewound: int = 0
    rows: int = 0
    late_rows: int = 0
    skewed_rows: int = 0
    first_offset: int = NO_NUMBER
    last_offset: int = -1
    first: int = NO_NUMBER
    last: int = 0
    reach: int = 0
    """The latest time at which the rows of a message started."""

    def admits(self, seq: int, offset: int, start: int) -> bool:
        """Whether to count this message, whose rows start at `start` or later; it is noted in either case.

        A number that was seen is a message sent again, unless all of it happened after everything that came: then the
        sensor went back (a machine restored from its picture), and nobody told us of these rows before.
        """
        self.first_offset, self.last_offset = min(self.first_offset, offset), max(self.last_offset, offset)
        if self.seen.add(seq):
            self.received += 1
            self.first_seq, self.last_seq = min(self.first_seq, seq), max(self.last_seq, seq)
        elif start > self.reach:
            self.rewound += 1
        else:
            self.duplicates += 1
            return False
        self.reach = max(self.reach, start)
        return True

    def count(self, rows: int, placed: Placed | None) -> None:
        """Notes rows that were charged; None: they are about no host, and nobody asked when they happened."""
        self.rows += rows
        if placed is not None:
            self.late_rows += placed.late
            self.skewed_rows += placed.skewed
            self.first, self.last = min(self.first, placed.first), max(self.last, placed.last)

    def row(self) -> tuple[int, ...]:
        """Values of SENSORS behind its key."""
        return (
            self.first_seq,
            self.last_seq,
            self.received,
            self.duplicates,
            self.rewound,
            self.rows,
            self.late_rows,
            self.skewed_rows,
            self.first_offset,
            self.last_offset,
            self.first,
            self.last,
        )
