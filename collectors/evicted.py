"""Conversations that did not fit: merged by host pair, then by network, so that their bytes go on in few rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from collectors.rows import CUT_FRAME, FIRST_FRAME
from egress.schema import V4_MAPPED_PREFIX

MAX_ROWS = 65_536
"""Rows that one eviction may leave; beyond it addresses are masked, the more varied side first."""

SUMS = (
    "src_bytes",
    "dst_bytes",
    "src_packets",
    "dst_packets",
    "src_payload",
    "dst_payload",
    "retransmits",
    "missed",
)
PAIR = ("src_ip", "dst_ip", "proto", "tunnel", "outer_src_ip", "outer_dst_ip")
MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 / golden ratio, odd: multiplying by it loses nothing."""


def merge(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of one eviction with ports 0, one per host pair, protocol, tunnel and 10 s; no byte and no packet less."""
    merged = _by_pair(rows)
    sides = sorted(("src_ip", "dst_ip"), key=lambda side: -merged[side].n_unique())
    for side in (*sides, "outer_src_ip", "outer_dst_ip"):
        if merged.height <= MAX_ROWS:
            break
        merged = _by_pair(merged.with_columns(_network(side)))
    ids = merged["flow_id"].to_numpy()
    return merged.with_columns(flow_id=pl.Series((ids ^ ids >> np.uint64(29)) * MIXER | np.uint64(1)))


def _network(side: str) -> pl.Expr:
    """The /24 of an IPv4 address, the /64 of an IPv6 one."""
    address = pl.col(side)
    v4 = address.bin.slice(0, 15) + pl.lit(bytes(1))
    v6 = address.bin.slice(0, 8) + pl.lit(bytes(8))
    return pl.when(address.bin.starts_with(V4_MAPPED_PREFIX)).then(v4).otherwise(v6).alias(side)


def _by_pair(rows: pl.DataFrame) -> pl.DataFrame:
    keys = [*PAIR, "bucket"]
    merged = rows.with_columns(bucket=pl.col("start").dt.truncate("10s")).group_by(keys, maintain_order=True)
    columns = rows.columns
    return merged.agg(
        *(pl.col(name).sum() for name in SUMS),
        *(pl.col(name).bitwise_or() for name in ("src_flags", "dst_flags")),
        *(pl.col(name).min() for name in ("start", "flow_id", FIRST_FRAME)),
        *(pl.col(name).max() for name in ("end", CUT_FRAME)),
        *(pl.col(name).first() for name in ("collector", "sensor", "sampling", "origin", "position", "vlan")),
        *(pl.lit(0, pl.UInt16).alias(name) for name in ("src_port", "dst_port")),
        *(pl.lit("").alias(name) for name in ("host", "side", "name", "name_from", "process", "container", "user")),
        part=pl.lit(0, pl.UInt32),
        final=pl.lit(True),
    ).select(columns)
