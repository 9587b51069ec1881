"""What watched hosts saw of a batch of flows, in fewer lines than rows: everything that is summed starts from here.

Text and addresses are looked at once for all that was seen between two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from egress.amounts import longs
from egress.grouping import CODE, coded, paired
from egress.lines import lines_of

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
    "origin",
)
TUNNEL = 78
"""Around each packet inside a tunnel: IPv6 40, UDP 8, VXLAN or Geneve 8, inner Ethernet with a tag 18, option 4."""

_BY_SIDE = ("charged", "later", "bytes", "packets", "payload", "oversize", "on_card", "most")
_OF_BOTH = ("is_short", "start", "begin", "end", "low_port", "high_port", "position", "flows", "missed", "later_missed")


@dataclass(frozen=True, slots=True)
class Sightings:
    """What was seen, in any order."""

    ends: pl.DataFrame
    """Each combination of `ENDS` once, with `sensor` as `collector/sensor`, the `remote` and `outer` address of the
    other side, and `is_src`: whether `host` is the initiator."""
    lines: pl.DataFrame
    """`code` (a row of `ends`) and columns of `lines.lines_of`: what `host` sent as `sent_charged` and so on, what it
    received as `received_charged` and so on."""

    def told(self, columns: Sequence[str], ends: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """Numbers of all lines by fewer or other columns, from `ends` with these columns; and what the numbers mean."""
        codes, keys = coded(ends, columns)
        return codes.gather(self.lines[CODE]), keys


def sightings(flows: pl.DataFrame) -> Sightings:
    """What is seen in attributed FLOWS about watched hosts."""
    codes, ends = coded(flows, ENDS)
    sides = ends.select(pl.row_index("row"), "host", "side").filter(pl.col("host") != "")
    return seen(flows, codes, ends, sides)


def seen(flows: pl.DataFrame, codes: pl.Series, ends: pl.DataFrame, sides: pl.DataFrame) -> Sightings:
    """What is seen in FLOWS of which `codes` says the `ends`, by `sides` of them: `row` (in order), `host`, `side`."""
    around = ends.select(pl.when(pl.col("tunnel") == "").then(0).otherwise(TUNNEL)).to_series()
    lines = lines_of(flows, codes.to_numpy(), longs(around)[codes.to_numpy()])
    at, which = paired(lines[CODE].to_numpy(), sides["row"].to_numpy())
    told = _told(ends[sides["row"]].with_columns(sides["host"], sides["side"]))
    by_host = lines[at].with_columns(pl.Series(CODE, which.astype(np.uint32)), told["is_src"].gather(which))
    return Sightings(told, by_host.select(CODE, *_OF_BOTH, *_by_host()))


def add(parts: Sequence[Sightings]) -> Sightings:
    """What all of them saw."""
    if len(parts) == 1:
        return parts[0]
    heights = [part.ends.height for part in parts]
    codes, ends = coded(pl.concat(part.ends for part in parts), [*ENDS, "remote", "outer", "is_src"])
    befores = np.cumsum(heights) - heights
    lines = [
        part.lines.with_columns(codes.slice(before, height).gather(part.lines[CODE]))
        for part, before, height in zip(parts, befores, heights, strict=True)
    ]
    return Sightings(ends, pl.concat(lines, rechunk=True))


def _told(ends: pl.DataFrame) -> pl.DataFrame:
    is_src = pl.col("side") == "src"
    return ends.with_columns(
        pl.concat_str("collector", "sensor", separator="/").alias("sensor"),
        is_src.alias("is_src"),
        pl.when(is_src).then("dst_ip").otherwise("src_ip").alias("remote"),
        pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip").alias("outer"),
    )


def _by_host() -> list[pl.Expr]:
    return [
        pl.when("is_src").then(f"{mine}_{what}").otherwise(f"{theirs}_{what}").alias(f"{whose}_{what}")
        for whose, mine, theirs in (("sent", "src", "dst"), ("received", "dst", "src"))
        for what in _BY_SIDE
    ]
