"""Rows of one window as detectors read them: fetched once for all detectors that are made together, each byte once.

A window of one host has few rows, and a Polars query costs as much as reading hundreds of them in a loop. They stay
columns: a row is made an object only where there is something to tell of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, pairwise
from operator import le
from typing import Any, Generic, NamedTuple, TypeVar

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


class Rows:
    """Rows of one window by host and group, as columns: most are asked only for what a host's come to."""

    def __init__(self, columns: Sequence[list[Any]]) -> None:
        """`columns` in the order of `Line`, their rows by host and group."""
        self._columns = columns
        hosts = self.column("host")
        self.start: int = self.column("start")[0]
        self.seconds: int = self.column("seconds")[0]
        self.of_hosts = {hosts[begin]: range(begin, end) for begin, end in _runs(hosts)}
        """Places, in order."""

    @property
    def window(self) -> Row:
        """The part of a row of SCORES that says when."""
        return {"window_start": at(self.start), "window_s": self.seconds}

    def column(self, name: str) -> list[Any]:
        """Values of a field of `Line`."""
        return self._columns[Line._fields.index(name)]

    def lines(self, places: Iterable[int]) -> list[Line]:
        return [Line._make([column[place] for column in self._columns]) for place in places]

    def lines_of(self, host: str) -> list[Line]:
        return self.lines(self.of_hosts[host])


class Reader:
    """Answers about the latest window, for as many detectors as share it. A window has at least one row."""

    def __init__(self) -> None:
        self.rows = Once(rows_of)
        """Without doubles."""
        self._windows = Once(lambda signals: _windows(self.rows(signals)))

    def everywhere(self, signals: pl.DataFrame) -> Window:
        """What hosts exchanged with anybody."""
        return self._windows(signals)[0]

    def outside(self, signals: pl.DataFrame) -> Window:
        """What hosts exchanged with the outside; hosts that exchanged nothing with it are left out."""
        return self._windows(signals)[1]


def rows_of(signals: pl.DataFrame) -> Rows:
    """Rows by host and group; of several sensors that saw one group, the one that saw most bytes."""
    columns = _columns(signals)
    if _has_doubles(columns):
        columns = _columns(one_vantage(signals))
    return Rows(_in_order(columns))


def scores(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of SCORES as a frame."""
    return pl.DataFrame(rows, schema=SCORES.polars) if rows else NO_SCORES


def _columns(signals: pl.DataFrame) -> list[list[Any]]:
    return [column.to_list() for column in signals.select(_READ).get_columns()]


def _in_order(columns: list[list[Any]]) -> list[list[Any]]:
    places = list(zip(columns[_HOST], columns[_GROUP], strict=True))
    if all(map(le, places, places[1:])):
        return columns
    order = sorted(range(len(places)), key=places.__getitem__)
    return [[column[place] for place in order] for column in columns]


def _has_doubles(columns: Sequence[list[Any]]) -> bool:
    hosts, groups, sensors = (columns[place] for place in (_HOST, _GROUP, _SENSOR))
    if len(set(sensors)) < 2:
        return False
    return len(set(zip(hosts, groups, strict=True))) != len(set(zip(hosts, groups, sensors, strict=True)))


def _runs(values: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    begins = [0, *(place for place, (one, after) in enumerate(pairwise(values), 1) if one != after)]
    return pairwise([*begins, len(values)])


def _windows(rows: Rows) -> tuple[Window, Window]:
    """What hosts exchanged with anybody, and with the outside."""
    everywhere: list[Traffic] = []
    outside: list[Traffic] = []
    summed = [rows.column(name) for name in _SUMMED]
    roles, models, tied = (rows.column(name) for name in ("role", "model_bytes", "is_tied"))
    for host, places in rows.of_hosts.items():
        place = places.start
        about = host, roles[place], models[place], tied[place]
        both = list(_exchanges([column[places.start : places.stop] for column in summed]))
        everywhere.append(_traffic(*about, [every for every, _ in both]))
        left = [out for _, out in both if out is not None]
        if left:
            outside.append(_traffic(*about, left))
    return Window(rows.start, rows.seconds, tuple(everywhere)), Window(rows.start, rows.seconds, tuple(outside))


def _traffic(host: str, role: str, model_bytes: int, is_tied: bool, exchanges: Sequence[Exchange]) -> Traffic:
    return Traffic(
        host,
        role,
        model_bytes,
        tuple(exchanges),
        sum([each.sent for each in exchanges]),
        sum([each.received for each in exchanges]),
        min([each.first for each in exchanges]),
        max([each.last for each in exchanges]),
        is_tied,
    )


def _exchanges(columns: Sequence[list[Any]]) -> Iterator[tuple[Exchange, Exchange | None]]:
    """For each group of one host all that was exchanged, and what of it with the outside; `columns` as `_SUMMED`."""
    for begin, end in _runs(columns[0]):
        same = [column[begin:end] for column in columns]
        every, is_outside = _exchange(*same), same[1]
        if all(is_outside):
            yield every, every
        elif any(is_outside):
            yield every, _exchange(*(list(compress(column, is_outside)) for column in same))
        else:
            yield every, None


def _exchange(
    groups: list[str],
    outside: list[bool],
    sent: list[int],
    received: list[int],
    first: list[int],
    last: list[int],
    low: list[bytes],
    high: list[bytes],
    served: list[bool],
    protos: list[int],
    conversations: list[int],
) -> Exchange:
    """What the rows of one host and group come to."""
    out, back, begun = sum(sent), sum(received), sum(conversations)
    answered = sum(compress(sent, served))
    over_udp = sum([amount for amount, proto in zip(sent, protos, strict=True) if proto == UDP])
    if max(out, back, begun) > MOST:
        out, back, answered, over_udp, begun = (min(count, MOST) for count in (out, back, answered, over_udp, begun))
    ends = min(first), max(last), min(low), max(high)
    return Exchange(groups[0], any(outside), out, back, *ends, answered, over_udp, begun)


_READ = [
    *(pl.col(name) for name in Line._fields[:-6]),
    pl.col("first", "last").cast(pl.Int64),
    pl.col("low_address", "high_address"),
    pl.col("window_start").cast(pl.Int64),
    pl.col("window_s"),
]
"""In the order of `Line`."""
_HOST, _GROUP, _SENSOR = (Line._fields.index(name) for name in ("host", "group", "sensor"))
_SUMMED = (
    "group",
    "is_outside",
    "sent",
    "received",
    "first",
    "last",
    "low_address",
    "high_address",
    "served",
    "proto",
    "flows",
)
"""What `_exchange` takes."""
