"""What watched hosts saw of a batch of flows, in fewer lines than rows: everything that is summed starts from here.

Text and addresses are looked at once for all that was seen between two ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import polars as pl

from egress.amounts import longs
from egress.grouping import CODE, coded
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

LINES_AT_ONCE = 200_000
"""40 MB."""

_OF_SIDE = ("charged", "later", "bytes", "packets", "payload", "oversize", "most")
_OF_BOTH = ("start", "begin", "end", "low_port", "high_port", "position", "flows", "missed", "later_missed")


_SEEN = {
    mine: [
        *map(pl.col, _OF_BOTH),
        *(
            pl.col(f"{side}_{what}").alias(f"{whose}_{what}")
            for whose, side in (("sent", mine), ("received", theirs))
            for what in _OF_SIDE
        ),
    ]
    for mine, theirs in (("src", "dst"), ("dst", "src"))
}
"""What the host on either side sees."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """What was seen, in any order."""

    ends: pl.DataFrame
    """Each combination of `ENDS` once, with `sensor` as `collector/sensor`, the `remote` and `outer` address of the
    other side, and `is_src`: whether `host` is the initiator."""
    lines: pl.DataFrame
    """`code` (a row of `ends`) and columns of `lines.lines_of`: what `host` sent as `sent_charged` and so on, what it
    received as `received_charged` and so on."""
    rows: pl.DataFrame
    """The same of rows that are a part of no line."""


@dataclass
class Gathering:
    """What is seen of flows, batch by batch, until it is asked for: each time texts and addresses are looked at."""

    height: int = 0
    """Of lines and rows."""
    _ends: list[pl.DataFrame] = field(default_factory=list)
    _lines: list[pl.DataFrame] = field(default_factory=list)
    _rows: list[pl.DataFrame] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return self.height >= LINES_AT_ONCE

    def take(self, flows: pl.DataFrame, codes: pl.Series, ends: pl.DataFrame, sides: pl.DataFrame) -> None:
        """Takes FLOWS of which `codes` says the `ends`, about `sides` of these: `row` (in order), `host`, `side`."""
        around = ends.select(pl.when(pl.col("tunnel") == "").then(0).otherwise(TUNNEL)).to_series()
        told, count = lines_of(flows, codes.to_numpy(), longs(around)[codes.to_numpy()])
        self._ends.append(ends[sides["row"]].with_columns(sides["host"], sides["side"]))
        lines, rows = zip(*(_of_side(told, count, sides, ends.height, side) for side in _SEEN), strict=True)
        self._lines.append(pl.concat(lines))
        self._rows.append(pl.concat(rows))
        self.height += told.height

    def take_attributed(self, flows: pl.DataFrame) -> None:
        """Takes FLOWS with `host` and `side`."""
        codes, ends = coded(flows, ENDS)
        self.take(flows, codes, ends, ends.select(pl.row_index("row"), "host", "side").filter(pl.col("host") != ""))

    def give(self) -> Sightings:
        """All of it, at least one batch; then begins anew."""
        heights = [part.height for part in self._ends]
        codes, ends = coded(pl.concat(self._ends, rechunk=True), ENDS)
        numbers = [codes.slice(end - height, height) for end, height in zip(accumulate(heights), heights, strict=True)]
        lines, rows = (
            pl.concat(
                (part.with_columns(known.gather(part[CODE])) for part, known in zip(parts, numbers, strict=True)),
                rechunk=True,
            )
            for parts in (self._lines, self._rows)
        )
        self.height, self._ends, self._lines, self._rows = 0, [], [], []
        return Sightings(_told(ends), lines, rows)


def sightings(flows: pl.DataFrame) -> Sightings:
    """What is seen in attributed FLOWS about watched hosts."""
    gathering = Gathering()
    gathering.take_attributed(flows)
    return gathering.give()


def _of_side(
    lines: pl.DataFrame, count: int, sides: pl.DataFrame, ends: int, side: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first `count` lines, and those after them, as hosts on this side saw them; their code is the place of the
    side."""
    about = np.flatnonzero(sides["side"] == side)
    places = np.full(ends, -1)
    places[sides["row"].to_numpy()[about]] = about
    found = places[lines[CODE].to_numpy()]
    is_about = found >= 0
    told = lines if is_about.all() else lines.filter(is_about)
    seen = told.select(pl.Series(CODE, found[is_about].astype(np.uint32)), *_SEEN[side])
    first = int(is_about[:count].sum())
    return seen.head(first), seen.slice(first)


def _told(ends: pl.DataFrame) -> pl.DataFrame:
    is_src = pl.col("side") == "src"
    return ends.with_columns(
        pl.concat_str("collector", "sensor", separator="/").alias("sensor"),
        is_src.alias("is_src"),
        pl.when(is_src).then("dst_ip").otherwise("src_ip").alias("remote"),
        pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip").alias("outer"),
    )
