"""Rows of flows as their hosts see them: what many rows have in common is told once, under a number.

Everything that is summed starts from here, so that text and addresses are looked at once a batch, and once for all the
rows between two ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from egress.cells import LONGEST_ROW_US, charge
from egress.grouping import CODE, coded

ENDS = (
    "host",
    "side",
    "collector",
    "sensor",
    "src_ip",
    "dst_ip",
    "dst_port",
    "proto",
    "tunnel",
    "outer_src_ip",
    "outer_dst_ip",
    "name",
    "name_from",
)


@dataclass(frozen=True, slots=True)
class Sightings:
    """Attributed FLOWS, in their order."""

    ends: pl.DataFrame
    """Each combination of `ENDS` once, with `sensor` as `collector/sensor`, the `remote` and `outer` address of the
    other side, and `is_src`: whether `host` is the initiator."""
    rows: pl.DataFrame
    """`code` (a row of `ends`); `start` and `end` in UTC microseconds, and `begin`: `end` where `start` cannot be
    believed; bytes, packets and payload `sent` and `received` by the host, and what both are charged with."""

    def told(self, columns: list[str], ends: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """Numbers of all rows by fewer or other columns, from `ends` with these columns; and what the numbers mean."""
        codes, keys = coded(ends, columns)
        return codes.gather(self.rows[CODE]), keys


def sightings(flows: pl.DataFrame) -> Sightings:
    """What is seen in attributed FLOWS about watched hosts."""
    codes, ends = coded(flows, ENDS)
    is_src = (ends["side"] == "src").gather(codes).alias("is_src")
    return Sightings(_told(ends), _rows(flows.lazy().with_columns(codes, is_src)).collect())


def _told(ends: pl.DataFrame) -> pl.DataFrame:
    is_src = pl.col("side") == "src"
    return ends.with_columns(
        pl.concat_str("collector", "sensor", separator="/").alias("sensor"),
        is_src.alias("is_src"),
        pl.when(is_src).then("dst_ip").otherwise("src_ip").alias("remote"),
        pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip").alias("outer"),
    )


def _rows(flows: pl.LazyFrame) -> pl.LazyFrame:
    start, end = pl.col("start").cast(pl.Int64), pl.col("end").cast(pl.Int64)
    is_believable = (start <= end) & (end - start < LONGEST_ROW_US)
    counts = [
        pl.when("is_src").then(f"{mine}_{what}").otherwise(f"{theirs}_{what}").alias(f"{whose}_{what}")
        for what in ("bytes", "packets", "payload")
        for whose, mine, theirs in (("sent", "src", "dst"), ("received", "dst", "src"))
    ]
    seen = flows.select(
        CODE,
        "part",
        "src_port",
        "missed",
        "origin",
        "position",
        *counts,
        start=start,
        end=end,
        begin=pl.when(is_believable).then(start).otherwise(end),
    )
    return seen.with_columns(sent=charge("sent"), received=charge("received"))
