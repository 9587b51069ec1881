"""Rows of one window as detectors read them: fetched once for all detectors that are made together, each byte once.

A window of one host has few rows, and a Polars query costs as much as reading hundreds of them in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

import polars as pl

from egress.cells import MOST
from egress.signals import SCORES, one_vantage
from egress.words import at
from models.outside import Exchange, Row, Traffic, Window

UDP = 17
NO_SCORES = SCORES.empty()
"""What most windows come to; made once, as making it costs more than reading a window."""

Got = TypeVar("Got")


class Line(NamedTuple):
    """One row of SIGNALS; times in UTC microseconds."""

    host: str
    group: str
    sensor: str
    role: str
    model_bytes: int
    is_tied: bool
    is_outside: bool
    is_encapsulated: bool
    proto: int
    port: int
    served: bool
    tunnel: str
    name: str
    sent: int
    received: int
    sent_payload: int
    oversize: int
    received_payload: int
    sent_packets: int
    flows: int
    first: int
    last: int
    low_address: bytes
    high_address: bytes
    start: int
    """Of the window, which is the same for all."""
    seconds: int

    @property
    def window(self) -> Row:
        """The part of a row of SCORES that says when."""
        return {"window_start": at(self.start), "window_s": self.seconds}


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


class Reader:
    """Answers about the latest window, for as many detectors as share it. A window has at least one row."""

    def __init__(self) -> None:
        self.lines = Once(lines_of)
        """By host and group, without doubles."""
        self.outside = Once(lambda signals: self._window(signals, is_inside_too=False))
        """What hosts exchanged with the outside; hosts that exchanged nothing with it are left out."""
        self.everywhere = Once(lambda signals: self._window(signals, is_inside_too=True))
        """What hosts exchanged with anybody."""

    def _window(self, signals: pl.DataFrame, is_inside_too: bool) -> Window:
        lines = self.lines(signals)
        return Window(
            lines[0].start, lines[0].seconds, tuple(_hosts(line for line in lines if line.is_outside or is_inside_too))
        )


def lines_of(signals: pl.DataFrame) -> list[Line]:
    """Rows by host and group; of several sensors that saw one group, the one that saw most bytes."""
    lines = _sorted(signals)
    if _has_doubles(lines):
        lines = _sorted(one_vantage(signals))
    return lines


def scores(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of SCORES as a frame."""
    return pl.DataFrame(rows, schema=SCORES.polars) if rows else NO_SCORES


def _sorted(signals: pl.DataFrame) -> list[Line]:
    return sorted(map(Line._make, signals.select(_READ).iter_rows()), key=itemgetter(0, 1))


def _has_doubles(lines: Iterable[Line]) -> bool:
    before = "", "", ""
    for line in lines:
        if line[:2] == before[:2] and line.sensor != before[2]:
            return True
        before = line[:3]
    return False


def _hosts(lines: Iterator[Line]) -> Iterator[Traffic]:
    for host, own in groupby(lines, key=itemgetter(0)):
        mine = list(own)
        exchanges = [_exchange(tuple(some)) for _, some in groupby(mine, key=itemgetter(1))]
        yield Traffic(
            str(host),
            mine[0].role,
            mine[0].model_bytes,
            tuple(exchanges),
            sum([each.sent for each in exchanges]),
            sum([each.received for each in exchanges]),
            min([each.first for each in exchanges]),
            max([each.last for each in exchanges]),
            mine[0].is_tied,
        )


def _exchange(lines: Sequence[Line]) -> Exchange:
    """What the lines of one host and group come to."""
    if len(lines) > 1:
        return _together(lines)
    line = lines[0]
    return Exchange(
        line.group,
        line.is_outside,
        line.sent,
        line.received,
        line.first,
        line.last,
        line.low_address,
        line.high_address,
        line.sent if line.served else 0,
        line.sent if line.proto == UDP else 0,
        line.flows,
    )


def _together(lines: Sequence[Line]) -> Exchange:
    return Exchange(
        lines[0].group,
        any(line.is_outside for line in lines),
        min(sum([line.sent for line in lines]), MOST),
        min(sum([line.received for line in lines]), MOST),
        min([line.first for line in lines]),
        max([line.last for line in lines]),
        min([line.low_address for line in lines]),
        max([line.high_address for line in lines]),
        min(sum([line.sent for line in lines if line.served]), MOST),
        min(sum([line.sent for line in lines if line.proto == UDP]), MOST),
        min(sum([line.flows for line in lines]), MOST),
    )


_READ = [
    *(pl.col(name) for name in Line._fields[:-6]),
    pl.col("first", "last").cast(pl.Int64),
    pl.col("low_address", "high_address"),
    pl.col("window_start").cast(pl.Int64),
    pl.col("window_s"),
]
"""In the order of `Line`."""
