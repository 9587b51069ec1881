"""Bulk where only small messages belong, and traffic wrapped in other traffic.

Limits are absolute and per UTC day, so there is nothing to train and nothing to poison. What each protocol may carry is
explained beside its rule; a transfer that stays below is left to the ledger, which counts the same bytes for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import groupby
from operator import add
from typing import cast

import polars as pl

from egress.signals import SCORES, one_vantage
from egress.words import EPOCH, size
from models.state import pack, unpack

VERSION = "1"

SMALL_LIMIT = 256 * 1024
"""Bytes of large messages a day and group in protocols of small ones. A client that asks a resolver 100,000 times a
day, one in a hundred with a name near the longest allowed (query of 282 B, RFC 1035), sends 186 kB beyond 96 B each."""
WRAPPED_LIMIT = 1024 * 1024
"""Bytes a day and group inside tunnels that leave. Keepalives of a tunnel that nobody uses stay far below: WireGuard's
32 B and IPsec's 1 B every 20-25 s are 0.1 MB a day."""
SPREAD_FACTOR = 4
"""Groups that each stay below the limit are judged together at four times it: a tunnel over several resolvers."""
SPREAD_SHARE = 8
"""... if large messages make up an eighth of the payload: a recursive resolver has many groups, but few long names."""

ECHO_SHARE = 128
"""Small ICMP messages count a 128th: a steady ping of 56 B each second (4.8 MB a day) counts 38 kB of the limit."""
NTP_MESSAGE = 320
"""NTP asks with 48 B (RFC 5905), with network time security about 230 B (RFC 8915)."""

ENCAPSULATION_PORTS = {
    500: "IPsec",
    1194: "OpenVPN",
    1701: "L2TP",
    2152: "GTP-U",
    3544: "Teredo",
    4500: "IPsec",
    4789: "VXLAN",
    6081: "Geneve",
    8472: "VXLAN",
    51820: "WireGuard",
}
"""UDP ports (IANA; WireGuard's and Linux VXLAN's by custom) of tunnels whose inside is not decoded."""
ENCAPSULATION_PROTOCOLS = {
    4: "IPIP",
    41: "6in4",
    47: "GRE",
    50: "ESP",
    51: "AH",
    94: "IPIP",
    97: "EtherIP",
    115: "L2TP",
}
"""IP protocols (IANA) of tunnels whose inside is not decoded."""
USUAL_PROTOCOLS = [1, 6, 17, 58]
"""ICMP, TCP, UDP, ICMPv6: everything else that leaves an AI host is unusual in itself."""

MAX_SUBJECTS = 65_536
"""(host, kind, group) counted in a day; beyond, those with the fewest counted bytes are forgotten."""


SMALL_KINDS = ("DNS", "ICMP", "NTP")
ORDINARY = {
    "DNS": "ordinary queries have 40-60 B and larger answers",
    "ICMP": "ordinary pings have 64 B",
    "NTP": "ordinary requests have 48 B",
}


SMALL_KINDS = ("DNS", "ICMP", "NTP")
ORDINARY = {
    "DNS": "ordinary queries have 40-60 B and larger answers",
    "ICMP": "ordinary pings have 64 B",
    "NTP": "ordinary requests have 48 B",
}


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

    def __init__(self) -> None:
        self._day = 0
        self._ways: dict[Way, Groups] = {}

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """What has passed its limit today and has grown in this window."""
        rows = [row for _, _, told in self._judged(signals) for row in told]
        return pl.DataFrame(rows, schema=SCORES.polars, orient="row")

    def learn(self, signals: pl.DataFrame) -> None:
        if signals.is_empty():
            return
        judged = list(self._judged(signals))
        day = _day_of(signals)
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
        self._day, self._ways = body["day"], {}
        for host, what, group, *day in body["days"]:
            self._ways.setdefault((host, what), {})[group] = Day(*day)

    def _judged(self, signals: pl.DataFrame) -> Iterator[tuple[Way, Groups, list[Row]]]:
        """For each way used in this window: all groups of today with this window's bytes in, and rows to tell."""
        if signals.is_empty():
            return
        is_today = _day_of(signals) == self._day
        for way, seen in _ways_of(signals):
            known = self._ways.get(way, {}) if is_today else {}
            groups = known | {group: known[group] + day if group in known else day for group, day in seen.items()}
            yield _judge(way, groups, seen, _window_of(signals))

    def _forget_smallest(self) -> None:
        subjects = [(day.counted, way, group) for way, groups in self._ways.items() for group, day in groups.items()]
        for _, way, group in sorted(subjects)[: max(0, len(subjects) - MAX_SUBJECTS)]:
            del self._ways[way][group]


def _judge(way: Way, groups: Groups, seen: Groups, window: Row) -> tuple[Way, Groups, list[Row]]:
    limit = _limit_of(way[1])
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
    limit = _limit_of(what) * (1 if group else SPREAD_FACTOR)
    return {
        "host": host,
        "detector": Tunnels.name,
        "group": group,
        "what": what,
        "score": day.counted / (day.counted + limit),
        "bytes": day.sent - day.reported,
        "first": _at(seen.first if day.reported else day.first),
        "last": _at(seen.last),
        "low_address": bytes.fromhex(day.low),
        "high_address": bytes.fromhex(day.high),
        "reason": _reason(what, group, day),
    }


