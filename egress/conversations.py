"""The largest conversations behind a finding: who started them, to which port, and where in the input they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

import polars as pl

from egress.addresses import bytes_of, text_of
from egress.contracts import Finding

LARGEST = 10
"""Conversations named in one finding: enough to see the pattern, short enough to read."""

KEYS = ["host", "side", "src_ip", "dst_ip", "dst_port", "proto", "tunnel", "outer_src_ip", "outer_dst_ip", "name"]
"""Without the initiator's port, which is another for every connection."""

ADDRESSES = ["src_ip", "dst_ip", "outer_src_ip", "outer_dst_ip"]

TIMES = ["first", "last"]

SUMS = [
    pl.col("bytes").sum(),
    pl.col("flows").sum(),
    pl.col("first").min(),
    pl.col("last").max(),
    pl.col("low_port").min(),
    pl.col("high_port").max(),
    pl.col("origin", "position").sort_by("first", "position").first(),
]


def of(flows: pl.DataFrame) -> pl.DataFrame:
    """One row a conversation of attributed FLOWS: IP bytes that `host` sent in it, times, ports, first location."""
    return _grouped(
        flows.lazy().select(
            *KEYS,
            pl.when(pl.col("side") == "src").then("src_bytes").otherwise("dst_bytes").alias("bytes"),
            (pl.col("part") == 0).cast(pl.UInt64).alias("flows"),
            pl.col("start").alias("first"),
            pl.col("end").alias("last"),
            pl.col("src_port").alias("low_port"),
            pl.col("src_port").alias("high_port"),
            "origin",
            "position",
        )
    )


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Conversations of disjoint flows added up, in canonical order."""
    if not parts:
        return pl.DataFrame()
    return _grouped(pl.concat(parts).lazy())


def attach(findings: Sequence[Finding], conversations: pl.DataFrame) -> list[Finding]:
    """The findings, each with the largest conversations of its host and destinations as evidence."""
    return [replace(finding, evidence=_evidence(finding, conversations)) for finding in findings]


def _grouped(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.group_by(KEYS).agg(SUMS).sort(KEYS).collect()


def _evidence(finding: Finding, conversations: pl.DataFrame) -> tuple[Mapping[str, object], ...]:
    if conversations.is_empty():
        return ()
    hosts = [finding.host] if finding.host else list(finding.path)
    addresses = [bytes_of(address) for destination in finding.destinations for address in destination.addresses]
    about = conversations.lazy()
    if hosts:
        about = about.filter(pl.col("host").is_in(hosts))
    if addresses:
        about = about.filter(pl.any_horizontal(pl.col(column).is_in(addresses) for column in ADDRESSES))
    largest = about.sort(["bytes", *KEYS], descending=[True] + [False] * len(KEYS)).head(LARGEST).collect()
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
