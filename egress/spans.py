"""What lies between one heartbeat and the next: what the network card sent, and how long nobody spoke.

Times are UTC microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from egress.cells import MINUTE_US, MOST
from egress.vantage import EARLIEST_US, LATEST_US, QUIET_US

SECOND_US = 1_000_000

HALF_32, HALF_64 = 2**31, 2**63
"""A counter that falls from above the middle of its range ran over; one that falls from below began anew."""
END_32 = 2**32

FASTEST_BYTES_PER_US = 400_000
"""Eight cards of 400 Gbit/s: whoever counted more than that did not count bytes that were sent."""
LEAST_US = SECOND_US
"""Heartbeats closer together than this do not say how fast anything went."""

SILENT_US = 30 * SECOND_US
"""Three heartbeats that did not come; one may be late, and two may be lost."""
MISSED = 3
LONGEST_CADENCE_US = 100 * SECOND_US
"""Whoever speaks more rarely than this is silent in between; else a sensor could agree to be watched once a day."""

CLOCKS_US = 300 * SECOND_US
"""How far a clock may be ahead: the last record of all may be of a fast one, and nobody else is silent for that. A
sensor that stopped is noticed so much later, if it never speaks again."""

ENOUGH = 100
"""Heartbeats or cells that are no accident of a clock."""

SENSOR = ["host", "sensor"]
REBOOT, RESTART, END = "the host was rebooted", "the sensor was restarted", "nothing came after"
ANEW, JUMP = "the card's counter began anew", "the card's counter jumped further than a card can send"


@dataclass(frozen=True, slots=True)
class Spans:
    """One row for each pair of neighbouring heartbeats of a sensor, in canonical order; names are an Enum."""

    sent: pl.DataFrame
    """Between heartbeats that say what the card counted: `host sensor start end bytes is_whole why`.

    `is_whole` is false where the counter does not tell all: bytes are then those after its new beginning.
    """
    silent: pl.DataFrame
    """Where something is missing: `host sensor start end why lost is_long`; `lost` are heartbeats by their numbers,
    `is_long` says that nobody spoke for longer than three heartbeats take."""


def dated(beats: pl.DataFrame, minutes: pl.Series) -> tuple[pl.DataFrame, int]:
    """Heartbeats whose time can be believed, and the time that they have reached.

    They are judged together with `minutes` (UTC, one for each cell of the ledger). A stretch a week away from all
    others must hold a hundred of both, or a tenth of all; nothing outside of 2000..2099 is believed. What is not is
    left out: it moves nothing. If there is nothing else, it is believed.
    """
    if beats.is_empty():
        return beats, 0
    minute = (pl.col("time").cast(pl.Int64) // MINUTE_US * MINUTE_US).alias("minute")
    every = pl.concat([beats.select(minute), minutes.cast(pl.Int64).alias("minute").to_frame()])
    stretch = (pl.col("minute").diff() > QUIET_US).fill_null(False).cum_sum()
    counts = every.group_by("minute").len().sort("minute").with_columns(stretch=stretch)
    is_credible = pl.col("len").sum().over("stretch") >= pl.min_horizontal(ENOUGH, pl.col("len").sum() / 10)
    is_credible &= pl.col("minute").is_between(EARLIEST_US, LATEST_US, closed="left")
    credible = counts.filter(is_credible)["minute"]
    is_believed = len(credible) in (0, counts.height)
    believed = beats if is_believed else beats.filter(minute.is_in(credible.implode()))
    believed = beats if believed.is_empty() else believed
    return believed, int(believed["time"].dt.epoch("us").to_numpy().max())


def of(beats: pl.DataFrame, until: int) -> Spans:
    """Spans of heartbeats as `dated` gives them; a sensor that stopped speaking before `until` is silent since."""
    ordered = _ordered(beats)
    return Spans(_sent(ordered), _silent(ordered, until))


def _ordered(beats: pl.DataFrame) -> pl.DataFrame:
    """As each sensor spoke: epochs by when they began, within one by number. So a clock set back changes little."""
    # Sorted names as numbers: a sort of 4 M heartbeats takes a tenth of the time.
    names = [pl.col(name).cast(pl.Enum(beats[name].unique().sort())) for name in (*SENSOR, "boot", "epoch")]
    numbered = beats.select(*names, pl.col("time").cast(pl.Int64), "seq", "nic_tx_bytes")
    epoch = [*SENSOR, "boot", "epoch"]
    runs = numbered.group_by(epoch).agg(began=pl.col("time").min()).sort(*SENSOR, "began", "boot", "epoch")
    runs = runs.select(*epoch, pl.row_index("run"))
    number = pl.when(pl.col("epoch").cast(pl.String) != "").then("seq")
    ordered = numbered.join(runs, on=epoch, how="left", maintain_order="left").with_columns(number=number)
    ordered = ordered.sort("run", maintain_order=True)
    is_later = (pl.col("run") != pl.col("run").shift(1)) | (pl.col("number") > pl.col("number").shift(1))
    # Most come as they were said: to look costs a tenth of sorting.
    if not ordered.select(is_later.fill_null(False).slice(1).all()).item():
        ordered = ordered.sort("run", "number", "time", "seq", nulls_last=True)
    return ordered.drop("run", "number")


def _paired(ordered: pl.DataFrame) -> pl.DataFrame:
    """Each heartbeat with the one before it, whose columns begin with `old_`."""
    names = ("time", "boot", "epoch", "seq", "nic_tx_bytes")
    is_follower = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in SENSOR)
    pairs = ordered.with_columns(pl.col(name).shift(1).alias(f"old_{name}") for name in names)
    return pairs.filter(is_follower).with_columns(
        start=pl.min_horizontal("old_time", "time"),
        end=pl.max_horizontal("old_time", "time"),
        is_reboot=_differs("boot"),
        is_restart=_differs("epoch"),
    )


def _differs(name: str) -> pl.Expr:
    """Whether both say it, and not the same."""
    is_said = [pl.col(column).cast(pl.String) != "" for column in (name, f"old_{name}")]
    return (pl.col(name) != pl.col(f"old_{name}")) & is_said[0] & is_said[1]


def _sent(ordered: pl.DataFrame) -> pl.DataFrame:
    counted = ordered.filter(pl.col("nic_tx_bytes").is_not_null())
    is_wide = (pl.col("nic_tx_bytes") >= END_32).any().over(*SENSOR, "boot")
    counted = counted.with_columns(is_wide=is_wide)
    pairs = _paired(counted.filter(~_is_misread()))
    new, old = pl.col("nic_tx_bytes"), pl.col("old_nic_tx_bytes")
    has_wrapped = (new < old) & pl.when("is_wide").then(old >= HALF_64).otherwise(old >= HALF_32)
    is_anew = pl.col("is_reboot") | ((new < old) & ~has_wrapped)
    # Unsigned subtraction wraps at 2^64 by itself.
    ran_over = has_wrapped & ~pl.col("is_wide")
    amount = pl.when(is_anew).then(new).when(ran_over).then(new + END_32 - old).otherwise(new - old)
    span = (pl.col("end") - pl.col("start")).clip(LEAST_US, MOST // FASTEST_BYTES_PER_US).cast(pl.UInt64)
    is_absurd = amount > span * FASTEST_BYTES_PER_US
    why = pl.coalesce(
        pl.when("is_reboot").then(pl.lit(REBOOT)),
        pl.when(is_absurd).then(pl.lit(JUMP)),
        pl.when(is_anew).then(pl.lit(ANEW)),
        pl.lit(""),
    )
    return pairs.select(
        *SENSOR,
        "start",
        "end",
        bytes=pl.when(is_absurd).then(0).otherwise(amount).cast(pl.Int64),
        is_whole=~(is_anew | is_absurd),
        why=why,
    )


def _is_misread() -> pl.Expr:
    """One reading that lies outside of what its neighbours say: the next one is back where the last one was."""
    value, time = pl.col("nic_tx_bytes"), pl.col("time")
    before, after = value.shift(1), value.shift(-1)
    is_same = [pl.col(name) == pl.col(name).shift(by) for name in (*SENSOR, "boot") for by in (1, -1)]
    may_have_wrapped = ~pl.col("is_wide") & (before >= HALF_32)
    is_low = (value < before) & (after >= before) & ~may_have_wrapped
    span = (time - time.shift(1)).clip(LEAST_US, MOST // FASTEST_BYTES_PER_US).cast(pl.UInt64)
    is_high = (value > before) & (value - before > span * FASTEST_BYTES_PER_US) & (after < value)
    return (pl.all_horizontal(is_same) & (is_low | is_high)).fill_null(False)


def _silent(ordered: pl.DataFrame, until: int) -> pl.DataFrame:
    pairs = _paired(ordered)
    is_same = ~pl.col("is_reboot") & ~pl.col("is_restart") & (pl.col("epoch").cast(pl.String) != "")
    is_later = pl.col("seq") > pl.col("old_seq")
    step = pl.when(is_later).then(pl.col("seq") - pl.col("old_seq")).otherwise(0)
    lost = pl.when(is_same & (step > 1)).then(step - 1).otherwise(0).clip(0, MOST).cast(pl.Int64)
    why = pl.coalesce(
        pl.when("is_reboot").then(pl.lit(REBOOT)), pl.when("is_restart").then(pl.lit(RESTART)), pl.lit("")
    )
    between = pairs.select(*SENSOR, "start", "end", why=why, lost=lost.fill_null(0))
    last = ordered.group_by(SENSOR).agg(pl.col("time").max().alias("start")).filter(pl.col("start") < until)
    ends = last.select(*SENSOR, "start", end=pl.lit(until, pl.Int64), why=pl.lit(END), lost=pl.lit(0, pl.Int64))
    cadence = between.group_by(SENSOR).agg(((pl.col("end") - pl.col("start")).median().cast(pl.Int64)).alias("cadence"))
    both = pl.concat([between, ends]).join(cadence, on=SENSOR, how="left", maintain_order="left")
    patience = pl.max_horizontal(SILENT_US, MISSED * pl.col("cadence").fill_null(0).clip(0, LONGEST_CADENCE_US))
    allowed = pl.when(pl.col("why") == END).then(CLOCKS_US).otherwise(0)
    is_long = pl.col("end") - pl.col("start") >= patience + allowed
    told = both.with_columns(is_long=is_long).drop("cadence")
    is_kept = pl.col("is_long") | (pl.col("lost") > 0) | pl.col("why").is_in(["", END]).not_()
    return told.filter(is_kept).sort(*SENSOR, "start", "end")
