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


@dataclass(frozen=True, slots=True)
class Clock:
    """What the minutes of all cells say of each other."""

    moves: pl.DataFrame | None
    """`minute moved_to is_misdated` of all minutes; None, nearly always: all may stay."""
    first: int
    last: int
    """First and last credible packet."""
    watermark: int


def minutes_of(cells: pl.DataFrame) -> pl.DataFrame:
    """`minute len first last`: how many cells there are of each minute, and between which packets; in no order."""
    times = cells.select(pl.col("minute", "first", "last").cast(pl.Int64))
    return times.group_by("minute").agg(pl.len(), pl.col("first").min(), pl.col("last").max())


def clock_of(minutes: pl.DataFrame) -> Clock:
    """What time it is, by `minutes_of` some cells."""
    counts = minutes.sort("minute")
    starts, cells = counts["minute"].to_numpy(), counts["len"].to_numpy()
    is_credible = _credible(starts, cells, NEVER_QUIET_US)
    is_steady = is_credible & _credible(starts, cells, QUIET_US)
    firsts, lasts = counts["first"].to_numpy(), counts["last"].to_numpy()
    first, last = int(firsts[is_credible].min()), int(lasts[is_credible].max())
    if is_steady.all():
        return Clock(None, first, last, last)
    moves = pl.DataFrame(
        {"minute": starts, "moved_to": _nearest(starts, starts[is_credible]), "is_misdated": ~is_credible}
    )
    return Clock(moves, first, last, int(lasts[is_steady if is_steady.any() else is_credible].max()))


def dated(cells: pl.DataFrame) -> Dated:
    """Moves cells of broken clocks to the nearest credible minute, where they are still charged.

    A stretch of minutes more than 366 days away from all others is a clock error when it holds fewer than 100 cells
    and less than 1 % of all, or lies outside of 2000..2099. A capture that holds nothing else is believed. So small a
    stretch more than 7 days away keeps its time, and does not move the watermark.
    """
    if cells.is_empty():
        return Dated(cells.with_columns(is_misdated=pl.lit(False)), 0)
    clock = clock_of(minutes_of(cells))
    return Dated(moved(cells, clock), clock.watermark)


def moved(cells: pl.DataFrame, clock: Clock) -> pl.DataFrame:
    """Some of the cells that the clock is of, where it says that they were; with `is_misdated`."""
    if clock.moves is None:  # no second copy of all cells is made
        return cells.with_columns(is_misdated=pl.lit(False))
    moves = clock.moves.with_columns(pl.col("minute", "moved_to").cast(TIME))
    joined = cells.join(moves, on="minute", how="left", maintain_order="left")
    inside = pl.col("first", "last").clip(pl.lit(clock.first).cast(TIME), pl.lit(clock.last).cast(TIME))
    joined = joined.with_columns(pl.when("is_misdated").then(inside).otherwise(pl.col("first", "last")))
    return joined.with_columns(minute=pl.col("moved_to")).drop("moved_to")


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
