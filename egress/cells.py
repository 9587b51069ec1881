"""Charging: flow rows become integer cells, and cells add up and merge.

A cell is what one host sent to and received from one remote in one minute, as one sensor saw it. Cells of disjoint
rows add up; two states of the same sources merge by maximum. Both laws are associative and commutative, merging is
idempotent too, so batch sizes, order, restarts and duplicates cannot change a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from egress.adding import Adding
from egress.amounts import MOST as MOST
from egress.grouping import CODE, coded, decoded
from egress.schema import CELLS, conform

if TYPE_CHECKING:
    from egress.sightings import Sightings

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

LONGEST_ROW_US = 31 * DAY_US
"""Longer rows are broken clocks, not conversations; they are charged where they end."""

EXACT_US = 3_000_000_000
"""Two times below this can be multiplied in 64 bits: 50 minutes."""

MINUTES_AT_ONCE = 2_000_000
"""Cells made from long rows before they are summed: bounds memory, whatever lengths an input claims."""

COUNTERS = ("sent", "received", "missed")
KEY = tuple(name for name in CELLS.names if name not in {*COUNTERS, "first", "last"})
PLACE = [name for name in KEY if name != "minute"]
LATER = {"sent": "sent_later", "received": "received_later", "missed": "later_missed"}
"""What of each counter falls into the second minute of a short line."""
ADDING = Adding(COUNTERS, ("first",), ("last",))
JOINING = Adding((), ("first",), (*COUNTERS, "last"))


def partial(seen: Sightings) -> pl.DataFrame:
    """CELLS of what was seen, in any order: what is added up later is sorted then.

    A row is spread over its minutes by integer largest remainder in proportion to time, `end` included; a row longer
    than a day over its hours, so that no row costs more than 1,441 cells. A row that ends before it starts, or lasts
    longer than 31 days, is charged wholly where it ends. Bytes are conserved exactly.
    """
    served = pl.when("is_src").then(0).otherwise("dst_port").cast(pl.UInt16).alias("served_port")
    ends = seen.ends.rename({"remote": "remote_ip", "outer": "outer_ip"}).with_columns(served)
    codes, keys = coded(ends, PLACE)
    lines, rows = (_counted(part, codes) for part in (seen.lines, seen.rows))
    is_short = pl.col("start") // MINUTE_US == pl.col("end") // MINUTE_US
    parts = [
        *_minutes(lines),
        *_minutes(rows.filter(is_short)),
        *(_line(_spread(part)) for part in _portions(rows.filter(~is_short))),
    ]
    return conform(decoded(ADDING.add(pl.concat(parts), [CODE, "minute"]), keys), CELLS)


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The sum of CELLS made from disjoint rows, in canonical order."""
    return conform(ADDING.in_order(pl.concat([CELLS.empty(), *parts]), KEY, ["minute"]), CELLS)


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same sources as one: the larger count of every cell. Idempotent."""
    return conform(JOINING.in_order(pl.concat([CELLS.empty(), *parts]), KEY, ["minute"]), CELLS)


def _counted(lines: pl.DataFrame, codes: pl.Series) -> pl.DataFrame:
    return lines.select(
        codes.gather(lines[CODE]),
        "end",
        "missed",
        *LATER.values(),
        start="begin",
        sent="sent_charged",
        received="received_charged",
    )


def _portions(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in portions that make a bounded number of cells each, long rows apart from others."""
    step = _step()
    rows = rows.select(CODE, "start", "end", *COUNTERS)
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


def _minutes(lines: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The one minute, or the earlier of two, of each line, and the later ones."""
    later = pl.col("end") // MINUTE_US * MINUTE_US
    is_later = later > pl.col("start")
    earlier = [pl.col(name) - pl.col(share) for name, share in LATER.items()]
    yield _line(lines.with_columns(*earlier, first="start", last=pl.when(is_later).then(later - 1).otherwise("end")))
    after = lines.filter(is_later).with_columns(pl.col(share).alias(name) for name, share in LATER.items())
    yield _line(after.with_columns(first=later, last="end"))


def _line(lines: pl.DataFrame) -> pl.DataFrame:
    minute = (pl.col("first") // MINUTE_US * MINUTE_US).alias("minute")
    return lines.select(CODE, minute, *COUNTERS, "first", "last")
