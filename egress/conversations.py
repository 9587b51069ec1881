"""The largest conversations behind a finding: who started them, to which port, and where in the input they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

import polars as pl

from egress.adding import Adding, ranked, unranked
from egress.addresses import bytes_of, text_of
from egress.amounts import MOST
from egress.cells import DAY_US
from egress.contracts import Finding
from egress.grouping import CODE, coded, decoded
from egress.schema import FLOWS, TIME, Column, Table, conform
from egress.sightings import Sightings, sightings

LARGEST = 10
"""Conversations named in one finding: enough to see the pattern, short enough to read."""

KEYS = ["host", "side", "src_ip", "dst_ip", "dst_port", "proto", "tunnel", "outer_src_ip", "outer_dst_ip", "name"]
"""Without the initiator's port, which is another for every connection."""


def _sum(name: str, meaning: str, unit: str = "bytes") -> Column:
    return Column(name, pl.UInt64(), "UInt64", meaning, unit, "T64, ZSTD(1)", 0)


def _time(name: str, meaning: str) -> Column:
    return Column(name, TIME, "DateTime64(6, 'UTC')", meaning, "UTC microseconds", "DoubleDelta, ZSTD(1)")


CONVERSATIONS = Table(
    "conversations",
    "One row is what one host sent in all flows of one kind to one remote in one day, as one sensor saw it.",
    (
        *(FLOWS.column(name) for name in KEYS),
        Column("sensor", pl.String(), "LowCardinality(String)", "collector/sensor that saw it", default=""),
        _time("day", "UTC day in which the rows begin"),
        _sum("bytes", "IP bytes that `host` sent"),
        _sum("flows", "conversations begun", "flows"),
        _time("first", "first packet"),
        _time("last", "last packet"),
        Column("low_port", pl.UInt16(), "UInt16", "lowest port of the initiators", default=0),
        Column("high_port", pl.UInt16(), "UInt16", "highest port of the initiators", default=0),
        FLOWS.column("origin"),
        FLOWS.column("position"),
    ),
)

KEY = (*KEYS, "sensor", "day")

ADDRESSES = ["src_ip", "dst_ip", "outer_src_ip", "outer_dst_ip"]

TIMES = ["first", "last"]

COUNTERS = ("bytes", "flows")
PLACE = ("first", "position", "origin")
"""Where a conversation stands first; rows are in this order when they are summed."""
OUTWARDS = [
    pl.col("first").min(),
    pl.col("last").max(),
    pl.col("low_port").min(),
    pl.col("high_port").max(),
    pl.col("origin", "position").first(),
]

ADDING = Adding(COUNTERS, ("low_port",), ("last", "high_port"), PLACE)
_ADDED = [pl.col(name).cast(pl.Int128).sum().clip(0, MOST).cast(pl.UInt64) for name in COUNTERS]


def of(flows: pl.DataFrame) -> pl.DataFrame:
    """One row a conversation of attributed FLOWS: IP bytes that `host` sent in it, times, ports, first location."""
    return partial(sightings(flows)).sort(KEY)


def partial(seen: Sightings) -> pl.DataFrame:
    """What `of` gives, in any order: what is added up later is sorted then."""
    codes, keys = coded(seen.ends, [*KEYS, "sensor"])
    ends, origins = ranked(seen.ends, "origin")
    lines = pl.concat(_counted(part, codes, ends["origin"]) for part in (seen.lines, seen.rows))
    added = unranked(ADDING.add(lines, [CODE, "day"]), "origin", origins)
    return conform(decoded(added, keys), CONVERSATIONS)


def _counted(lines: pl.DataFrame, codes: pl.Series, origins: pl.Series) -> pl.DataFrame:
    return lines.select(
        codes.gather(lines[CODE]),
        "flows",
        "low_port",
        "high_port",
        "position",
        origins.gather(lines[CODE]),
        day=pl.col("start") // DAY_US * DAY_US,
        bytes="sent_bytes",
        first="start",
        last="end",
    )


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Conversations of disjoint flows added up, in canonical order."""
    rows, origins = ranked(pl.concat([CONVERSATIONS.empty(), *parts]), "origin")
    return conform(unranked(ADDING.in_order(rows, KEY, ["day"]), "origin", origins), CONVERSATIONS)


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same conversations as one: the larger counts, times and ports outwards. Idempotent."""
    states = pl.concat([CONVERSATIONS.empty(), *parts]).lazy()
    larger = pl.col(COUNTERS).max()
    return states.sort(PLACE).group_by(KEY).agg(larger, *OUTWARDS).sort(KEY).collect()


def attach(findings: Sequence[Finding], conversations: pl.DataFrame) -> list[Finding]:
    """The findings, each with the largest conversations of its host and destinations as evidence."""
    places = conversations.select("host").with_row_index().group_by("host").agg("index")
    by_host = dict(zip(places["host"], places["index"], strict=True))
    return [replace(finding, evidence=_evidence(finding, conversations, by_host)) for finding in findings]


def _evidence(
    finding: Finding, conversations: pl.DataFrame, by_host: Mapping[str, pl.Series]
) -> tuple[Mapping[str, object], ...]:
    hosts = {finding.host} if finding.host else set(finding.path)
    addresses = [bytes_of(address) for destination in finding.destinations for address in destination.addresses]
    # A fleet has thousands of findings: none of them looks through what other hosts said.
    mine = [conversations[by_host[host]] for host in sorted(hosts) if host in by_host]
    seen = pl.concat([conversations.clear(), *mine]) if hosts else conversations
    if seen.is_empty():
        return ()
    about = seen.lazy()
    if addresses:
        about = about.filter(pl.any_horizontal(pl.col(column).is_in(addresses) for column in ADDRESSES))
    whole = about.sort(PLACE).group_by(KEYS).agg(*_ADDED, *OUTWARDS)
    largest = whole.sort(["bytes", *KEYS], descending=[True] + [False] * len(KEYS)).head(LARGEST).collect()
    return tuple(_readable(row) for row in largest.iter_rows(named=True))


def _readable(row: Mapping[str, object]) -> dict[str, object]:
    """A conversation with addresses and times as text; the initiator's port only where all its flows used one."""
    seen = dict(row)
    for column in TIMES:
        seen[column] = cast(datetime, seen[column]).isoformat()
    for column in ADDRESSES:
        seen[column] = text_of(cast(bytes, seen[column]))
    low, high = seen.pop("low_port"), seen.pop("high_port")
    seen["src_port"] = low if low == high else 0
    seen["initiator"] = seen["host"] if seen.pop("side") == "src" else seen["src_ip"]
    return seen
