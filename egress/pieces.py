"""Grow-only sums kept in pieces of time and task: what comes touches few of them, and only those are saved again.

Pieces join, so it does not matter in which order, how often, or from which moment of a run they are put together.
Sums of two tasks add up (`publications`). What nothing came of lately lies packed, as it is saved (`piece`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress import arrivals, heartbeats, sums
from egress.arrivals import SENSORS
from egress.cells import DAY_US, HOUR_US
from egress.dating import DatedDays, Dating
from egress.days import Day
from egress.heartbeats import HEARTBEATS
from egress.packing import unpack
from egress.piece import MOST_PIECE_BYTES, Cut, Piece

Saved = tuple[str, bytes]
"""A key and what stands under it."""


def of_kind(kind: sums.Kind) -> Cut:
    return Cut(kind.table, kind.join, kind.add, kind.key, kind.time, DAY_US if kind.span_us >= DAY_US else HOUR_US)


CUTS = (
    *map(of_kind, sums.KINDS),
    Cut(HEARTBEATS, heartbeats.add, heartbeats.add, heartbeats.KEY, "time"),
    Cut(SENSORS, arrivals.join, arrivals.add, arrivals.KEY),
)


@dataclass
class _Span:
    """What every task knows of one span of time."""

    tasks: dict[int, Piece] = field(default_factory=dict)
    version: int = 0

    def in_order(self) -> list[tuple[int, Piece]]:
        return sorted(self.tasks.items())


class Pieces:
    """Sums of one kind, by spans of time and by who summed."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._spans: dict[int, _Span] = {}
        self._open: dict[int, None] = {}
        """Spans that are not packed; the one that something came of last is the last."""
        self._version = 0

    def join(self, frame: pl.DataFrame, task: int = 0) -> None:
        """Takes states of any sums of this kind, as often as they come."""
        for span, part in self._by_span(frame):
            self._piece(span, task).take(part)
            self._touch(span)

    def total(self) -> pl.DataFrame:
        """All of them, each key once, span by span; in canonical order where that begins with time."""
        return self._concat(sorted(self._spans))

    def days(self) -> list[Day]:
        """The same by UTC days, in order."""
        by_day: dict[int, list[int]] = {}
        for span in sorted(self._spans):
            by_day.setdefault(span * self.cut.span_us // DAY_US, []).append(span)
        return [self._day(number, spans) for number, spans in by_day.items()]

    def by_task(self) -> list[pl.DataFrame]:
        """What each task knows, in order of their numbers."""
        states: dict[int, list[pl.DataFrame]] = {}
        for _, span in sorted(self._spans.items()):
            for task, piece in span.tasks.items():
                states.setdefault(task, []).append(piece.rows())
        return [pl.concat(states[task]) for task in sorted(states)]

    def changed(self) -> Iterator[Saved]:
        """Pieces that changed since they were asked for last, by key; what a key stood for is replaced.

        Whoever stores them one by one, in this order, has all at any moment.
        """
        for number, span in sorted(self._spans.items()):
            for task, piece in span.in_order():
                if not piece.is_saved:
                    for place, saved in reversed(list(enumerate(piece.saved()))):
                        yield f"{self.cut.table.name}/{task}/{number}/{place}", saved
                    piece.is_saved = True

    def restore(self, key: str, saved: bytes) -> None:
        """One piece, of whatever span. Raises WireError for bytes that are none, ValueError for a key that is none."""
        _, task, span, place = key.split("/")
        state = unpack(saved, self.cut.table, MOST_PIECE_BYTES)
        parts = list(self._by_span(state))
        if [number for number, _ in parts] != [int(span)]:
            self.join(state, int(task))
            return
        self._piece(int(span), int(task)).restore(int(place), saved, state)
        self._touch(int(span))

    def _piece(self, span: int, task: int) -> Piece:
        return self._spans.setdefault(span, _Span()).tasks.setdefault(task, Piece(self.cut))

    def _touch(self, span: int) -> None:
        """What came last is packed last: no clock is asked, so none is trusted."""
        self._version += 1
        self._spans[span].version = self._version
        self._open.pop(span, None)
        self._open[span] = None
        if len(self._open) > self.cut.open_spans:
            oldest = next(iter(self._open))
            del self._open[oldest]
            for piece in self._spans[oldest].tasks.values():
                piece.rest()

    def _by_span(self, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        if frame.is_empty():
            return
        if not self.cut.time:
            yield 0, frame
            return
        span = pl.col(self.cut.time).cast(pl.Int64) // self.cut.span_us
        for (number,), part in frame.group_by(span.alias("span"), maintain_order=True):
            yield int(number), part

    def _day(self, number: int, spans: Sequence[int]) -> Day:
        return Day(number, max(self._spans[span].version for span in spans), lambda: self._concat(spans))

    def _concat(self, spans: Sequence[int]) -> pl.DataFrame:
        return pl.concat([self.cut.table.empty(), *map(self._of_all_tasks, spans)])

    def _of_all_tasks(self, number: int) -> pl.DataFrame:
        """Each key once. Only hosts whose partition changed are known to more than one task."""
        states = [piece.rows() for _, piece in self._spans[number].in_order()]
        return states[0] if len(states) == 1 else self._added(states)

    def _added(self, states: Sequence[pl.DataFrame]) -> pl.DataFrame:
        hosts = pl.concat([state["host"].unique() for state in states])
        is_shared = pl.col("host").is_in(hosts.filter(hosts.is_duplicated()).unique().implode())
        every = pl.concat(states)
        shared = every.filter(is_shared)
        whole = pl.concat([every.filter(~is_shared), self.cut.add([shared])]) if shared.height else every
        return whole.sort(self.cut.key) if self.cut.is_ordered else whole


@dataclass(frozen=True, slots=True)
class KeptSums:
    """`sums.Seen` of pieces: what is asked for as a whole is opened for whoever asks, and is as large as it is."""

    pieces: Mapping[str, Pieces]
    dating: Dating = field(default_factory=Dating)

    def days(self, kind: str) -> list[Day]:
        """The days that there are of a kind, by its name, in order. A day that is not looked at costs nothing."""
        return self.pieces[kind].days()

    @property
    def dated_cells(self) -> DatedDays:
        return self.dating.of(self.days("cells"))

    @property
    def watermark(self) -> int:
        return self.dated_cells.watermark

    @property
    def cells(self) -> pl.DataFrame:
        return self.pieces["cells"].total()

    @property
    def signals(self) -> pl.DataFrame:
        return self.pieces["signals"].total()

    @property
    def conversations(self) -> pl.DataFrame:
        return self.pieces["conversations"].total()

    @property
    def on_cards(self) -> pl.DataFrame:
        return self.pieces["on_cards"].total()

    @property
    def heartbeats(self) -> pl.DataFrame:
        return self.pieces["heartbeats"].total()
