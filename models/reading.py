"""Rows of one window as detectors read them: fetched once for all detectors that are made together, each byte once.

A window of one host has few rows, and a Polars query costs as much as reading hundreds of them in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        self.of_hosts = Once(lambda signals: _of_hosts(self.lines(signals)))
        """The same by host, in order."""
        self._windows = Once(lambda signals: _windows(self.of_hosts(signals)))

    def everywhere(self, signals: pl.DataFrame) -> Window:
        """What hosts exchanged with anybody."""
        return self._windows(signals)[0]

    def outside(self, signals: pl.DataFrame) -> Window:
        """What hosts exchanged with the outside; hosts that exchanged nothing with it are left out."""
        return self._windows(signals)[1]


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
    columns = [column.to_list() for column in signals.select(_READ).get_columns()]
    return sorted(map(Line._make, zip(*columns, strict=True)), key=_PLACE)


def _has_doubles(lines: Sequence[Line]) -> bool:
    places = set(map(_PLACE, lines))
    return len(places) != len(set(map(_VIEW, lines)))


def _of_hosts(lines: Iterable[Line]) -> dict[str, list[Line]]:
    return {host: list(own) for host, own in groupby(lines, key=_HOST)}


def _windows(of_hosts: Mapping[str, Sequence[Line]]) -> tuple[Window, Window]:
    """What hosts exchanged with anybody, and with the outside."""
    everywhere: list[Traffic] = []
    outside: list[Traffic] = []
    for own in of_hosts.values():
        both = list(_exchanges(own))
        everywhere.append(_traffic(own[0], [every for every, _ in both]))
        left = [out for _, out in both if out is not None]
        if left:
            outside.append(_traffic(own[0], left))
    start, seconds = next((own[0].start, own[0].seconds) for own in of_hosts.values())
    return Window(start, seconds, tuple(everywhere)), Window(start, seconds, tuple(outside))


def _traffic(line: Line, exchanges: Sequence[Exchange]) -> Traffic:
    """`line` is any of the host's."""
    return Traffic(
        line.host,
        line.role,
        line.model_bytes,
        tuple(exchanges),
        sum([each.sent for each in exchanges]),
        sum([each.received for each in exchanges]),
        min([each.first for each in exchanges]),
        max([each.last for each in exchanges]),
        line.is_tied,
    )


def _exchanges(lines: Iterable[Line]) -> Iterator[tuple[Exchange, Exchange | None]]:
    """For each group of one host all that was exchanged, and what of it with the outside."""
    for _, same in groupby(lines, key=_GROUP):
        some = list(same)
        every = _exchange(some)
        left = [line for line in some if line.is_outside]
        yield every, every if len(left) == len(some) else _exchange(left) if left else None


def _exchange(lines: Sequence[Line]) -> Exchange:
    """What the lines of one host and group come to."""
    one = lines[0]
    is_outside, first, last, low, high = one.is_outside, one.first, one.last, one.low_address, one.high_address
    sent = received = answered = over_udp = conversations = 0
    for line in lines:
        sent += line.sent
        received += line.received
        answered += line.sent if line.served else 0
        over_udp += line.sent if line.proto == UDP else 0
        conversations += line.flows
    for line in lines[1:]:
        is_outside = is_outside or line.is_outside
        first, last = min(first, line.first), max(last, line.last)
        low, high = min(low, line.low_address), max(high, line.high_address)
    if max(sent, received, conversations) > MOST:
        counts = sent, received, answered, over_udp, conversations
        sent, received, answered, over_udp, conversations = (min(count, MOST) for count in counts)
    ends = first, last, low, high
    return Exchange(one.group, is_outside, sent, received, *ends, answered, over_udp, conversations)


_READ = [
    *(pl.col(name) for name in Line._fields[:-6]),
    pl.col("first", "last").cast(pl.Int64),
    pl.col("low_address", "high_address"),
    pl.col("window_start").cast(pl.Int64),
    pl.col("window_s"),
]
"""In the order of `Line`."""
_HOST, _GROUP = (itemgetter(Line._fields.index(name)) for name in ("host", "group"))
_PLACE, _VIEW = itemgetter(0, 1), itemgetter(0, 1, 2)
"""Host and group, and the sensor that saw it."""
