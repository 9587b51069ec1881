"""What watched hosts saw of a batch of flows, in fewer lines than rows: everything that is summed starts from here.

Text and addresses are looked at once for all that was seen between two ends.
"""

from __future__ import annotations

from collections.abc import Iterator
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

_OF_SIDE = ("charged", "later", "bytes", "packets", "payload", "oversize", "on_card", "most")
_OF_BOTH = ("start", "begin", "end", "low_port", "high_port", "position", "flows", "missed", "later_missed")


_SEEN = {
    sides: [
        pl.col(f"{side}_{what}").alias(f"{whose}_{what}")
        for whose, side in zip(("sent", "received"), sides, strict=True)
        for what in _OF_SIDE
    ]
    for sides in (("src", "dst"), ("dst", "src"))
}


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
        lines, rows = lines_of(flows, codes.to_numpy(), longs(around)[codes.to_numpy()])
        self._ends.append(ends[sides["row"]].with_columns(sides["host"], sides["side"]))
        self._lines.append(pl.concat(_by_host(lines, sides, ends.height)))
        self._rows.append(pl.concat(_by_host(rows, sides, ends.height)))
        self.height += lines.height + rows.height

    def take_attributed(self, flows: pl.DataFrame) -> None:
        """Takes FLOWS with `host` and `side`."""
        codes, ends = coded(flows, ENDS)
        self.take(flows, codes, ends, ends.select(pl.row_index("row"), "host", "side").filter(pl.col("host") != ""))

    def give(self) -> Sightings:
        """All of it, at least one batch; then begins anew."""
        heights = [part.height for part in self._ends]
        codes, ends = coded(pl.concat(self._ends), ENDS)
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


def _by_host(lines: pl.DataFrame, sides: pl.DataFrame, ends: int) -> Iterator[pl.DataFrame]:
    """The lines as each side's host saw them; their code is the place of the side."""
    for mine, theirs in (("src", "dst"), ("dst", "src")):
        about = np.flatnonzero(sides["side"] == mine)
        places = np.full(ends, -1)
        places[sides["row"].to_numpy()[about]] = about
        found = places[lines[CODE].to_numpy()]
        is_about = found >= 0
        seen = lines if is_about.all() else lines.filter(is_about)
        yield seen.select(pl.Series(CODE, found[is_about].astype(np.uint32)), *_OF_BOTH, *_SEEN[mine, theirs])


def _told(ends: pl.DataFrame) -> pl.DataFrame:
    is_src = pl.col("side") == "src"
    return ends.with_columns(
        pl.concat_str("collector", "sensor", separator="/").alias("sensor"),
        is_src.alias("is_src"),
        pl.when(is_src).then("dst_ip").otherwise("src_ip").alias("remote"),
        pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip").alias("outer"),
    )
