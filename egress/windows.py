"""Rows placed on a grid of windows; long ones are spread over all the windows that they touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from egress.amounts import MOST
from egress.cells import DAY_US, HOUR_US

WINDOW_S = 300
"""Short enough to notice a transfer while it runs, long enough that a host has few windows a day (288)."""
WINDOW_US = WINDOW_S * 1_000_000
LINES_AT_ONCE = 500_000
"""Lines made of long rows before they are summed: bounds memory, whatever lengths an input claims."""


def in_window(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, none of which is longer than its window, with `window_start`."""
    return rows.with_columns(window_start=pl.col("first") // WINDOW_US * WINDOW_US)


def placed(rows: pl.DataFrame, counters: Sequence[str]) -> Iterator[pl.DataFrame]:
    """`rows` with `window_start`, in portions; `first` and `last` are cut to the window.

    A row longer than its window becomes one line for each that it touches, with its `counters` in proportion to time,
    conserved exactly; one longer than a day is spread over hours.
    """
    is_short = pl.col("first") // WINDOW_US == pl.col("last") // WINDOW_US
    yield in_window(rows.filter(is_short))
    for portion in _portions(rows.filter(~is_short)):
        yield in_window(_spread(portion, counters))


def _portions(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in portions that make a bounded number of lines each."""
    is_long = pl.col("last") - pl.col("first") >= DAY_US
    rows = rows.with_columns(step=pl.when(is_long).then(HOUR_US).otherwise(WINDOW_US).cast(pl.Int64))
    lines = pl.col("last") // pl.col("step") - pl.col("first") // pl.col("step") + 1
    yield from rows.with_columns(portion=lines.cum_sum() // LINES_AT_ONCE).partition_by("portion", include_key=False)


def _spread(rows: pl.DataFrame, counters: Sequence[str]) -> pl.DataFrame:
    step = pl.col("step")
    touched = pl.int_ranges(pl.col("first") // step, pl.col("last") // step + 1)
    lines = rows.with_columns(touched=touched, begin=pl.col("first"), whole=pl.col("last") - pl.col("first") + 1)
    lines = lines.explode("touched").with_columns(
        first=pl.max_horizontal("begin", pl.col("touched") * step),
        last=pl.min_horizontal("last", (pl.col("touched") + 1) * step - 1),
    )
    is_wide = lines.select(pl.col(counters).max() > MOST // pl.col("whole").max()).row(0)
    portions = [
        _portion(name, pl.Int128() if wide else pl.Int64()) for name, wide in zip(counters, is_wide, strict=True)
    ]
    return lines.with_columns(portions).drop("step", "touched", "begin", "whole")


def _portion(counter: str, dtype: pl.DataType) -> pl.Expr:
    """What falls between `first` and `last`: the difference of two rounded-down running sums, so nothing is lost."""
    total, whole = pl.col(counter).cast(dtype), pl.col("whole").cast(dtype)
    until = total * (pl.col("last") - pl.col("begin") + 1) // whole
    before = total * (pl.col("first") - pl.col("begin")) // whole
    return (until - before).cast(pl.Int64).alias(counter)
