"""Which view of the same bytes counts, and which clock is believed.

Both are pure functions of the cells, so that neither the order of inputs nor their batches can change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.cells import DAY_US
from egress.schema import NO_ADDRESS, TIME

QUIET_US = 7 * DAY_US
"""A few cells beyond so long a silence do not say what time it is; yet they may well have happened then."""
NEVER_QUIET_US = 366 * DAY_US
"""Nobody records so little for so long: a few cells beyond it come from a broken clock."""
FEW_CELLS = 100
EARLIEST_US = 946_684_800_000_000
LATEST_US = 4_102_444_800_000_000
"""2000 and 2100: outside of these, a time is a counter that ran over or a clock that was never set."""

PLACE = ("host", "carrier", "minute")
"""Where sensors compete."""

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dated:
    """Cells at credible times, and the time that the data has reached."""

    cells: pl.DataFrame
    """CELLS and `is_misdated`: true where the cell was moved to the nearest credible minute."""
    watermark: int
    """UTC microseconds of the last credible packet; 0 without cells."""


def dated(cells: pl.DataFrame) -> Dated:
    """Moves cells of broken clocks to the nearest credible minute, where they are still charged.

    A stretch of minutes more than 366 days away from all others is a clock error when it holds fewer than 100 cells
    and less than 1 % of all, or lies outside of 2000..2099. A capture that holds nothing else is believed. So small a
    stretch more than 7 days away keeps its time, and does not move the watermark.
    """
    if cells.is_empty():
        return Dated(cells.with_columns(is_misdated=pl.lit(False)), 0)
    counts = cells.select(pl.col("minute").cast(pl.Int64)).group_by("minute").len().sort("minute")
    minutes = counts["minute"].to_numpy()
    is_credible = _credible(minutes, counts["len"].to_numpy(), NEVER_QUIET_US)
    is_steady = is_credible & _credible(minutes, counts["len"].to_numpy(), QUIET_US)
    if is_steady.all():  # nearly always: nothing moves, and no second copy of all cells is made
        return Dated(cells.with_columns(is_misdated=pl.lit(False)), _latest(cells))
    credible = minutes[is_credible]
    moves = pl.DataFrame(
        {
            "minute": minutes,
            "moved_to": _nearest(minutes, credible),
            "is_misdated": ~is_credible,
            "is_steady": is_steady if is_steady.any() else is_credible,
        }
    )
    moved = cells.join(
        moves.with_columns(pl.col("minute", "moved_to").cast(TIME)), on="minute", how="left", maintain_order="left"
    )
    first = moved.filter(~pl.col("is_misdated"))["first"].cast(pl.Int64).min()
    last = moved.filter(~pl.col("is_misdated"))["last"].cast(pl.Int64).max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    inside = pl.col("first", "last").clip(pl.lit(first).cast(TIME), pl.lit(last).cast(TIME))
    moved = moved.with_columns(pl.when("is_misdated").then(inside).otherwise(pl.col("first", "last")))
    watermark = _latest(moved.filter("is_steady"))
    return Dated(moved.with_columns(minute=pl.col("moved_to")).drop("moved_to", "is_steady"), watermark)


def _latest(cells: pl.DataFrame) -> int:
    last = cells["last"].cast(pl.Int64).max()
    assert isinstance(last, int)
    return last


def _credible(minutes: Longs, counts: Longs, gap: int) -> npt.NDArray[np.bool_]:
    """Which minutes belong to stretches, `gap` away from all others, that are large enough to be believed."""
    stretch = np.concatenate([[0], np.cumsum(np.diff(minutes) > gap)])
    cells = np.zeros(stretch[-1] + 1, dtype=np.int64)
    np.add.at(cells, stretch, counts)
    is_few = (cells < FEW_CELLS) & (cells * 100 < cells.sum())
    is_absurd = (minutes < EARLIEST_US) | (minutes >= LATEST_US)
    credible = ~is_few[stretch] & ~is_absurd
    return credible if credible.any() else np.ones_like(credible)


def _nearest(minutes: Longs, credible: Longs) -> Longs:
    """The credible minute nearest to each; the earlier of two."""
    after = np.searchsorted(credible, minutes).clip(0, len(credible) - 1)
    before = (np.searchsorted(credible, minutes, side="right") - 1).clip(0)
    is_before = (credible[after] < minutes) | (minutes - credible[before] <= credible[after] - minutes)
    chosen: Longs = credible[np.where(is_before, before, after)]
    return chosen


def largest_view(cells: pl.DataFrame, disjoint: Sequence[str]) -> pl.DataFrame:
    """Cells with each byte counted once, where several sensors saw it.

    For each host, remote address and minute the sensor with the largest sum counts, for `sent` and for `received` on
    its own; sensors that match a `disjoint` pattern add up and compete as one. The remote address is the one on the
    wire: the outer one of a tunnel, also for a sensor that saw only the inside of it.
    """
    if cells["sensor"].n_unique() < 2:
        return cells
    view = _view(cells["sensor"].unique().to_list(), disjoint)
    views = _with_carrier(cells).with_columns(view=view).with_row_index("row")
    # Most places have one view only: they are left as they are.
    code = pl.col("view").rank("dense")
    views = views.with_columns(code=code)
    is_contested = pl.col("code").min().over(PLACE) != pl.col("code").max().over(PLACE)
    parts = views.with_columns(is_contested=is_contested).partition_by("is_contested", include_key=False, as_dict=True)
    alone, contested = (parts.get((key,), views.clear()) for key in (False, True))
    return pl.concat([alone, _largest(contested)]).sort("row").select(cells.columns)


def _largest(views: pl.DataFrame) -> pl.DataFrame:
    """The views, each counter only where it is of the view with its largest sum at that place."""
    sums = views.group_by(*PLACE, "view").agg(pl.col("sent", "received", "missed").cast(pl.Int128).sum())
    for counter in ("sent", "received", "missed"):
        ordered = sums.sort(*PLACE, counter, "view", descending=[False, False, False, True, False])
        best = ordered.group_by(PLACE, maintain_order=True).first()
        best = best.select(*PLACE, pl.col("view").alias("best"))
        views = views.join(best, on=PLACE, how="left", maintain_order="left")
        views = views.with_columns(pl.when(pl.col("view") == pl.col("best")).then(counter).otherwise(0)).drop("best")
    return views


def _view(sensors: Sequence[str], disjoint: Sequence[str]) -> pl.Expr:
    adding = [sensor for sensor in sensors if any(fnmatchcase(sensor, pattern) for pattern in disjoint)]
    return pl.when(pl.col("sensor").is_in(adding)).then(pl.lit("")).otherwise("sensor")


def _with_carrier(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells with `carrier`, the address that their packets went to."""
    is_tunnel = pl.col("outer_ip") != NO_ADDRESS
    inside = ("host", "minute", "remote_ip")
    through = cells.filter(is_tunnel).group_by(inside).agg(pl.col("outer_ip").min().alias("through"))
    joined = cells.join(through, on=inside, how="left", maintain_order="left")
    carrier = pl.when(is_tunnel).then("outer_ip").otherwise(pl.coalesce("through", "remote_ip"))
    return joined.with_columns(carrier=carrier).drop("through")