def _reason(what: str, group: str, day: Day) -> str:
    kind = what.split()[0]
    mean = day.sent // max(day.packets, 1)
    place = f"{what.split()[-1]} {group}" if group else "over several destinations that each stay below the limit"
    carried = f"{kind}: {size(day.sent)} in {day.packets:,} packets {place} on {_at(day.last):%Y-%m-%d}"
    if kind in ORDINARY:
        back = f"{size(day.received)} came back"
        return f"{carried}, {mean} B each ({ORDINARY[kind]}), {back}; limit {size(SMALL_LIMIT)} beyond small messages"
    return f"{carried}; limit {size(WRAPPED_LIMIT)} a day"


def _limit_of(what: str) -> int:
    return SMALL_LIMIT if what.startswith(SMALL_KINDS) else WRAPPED_LIMIT


def _ways_of(signals: pl.DataFrame) -> Iterator[tuple[Way, Groups]]:
    """Sums of one window by host, way and group, in order."""
    summed = (
        one_vantage(signals)
        .lazy()
        .select("host", "group", _what(), _counted(), _sent(), *TAKEN_AS_THEY_ARE)
        .filter(pl.col("what").is_not_null() & (pl.col("sent") > 0))
        .group_by("host", "what", "group")
        .agg(
            pl.col("counted", "sent", "sent_packets", "received_payload").sum(),
            pl.col("first").dt.epoch("us").min(),
            pl.col("last").dt.epoch("us").max(),
            pl.col("low_address").bin.encode("hex").min(),
            pl.col("high_address").bin.encode("hex").max(),
        )
        .sort("host", "what", "group")
        .collect()
    )
    for way, rows in groupby(summed.iter_rows(), key=lambda row: (row[0], row[1])):
        yield way, {row[2]: Day(*row[3:]) for row in rows}


TAKEN_AS_THEY_ARE = ("sent_packets", "received_payload", "first", "last", "low_address", "high_address")
IS_DNS = pl.col("proto").is_in([6, 17]) & (pl.col("port") == 53) & ~pl.col("served")
IS_ICMP = pl.col("proto").is_in([1, 58]) & pl.col("is_outside")
IS_NTP = (pl.col("proto") == 17) & (pl.col("port") == 123) & ~pl.col("served") & pl.col("is_outside")
IS_WRAPPED = pl.col("is_encapsulated")
IS_PORT_OF_TUNNEL = (pl.col("proto") == 17) & pl.col("port").is_in(list(ENCAPSULATION_PORTS)) & pl.col("is_outside")
IS_UNUSUAL = pl.col("is_outside") & ~pl.col("proto").is_in(USUAL_PROTOCOLS)


def _what() -> pl.Expr:
    """How a title begins; null for what no rule is about. What is wrapped is judged as such, whatever is inside."""
    outermost = pl.col("tunnel").str.split("/").list.first().str.to_uppercase()
    by_port = pl.col("port").replace_strict(ENCAPSULATION_PORTS, default="", return_dtype=pl.String)
    unusual = pl.format("IP protocol {}", pl.col("proto"))
    by_protocol = pl.col("proto").replace_strict(ENCAPSULATION_PROTOCOLS, default=None, return_dtype=pl.String)
    return (
        pl.when(IS_WRAPPED)
        .then(pl.format("{} tunnel to", outermost))
        .when(IS_DNS & pl.col("is_outside"))
        .then(pl.lit("DNS tunnel to"))
        .when(IS_DNS)
        .then(pl.lit("DNS tunnel through"))
        .when(IS_ICMP)
        .then(pl.lit("ICMP tunnel to"))
        .when(IS_NTP)
        .then(pl.lit("NTP tunnel to"))
        .when(IS_PORT_OF_TUNNEL)
        .then(pl.format("{} tunnel to", by_port))
        .when(IS_UNUSUAL & by_protocol.is_not_null())
        .then(pl.format("{} tunnel to", by_protocol))
        .when(IS_UNUSUAL)
        .then(pl.format("{} traffic to", unusual))
        .alias("what")
    )


def _counted() -> pl.Expr:
    payload, small = pl.col("sent_payload"), NTP_MESSAGE * pl.col("sent_packets")
    return (
        pl.when(IS_WRAPPED)
        .then("sent")
        .when(IS_DNS)
        .then("oversize")
        .when(IS_ICMP)
        .then(pl.col("oversize") + payload // ECHO_SHARE)
        .when(IS_NTP)
        .then(pl.when(payload > small).then(payload - small).otherwise(0))
        .otherwise("sent")
        .cast(pl.UInt64)
        .alias("counted")
    )


def _sent() -> pl.Expr:
    """Payload of small messages, charged bytes of all else."""
    return pl.when(~IS_WRAPPED & (IS_DNS | IS_ICMP | IS_NTP)).then("sent_payload").otherwise("sent").alias("sent")


def _window_of(signals: pl.DataFrame) -> Row:
    return signals.select("window_start", "window_s").row(0, named=True)


def _day_of(signals: pl.DataFrame) -> int:
    return cast(datetime, signals["window_start"][0]).toordinal()


def _at(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)
