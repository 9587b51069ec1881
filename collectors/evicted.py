"""Conversations that did not fit: merged by host pair, then by network, so that their bytes go on in few rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from collectors.rows import CUT_FRAME, FIRST_FRAME
from egress.schema import V4_MAPPED_PREFIX

MAX_ROWS = 4_096
"""Rows that 65,536 evicted conversations may leave; beyond it addresses are masked, the more varied side first."""

MASKS = ((24, 64), (16, 48), (8, 32), (4, 16))
"""Bits kept of IPv4 and IPv6 addresses, tried in turn. Never none: `0.0.0.0` is no destination. Few enough in the end
that 200 hosts which send to everybody keep their own addresses: who sent matters more than to whom."""
UNIQUE_LOCAL_BITS = 48
"""Private addresses stay inside their own block (RFC 1918; a site's /48, RFC 4193): masked further they would look like
outsiders, and what they sent would be nobody's."""

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
    for side in sorted(("src_ip", "dst_ip"), key=lambda side: -rows[side].n_unique()):
        rows = _few(rows, side)
    for side in ("outer_src_ip", "outer_dst_ip"):
        rows = _few(rows, side)
    merged = _by_pair(rows)
    ids = merged["flow_id"].to_numpy()
    return merged.with_columns(flow_id=pl.Series((ids ^ ids >> np.uint64(29)) * MIXER | np.uint64(1)))


def _few(rows: pl.DataFrame, side: str) -> pl.DataFrame:
    """`rows` with this side masked until few enough pairs are left, or nothing more is left to mask."""
    for v4_bits, v6_bits in MASKS:
        if rows.select(pl.struct(PAIR).n_unique()).item() <= MAX_ROWS:
            break
        rows = rows.with_columns(_network(side, v4_bits, v6_bits))
    return rows


def _network(side: str, v4_bits: int, v6_bits: int) -> pl.Expr:
    address = pl.col(side)
    start = address.bin.starts_with
    v4 = V4_MAPPED_PREFIX
    is_private_8 = start(v4 + b"\x0a")  # 10.0.0.0/8
    is_private_16 = start(v4 + b"\xc0\xa8")  # 192.168.0.0/16
    is_private_12 = start(v4 + b"\xac") & address.bin.get(13).is_between(16, 31)  # 172.16.0.0/12
    return (
        pl.when(is_private_16)
        .then(_masked(address, max(v4_bits, 16) + 96))
        .when(is_private_8)
        .then(_masked(address, max(v4_bits, 8) + 96))
        .when(is_private_12 & pl.lit(v4_bits < 16))
        .then(pl.lit(v4 + b"\xac\x10\0\0"))
        .when(start(v4))
        .then(_masked(address, v4_bits + 96))
        .when(start(b"\xfc") | start(b"\xfd"))
        .then(_masked(address, max(v6_bits, UNIQUE_LOCAL_BITS)))
        .otherwise(_masked(address, v6_bits))
        .alias(side)
    )


def _masked(address: pl.Expr, bits: int) -> pl.Expr:
    """Whole bytes are kept, and the upper half of the next one where `bits` ends inside it (0.0.0.0/4 as 1.0.0.0)."""
    kept = bits // 8
    if bits % 8 == 0:
        return address.bin.slice(0, kept) + pl.lit(bytes(16 - kept))
    halves = {upper: bytes([upper or 1]) for upper in range(0, 256, 16)}
    upper = (address.bin.get(kept) & 0xF0).replace_strict(halves, return_dtype=pl.Binary)
    return address.bin.slice(0, kept) + upper + pl.lit(bytes(15 - kept))


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
