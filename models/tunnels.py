"""Bulk where only small messages belong, and traffic wrapped in other traffic.

Sums of a UTC day are compared with fixed limits (`models/kinds.py` says which and why). A transfer that stays below is
left to the ledger, which counts the same bytes for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import reduce
from operator import add, itemgetter

import polars as pl

from egress.words import at, size
from models import kinds
from models.reading import Line, Once, Reader, Rows, scores
from models.state import pack, unpack

VERSION = "1"

SPREAD_FACTOR = 4
"""Groups that each stay below the limit are judged together at four times it: a tunnel over several resolvers."""
SPREAD_SHARE = 8
"""... if large messages make up an eighth of the payload: a recursive resolver has many groups, but few long names."""

MAX_SUBJECTS = 65_536
"""(host, kind, group) counted in a day; beyond, those with the fewest counted bytes are forgotten."""


@dataclass(frozen=True, slots=True)
class Day:
    """What one host sent to one group in one way since 00:00 UTC; times in UTC microseconds, addresses as hex."""

    counted: int
    """Bytes that the limit is about."""
    sent: int
    packets: int
    received: int
    first: int
    last: int
    low: str
    high: str
    reported: int = 0
    """Of `sent`, what earlier scores have told."""

    def __add__(self, other: Day) -> Day:
        return Day(
            self.counted + other.counted,
            self.sent + other.sent,
            self.packets + other.packets,
            self.received + other.received,
            min(self.first, other.first),
            max(self.last, other.last),
            min(self.low, other.low),
            max(self.high, other.high),
            self.reported + other.reported,
        )


Way = tuple[str, str]
"""Host, and what it did, as in a title: `DNS tunnel to`."""
Groups = dict[str, Day]
Row = dict[str, object]


class Tunnels:
    """Sums of one UTC day, compared with fixed limits. A frame holds one window, windows come in order of time."""

    name = "tunnels"

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._judged = Once(self._judge)
        self._day = 0
        self._ways: dict[Way, Groups] = {}

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """What has passed its limit today and has grown in this window."""
        rows = [row for _, _, told in self._judged(signals) for row in told]
        return scores(rows)

    def learn(self, signals: pl.DataFrame) -> None:
        if signals.is_empty():
            return
        judged = self._judged(signals)
        self._judged.forget()
        day = _day_of(self._reader.rows(signals))
        if day > self._day:
            self._day, self._ways = day, {}
        if day == self._day:
            self._ways.update((way, groups) for way, groups, _ in judged)
            self._forget_smallest()

    def snapshot(self) -> bytes:
        days = [[*way, group, *astuple(day)] for way, groups in self._ways.items() for group, day in groups.items()]
        return pack(self.name, VERSION, {"day": self._day, "days": sorted(days)})

    def restore(self, state: bytes) -> None:
        body = unpack(self.name, VERSION, state)
        self._judged.forget()
        self._day, self._ways = body["day"], {}
        for host, what, group, *day in body["days"]:
            self._ways.setdefault((host, what), {})[group] = Day(*day)

    def _judge(self, signals: pl.DataFrame) -> list[tuple[Way, Groups, list[Row]]]:
        """For each way used in this window: all groups of today with this window's bytes in, and rows to tell."""
        if signals.is_empty():
            return []
        rows = self._reader.rows(signals)
        is_today, window = _day_of(rows) == self._day, rows.window
        judged = []
        for way, seen in _ways_of(_counted(rows)):
            known = self._ways.get(way, {}) if is_today else {}
            groups = known | {group: known[group] + day if group in known else day for group, day in seen.items()}
            judged.append(_judged_way(way, groups, seen, window))
        return judged

    def _forget_smallest(self) -> None:
        if sum(map(len, self._ways.values())) <= MAX_SUBJECTS:
            return
        subjects = [(day.counted, way, group) for way, groups in self._ways.items() for group, day in groups.items()]
        for _, way, group in sorted(subjects)[: max(0, len(subjects) - MAX_SUBJECTS)]:
            del self._ways[way][group]


def _judged_way(way: Way, groups: Groups, seen: Groups, window: Row) -> tuple[Way, Groups, list[Row]]:
    limit = kinds.limit_of(way[1])
    rows: list[Row] = []
    for group in sorted(seen):
        if groups[group].counted >= limit:
            rows.append(window | _row(way, group, groups[group], seen[group]))
            groups[group] = replace(groups[group], reported=groups[group].sent)
    below = {group: day for group, day in sorted(groups.items()) if day.counted < limit}
    if len(below) > 1 and below.keys() & seen.keys():
        together = reduce(add, below.values())
        if together.counted >= SPREAD_FACTOR * limit and together.counted * SPREAD_SHARE >= together.sent:
            now = reduce(add, [seen[group] for group in sorted(below.keys() & seen.keys())])
            rows.append(window | _row(way, "", together, now))
            groups |= {group: replace(day, reported=day.sent) for group, day in below.items()}
    return way, groups, rows


def _row(way: Way, group: str, day: Day, seen: Day) -> Row:
    host, what = way
    limit = kinds.limit_of(what) * (1 if group else SPREAD_FACTOR)
    return {
        "host": host,
        "detector": Tunnels.name,
        "group": group,
        "what": what,
        "score": day.counted / (day.counted + limit),
        "bytes": day.sent - day.reported,
        "first": at(seen.first if day.reported else day.first),
        "last": at(seen.last),
        "low_address": bytes.fromhex(day.low),
        "high_address": bytes.fromhex(day.high),
        "reason": _reason(what, group, day),
    }


def _reason(what: str, group: str, day: Day) -> str:
    kind = what.split()[0]
    mean = day.sent // max(day.packets, 1)
    place = f"{what.split()[-1]} {group}" if group else "over several destinations that each stay below the limit"
    carried = f"{kind}: {size(day.sent)} in {day.packets:,} packets {place} on {at(day.last):%Y-%m-%d}"
    if kind in kinds.ORDINARY:
        ordinary = f"{kinds.ORDINARY[kind]}; limit {size(kinds.SMALL_LIMIT)} a day beyond small messages"
        return f"{carried}, {mean} B each, {size(day.received)} came back; {ordinary}"
    return f"{carried}; limit {size(kinds.WRAPPED_LIMIT)} a day"


def _counted(rows: Rows) -> list[Line]:
    asked = zip(*(rows.column(name) for name in ("proto", "port", "is_encapsulated")), strict=True)
    return rows.lines(place for place, told in enumerate(asked) if kinds.may_count(*told))


def _ways_of(lines: Iterable[Line]) -> list[tuple[Way, Groups]]:
    """Sums of one window by host, way and group, in order."""
    ways: dict[Way, Groups] = {}
    for line in lines:
        kind = kinds.counted(line)
        if kind is not None:
            groups, day = ways.setdefault((line.host, kind.what), {}), _day(line, kind)
            groups[line.group] = groups[line.group] + day if line.group in groups else day
    return sorted(ways.items(), key=itemgetter(0))


def _day(line: Line, kind: kinds.Counted) -> Day:
    return Day(
        kind.counted,
        kind.sent,
        line.sent_packets,
        line.received_payload,
        line.first,
        line.last,
        line.low_address.hex(),
        line.high_address.hex(),
    )


def _day_of(rows: Rows) -> int:
    return at(rows.start).toordinal()
