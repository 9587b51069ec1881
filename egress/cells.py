"""Charging: flow rows become integer cells, and cells add up and merge.

A cell is what one host sent to and received from one remote in one minute, as one sensor saw it. Cells of disjoint
rows add up; two states of the same sources merge by maximum. Both laws are associative and commutative, merging is
idempotent too, so batch sizes, order, restarts and duplicates cannot change a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from egress.grouping import CODE, decoded, in_order
from egress.schema import CELLS

if TYPE_CHECKING:
    from egress.sightings import Sightings

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

HEADERS_PER_PACKET = 80
"""A bare ACK is at most 80 bytes (IPv6 40, TCP 20, options 20): what a packet costs before it can carry anything."""

MOST = 2**63 - 1
"""Counters saturate here, far past anything a network carried; a wrap would hide what it counts."""

LONGEST_ROW_US = 31 * DAY_US
"""Longer rows are broken clocks, not conversations; they are charged where they end."""

EXACT_US = 3_000_000_000
"""Two times below this can be multiplied in 64 bits: 50 minutes."""

MINUTES_AT_ONCE = 2_000_000
"""Cells made from long rows before they are summed: bounds memory, whatever lengths an input claims."""

COUNTERS = ("sent", "received", "missed")
KEY = tuple(name for name in CELLS.names if name not in {*COUNTERS, "first", "last"})
PLACE = [name for name in KEY if name != "minute"]
_SUMS = [pl.col(name).cast(pl.Int128).sum().clip(0, MOST).cast(pl.UInt64) for name in COUNTERS]
_SPAN = [pl.col("first").min(), pl.col("last").max()]


def partial(seen: Sightings) -> pl.DataFrame:
    """CELLS of what was seen, in any order: what is added up later is sorted then.

    A row is spread over its minutes by integer largest remainder in proportion to time, `end` included; a row longer
    than a day over its hours, so that no row costs more than 1,441 cells. A row that ends before it starts, or lasts
    longer than 31 days, is charged wholly where it ends. Bytes are conserved exactly.
    """
    served = pl.when("is_src").then(0).otherwise("dst_port").cast(pl.UInt16).alias("served_port")
    codes, keys = seen.told(PLACE, seen.ends.rename({"remote": "remote_ip", "outer": "outer_ip"}).with_columns(served))
    missed = pl.col("missed").clip(0, MOST).cast(pl.Int64)
    rows = seen.rows.select(codes, "sent", "received", missed, pl.col("begin").alias("start"), "end")
    is_short = pl.col("start") // MINUTE_US == pl.col("end") // MINUTE_US
    short = rows.filter(is_short).with_columns(first=pl.col("start"), last=pl.col("end"))
    lines = [_line(short), *(_line(_spread(part)) for part in _portions(rows.filter(~is_short)))]
    cells = pl.concat(lines).group_by(CODE, "minute").agg(*_SUMS, *_SPAN)
    return decoded(cells, keys).select(pl.col(column.name).cast(column.dtype) for column in CELLS.columns)


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The sum of CELLS made from disjoint rows, in canonical order."""
    cells = pl.concat([CELLS.empty(), *parts])
    return in_order(cells, KEY, ["minute"], [*_SUMS, *_SPAN]).select(CELLS.names)


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same sources as one: the larger count of every cell. Idempotent."""
    cells = pl.concat([CELLS.empty(), *parts])
    return in_order(cells, KEY, ["minute"], [pl.col(COUNTERS).max(), *_SPAN]).select(CELLS.names)


def charge(side: str) -> pl.Expr:
    """Charged bytes of one side of a row: max(payload, IP bytes - 80 x packets), never negative."""
    ip_bytes = pl.col(f"{side}_bytes").clip(0, MOST).cast(pl.Int64)
    headers = pl.col(f"{side}_packets").clip(0, MOST // HEADERS_PER_PACKET).cast(pl.Int64) * HEADERS_PER_PACKET
    payload = pl.col(f"{side}_payload").clip(0, MOST).cast(pl.Int64)
    return pl.max_horizontal(payload, ip_bytes - headers)


def _portions(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in portions that make a bounded number of cells each, long rows apart from others."""
    step = _step()
    rows = rows.with_columns(step=step, cells=pl.col("end") // step - pl.col("start") // step + 1)
    portion = pl.col("cells").cum_sum() // MINUTES_AT_ONCE
    is_slow = pl.col("end") - pl.col("start") >= EXACT_US
    parts = rows.with_columns(portion=portion, is_slow=is_slow).partition_by("portion", "is_slow", include_key=False)
    yield from (part for part in parts if part.height)


def _step() -> pl.Expr:
    is_long = pl.col("end") - pl.col("start") >= DAY_US
    return pl.when(is_long).then(HOUR_US).otherwise(MINUTE_US).cast(pl.Int64)


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """One line for each minute (or hour) that a row touches; each row touches at least two."""
    step, low, high = pl.col("step"), pl.col("low"), pl.col("high")
    rows = rows.with_columns(low=pl.col("start") // step, high=pl.col("end") // step)
    wide = rows.select((pl.col("end") - pl.col("start")).max() >= EXACT_US).item()
    counters = [name for name in COUNTERS if rows[name].max()]
    for name in counters:
        rows = _shared_out(rows, name, pl.Int128() if wide else pl.Int64())
    lines = rows.with_columns(bucket=pl.int_ranges("low", high + 1)).explode("bucket")
    bucket = pl.col("bucket")
    return lines.with_columns(
        pl.when(bucket == low)
        .then(f"{name}_head")
        .when(bucket == high)
        .then(f"{name}_tail")
        .otherwise(pl.col(f"{name}_each") + (bucket - low <= pl.col(f"{name}_more")).cast(pl.Int64))
        .alias(name)
        for name in counters
    ).with_columns(
        first=pl.max_horizontal(pl.col("start"), bucket * step),
        last=pl.min_horizontal(pl.col("end"), (bucket + 1) * step - 1),
    )


def _shared_out(rows: pl.DataFrame, name: str, whole: pl.DataType) -> pl.DataFrame:
    """Largest remainder: what falls on the first line of a row, on the last, on each between, and on how many of these
    one more; ties go to the earlier line.

    Lines between are all as long as a step, so that three remainders say how all lines rank.
    """
    step, between = pl.col("step"), pl.col("high") - pl.col("low") - 1
    length = pl.col("end") - pl.col("start") + 1
    lasting = {
        "head": (pl.col("low") + 1) * step - pl.col("start"),
        "each": step,
        "tail": pl.col("end") - pl.col("high") * step + 1,
    }
    # total x time // length without a product of three, which no integer would hold.
    rest = (pl.col(name) % length).cast(whole)
    shares = {
        part: pl.col(name) // length * time + (rest * time // length).cast(pl.Int64) for part, time in lasting.items()
    }
    lefts = {part: (rest * time % length).cast(pl.Int64) for part, time in lasting.items()}
    shared = rows.lazy().with_columns(
        *(share.alias(f"{name}_{part}") for part, share in shares.items()),
        *(left.alias(f"{name}_{part}_left") for part, left in lefts.items()),
    )
    head, each, tail = (pl.col(f"{name}_{part}_left") for part in lasting)
    left_over = pl.col(name) - pl.col(f"{name}_head") - pl.col(f"{name}_tail") - between * pl.col(f"{name}_each")
    before_head = between * (each > head) + (tail > head)
    before_tail = between * (each >= tail) + (head >= tail)
    before_each = (head >= each).cast(pl.Int64) + (tail > each)
    ranked = shared.with_columns(left_over=left_over).with_columns(
        pl.col(f"{name}_head") + (before_head < pl.col("left_over")),
        pl.col(f"{name}_tail") + (before_tail < pl.col("left_over")),
        (pl.col("left_over") - before_each).alias(f"{name}_more"),
    )
    return ranked.drop("left_over", *(f"{name}_{part}_left" for part in lasting)).collect()


def _line(lines: pl.DataFrame) -> pl.DataFrame:
    minute = (pl.col("first") // MINUTE_US * MINUTE_US).alias("minute")
    return lines.select(CODE, minute, *COUNTERS, "first", "last")
