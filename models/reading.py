"""Rows of one window as detectors read them: fetched once for all detectors that are made together, each byte once.

A window of one host has few rows, and a Polars query costs as much as reading hundreds of them in a loop. They stay
columns: a row is made an object only where there is something to tell of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress, pairwise
from operator import lt
from typing import Any, Generic, NamedTuple, TypeVar

import polars as pl

from egress.cells import MOST
from egress.schema import TIME
from egress.signals import SCORES, one_vantage
from egress.words import at
from models.outside import Exchange, Row, Traffic, Window

UDP = 17
NO_SCORES = SCORES.empty()
"""What most windows come to; made once, as making it costs more than reading a window."""

Got = TypeVar("Got")
Run = tuple[int, int]


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
    """Rows of one window by host and group, as columns, read when they are asked for: most are asked of few windows."""

    def __init__(self, signals: pl.DataFrame) -> None:
        self._signals = signals
        self._columns: dict[str, list[Any]] = {}
        self.start: int = signals["window_start"].cast(pl.Int64)[0]
        self.seconds: int = signals["window_s"][0]
        self.places = list(zip(self.column("host"), self.column("group"), strict=True))
        self.runs = list(_runs(self.places))
        """Begin and end of each group of each host."""

    @property
    def window(self) -> Row:
        """The part of a row of SCORES that says when."""
        return {"window_start": at(self.start), "window_s": self.seconds}

    @cached_property
    def of_hosts(self) -> dict[str, list[Run]]:
        """Groups of each host, in order."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(self.places[run[0]][0], []).append(run)
        return found

    def column(self, name: str) -> list[Any]:
        """Values of a field of `Line`."""
        if name not in self._columns:
            values = self._signals[_NAMES.get(name, name)]
            self._columns[name] = (values.cast(pl.Int64) if values.dtype == TIME else values).to_list()
        return self._columns[name]

    def of_host(self, name: str, host: str) -> list[Any]:
        """Values of a field of one host's rows."""
        return self.column(name)[self._span(host)]

    def lines(self, places: Iterable[int]) -> list[Line]:
        asked = list(places)
        columns = [self.column(name) for name in Line._fields] if asked else []
        return [Line._make([column[place] for column in columns]) for place in asked]

    def lines_of(self, host: str) -> list[Line]:
        span = self._span(host)
        return self.lines(range(span.start, span.stop))

    def _span(self, host: str) -> slice:
        runs = self.of_hosts[host]
        return slice(runs[0][0], runs[-1][1])

    def in_order(self) -> Rows:
        """The same rows, by host and group."""
        begins = [self.places[begin] for begin, _ in self.runs]
        if all(map(lt, begins, begins[1:])):
            return self
        return Rows(self._signals[sorted(range(len(self.places)), key=self.places.__getitem__)])

    @property
    def has_doubles(self) -> bool:
        if self._signals["sensor"].n_unique() < 2:
            return False
        seen = set(zip(self.places, self.column("sensor"), strict=True))
        return len(seen) != len(set(self.places))


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
    rows = Rows(signals)
    return (Rows(one_vantage(signals)) if rows.has_doubles else rows).in_order()


def scores(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of SCORES as a frame."""
    return pl.DataFrame(rows, schema=SCORES.polars) if rows else NO_SCORES


def _runs(values: Sequence[object]) -> Iterator[Run]:
    """Begin and end of each run of equal values."""
    begins = [0, *(place for place, (one, after) in enumerate(pairwise(values), 1) if one != after)]
    return pairwise([*begins, len(values)])


def _windows(rows: Rows) -> tuple[Window, Window]:
    """What hosts exchanged with anybody, and with the outside."""
    everywhere: list[Traffic] = []
    outside: list[Traffic] = []
    columns = _exchanged(rows)
    roles, models, tied = (rows.column(name) for name in ("role", "model_bytes", "is_tied"))
    for host, runs in rows.of_hosts.items():
        place = runs[0][0]
        about = host, roles[place], models[place], tied[place]
        every = [_exchange(columns, *run) for run in runs]
        everywhere.append(_traffic(*about, every))
        left = [_part_outside(each, columns, *run) for each, run in zip(every, runs, strict=True) if each.is_outside]
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


def _exchanged(rows: Rows) -> list[list[Any]]:
    """Columns of the fields of `Exchange`."""
    sent, served, protos = (rows.column(name) for name in ("sent", "served", "proto"))
    answered = [amount if is_answer else 0 for amount, is_answer in zip(sent, served, strict=True)]
    over_udp = [amount if proto == UDP else 0 for amount, proto in zip(sent, protos, strict=True)]
    whole = ("group", "is_outside", "sent", "received", "first", "last", "low_address", "high_address")
    return [*(rows.column(name) for name in whole), answered, over_udp, rows.column("flows")]


def _exchange(columns: Sequence[list[Any]], begin: int, end: int) -> Exchange:
    """What the rows of one host and group come to."""
    if end - begin == 1:
        return Exchange._make([column[begin] for column in columns])
    groups, outside, sent, received, first, last, low, high, answered, over_udp, conversations = (
        column[begin:end] for column in columns
    )
    ends = min(first), max(last), min(low), max(high)
    sums = [sum(sent), sum(received), sum(answered), sum(over_udp), sum(conversations)]
    if max(sums) > MOST:
        sums = [min(count, MOST) for count in sums]
    out, back, *others = sums
    return Exchange(groups[0], any(outside), out, back, *ends, *others)


def _part_outside(every: Exchange, columns: Sequence[list[Any]], begin: int, end: int) -> Exchange:
    """What of an exchange was with the outside."""
    is_outside = columns[_OUTSIDE][begin:end]
    if all(is_outside):
        return every
    left = [list(compress(column[begin:end], is_outside)) for column in columns]
    return _exchange(left, 0, len(left[0]))


_NAMES = {"start": "window_start", "seconds": "window_s"}
"""Columns of SIGNALS whose name is not that of the field."""
_OUTSIDE = Exchange._fields.index("is_outside")
