"""What coverage is made of: heartbeats, what flows explain of cards, and cells; opened from where they are needed on.

Times are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress.cardbytes import ON_CARDS
from egress.cells import DAY_US, MINUTE_US
from egress.days import Answers, Day
from egress.heartbeats import HEARTBEATS
from egress.schema import Table

From = Callable[[int], pl.DataFrame]
"""Rows of that time and later."""


@dataclass(frozen=True, slots=True)
class Recorded:
    beats: From
    """Heartbeats of hosts, by `time`."""
    sent: From
    """ON_CARDS, by `begin`."""
    said: pl.DataFrame
    """`minute len last`: how many heartbeats of hosts there were, and the last time of them."""
    cells: pl.DataFrame
    """`minute len first`: how many cells, and when the first packet of them was."""


@dataclass
class Minutes:
    """What was found out about the minutes of each day."""

    _said: Answers = field(default_factory=Answers)
    _cells: Answers = field(default_factory=Answers)

    def of(self, beats: Sequence[Day], sent: Sequence[Day], cells: Sequence[Day]) -> Recorded:
        """What was recorded on days; only those are opened that changed since, or that are asked for."""
        said = self._said.of(beats, lambda day: (_said(day),), None)
        minutes = self._cells.of(cells, lambda day: (_cells(day),), None)
        return Recorded(
            lambda begin: _of_hosts(_since(beats, begin, "time", HEARTBEATS)),
            lambda begin: _since(sent, begin, "begin", ON_CARDS),
            pl.concat([_NOTHING_SAID, *(each for (each,) in said)]),
            pl.concat([_NO_CELLS, *(each for (each,) in minutes)]),
        )


def recorded(beats: pl.DataFrame, sent: pl.DataFrame, cells: pl.DataFrame) -> Recorded:
    """Of whole frames."""
    return Recorded(
        lambda begin: _of_hosts(beats).filter(_us("time") >= begin),
        lambda begin: sent.filter(pl.col("begin") >= begin),
        _said(beats),
        _cells(cells),
    )


def _since(days: Sequence[Day], begin: int, time: str, table: Table) -> pl.DataFrame:
    opened = [day.opened() for day in days if (day.number + 1) * DAY_US > begin]
    return pl.concat([table.empty(), *opened]).filter(_us(time) >= begin)


def _of_hosts(beats: pl.DataFrame) -> pl.DataFrame:
    """A heartbeat about no host is a source's word that it goes on, or is at its end; it covers nobody."""
    return beats if (beats["host"] != "").all() else beats.filter(pl.col("host") != "")


def _said(beats: pl.DataFrame) -> pl.DataFrame:
    return _of_hosts(beats).group_by(_minute("time")).agg(pl.len().cast(pl.Int64), last=_us("time").max())


def _cells(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.group_by(_minute("minute")).agg(pl.len().cast(pl.Int64), first=_us("first").min())


def _us(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64)


def _minute(time: str) -> pl.Expr:
    return (_us(time) // MINUTE_US * MINUTE_US).alias("minute")


_NOTHING_SAID = pl.DataFrame(schema=dict.fromkeys(("minute", "len", "last"), pl.Int64))
_NO_CELLS = pl.DataFrame(schema=dict.fromkeys(("minute", "len", "first"), pl.Int64))
