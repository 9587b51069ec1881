"""What lies between one heartbeat and the next: what the network card sent, and how long nobody spoke.

Times are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from egress.cells import MINUTE_US, MOST
from egress.spoken import BOOT, EPOCH, NEVER, SENSOR, Spoken, spoken, text
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

REBOOT, RESTART, END = "the host was rebooted", "the sensor was restarted", "nothing came after"
ANEW, JUMP = "the card's counter began anew", "the card's counter jumped further than a card can send"


@dataclass(frozen=True, slots=True)
class Spans:
    """One row for each pair of neighbouring heartbeats of a sensor, in canonical order; names are an Enum."""

    sent: pl.DataFrame
    """Between heartbeats that say what the card counted: `host sensor start end bytes is_whole why`; those that end
    after the border.

    `is_whole` is false where the counter does not tell all: bytes are then those after its new beginning.
    """
    silent: pl.DataFrame
    """Where something is missing, before the border too: `host sensor start end why lost is_long`; `lost` are
    heartbeats by their numbers, `is_long` says that nobody spoke for longer than three heartbeats take."""
    until: Callable[[int], Spoken]
    """What was said until a later border."""


class Clock(NamedTuple):
    """What time it is by heartbeats, and which of them do not know it."""

    last: int
    """The time that they have reached; 0 without any."""
    doubted: frozenset[int]
    """Minutes whose heartbeats are not believed."""
    misdated: int
    """How many those are."""

    def believed(self, beats: pl.DataFrame) -> pl.DataFrame:
        if not self.doubted:
            return beats
        minute = pl.col("time").cast(pl.Int64) // MINUTE_US * MINUTE_US
        return beats.filter(~minute.is_in(sorted(self.doubted)))


def clock_of(said: pl.DataFrame, cells: pl.DataFrame) -> Clock:
    """By `minute len` of heartbeats and of cells, and the `last` time of heartbeats in each.

    A stretch a week away from all others must hold a hundred of both, or a tenth of all; nothing outside of 2000..2099
    is believed. What is not is left out: it moves nothing. If there is nothing else, it is believed.
    """
    if said.is_empty():
        return Clock(0, frozenset(), 0)
    stretch = (pl.col("minute").diff() > QUIET_US).fill_null(False).cum_sum()
    counts = (
        pl.concat([each.select("minute", "len") for each in (said, cells)]).group_by("minute").agg(pl.col("len").sum())
    )
    counts = counts.sort("minute").with_columns(stretch=stretch)
    is_credible = pl.col("len").sum().over("stretch") >= pl.min_horizontal(ENOUGH, pl.col("len").sum() / 10)
    is_credible &= pl.col("minute").is_between(EARLIEST_US, LATEST_US, closed="left")
    credible = counts.filter(is_credible)["minute"]
    is_believed = pl.col("minute").is_in(credible.implode())
    doubted = said.filter(~is_believed)
    doubted = doubted.clear() if doubted.height == said.height else doubted
    last = said.filter(~pl.col("minute").is_in(doubted["minute"].implode()))["last"].max()
    assert isinstance(last, int)
    return Clock(last, frozenset(doubted["minute"]), int(doubted["len"].sum()))


def of(beats: pl.DataFrame, until: int, before: Spoken | None = None) -> Spans | None:
    """Spans of heartbeats that are believed; a sensor that stopped speaking before `until` is silent since.

    Of those said `before` none are needed. None where it would have been understood otherwise by what is known now.
    """
    before = before or Spoken()
    ordered = _ordered(beats, before)
    counted = _counted(ordered, before)
    between = _between(ordered).filter(pl.col("end") > before.border)
    patience = _patience(between, before)
    if before.border != NEVER and not _can_go_on(before, ordered, counted, patience):
        return None
    sent = _sent(counted).filter(pl.col("end") > before.border)

    def spoken_until(border: int) -> Spoken:
        flags = counted.select("place", "is_wide", "is_misread")
        told = ordered.drop("is_misread").join(flags, on="place", how="left", maintain_order="left")
        return spoken(before, told, between, patience, border)

    return Spans(sent, _silent(ordered, between, patience, until, before), spoken_until)


def _can_go_on(before: Spoken, ordered: pl.DataFrame, counted: pl.DataFrame, patience: pl.DataFrame) -> bool:
    """Whether nothing said now changes what was made of what was said before."""
    is_before = pl.col("is_new").cum_max().over(SENSOR) & ~pl.col("is_new")
    epochs = text(ordered.filter("is_new").select(EPOCH).unique())
    boots = text(counted.select(*BOOT, is_wide_now="is_wide").unique()).join(before.boots, on=BOOT)
    floors = text(patience).join(before.floors, on=SENSOR)
    return not (
        ordered.select(is_before.any()).item()
        or epochs.join(before.over, on=EPOCH).height
        or (boots["is_wide_now"] != boots["is_wide"]).any()
        or (counted["was_misread"] != counted["is_misread"]).any()
        or (floors["patience"] < floors["floor"]).any()
    )


def _ordered(beats: pl.DataFrame, before: Spoken) -> pl.DataFrame:
    """As each sensor spoke: epochs by when they began, within one by number. So a clock set back changes little."""
    # Sorted names as numbers: a sort of 4 M heartbeats takes a tenth of the time.
    known = {name: before.latest[name] for name in SENSOR} | {name: before.beats[name] for name in EPOCH[2:]}
    kinds = {name: pl.Enum(pl.concat([beats[name].unique(), known[name]]).unique().sort()) for name in EPOCH}
    names = [pl.col(name).cast(kind) for name, kind in kinds.items()]
    said = beats.select(*names, pl.col("time").cast(pl.Int64), "seq", "nic_tx_bytes", is_new=pl.lit(True))
    numbered = pl.concat([before.beats.with_columns(*names, is_new=pl.lit(False)), said], how="diagonal")
    began = pl.min_horizontal(pl.col("time").min(), pl.col("began").min())
    runs = numbered.group_by(EPOCH).agg(began=began).sort(*SENSOR, "began", "boot", "epoch")
    runs = runs.select(*EPOCH, "began", pl.row_index("run"))
    number = pl.when(pl.col("epoch").cast(pl.String) != "").then("seq")
    ordered = numbered.drop("began").join(runs, on=EPOCH, how="left", maintain_order="left").with_columns(number=number)
    ordered = ordered.sort("run", maintain_order=True)
    is_later = (pl.col("run") != pl.col("run").shift(1)) | (pl.col("number") > pl.col("number").shift(1))
    # Most come as they were said: to look costs a tenth of sorting.
    if not ordered.select(is_later.fill_null(False).slice(1).all()).item():
        ordered = ordered.sort("run", "number", "time", "seq", nulls_last=True)
    return ordered.drop("run", "number").with_row_index("place")


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


def _counted(ordered: pl.DataFrame, before: Spoken) -> pl.DataFrame:
    """Heartbeats that say what the card counted, each with whether its boot `is_wide` and it `is_misread`."""
    counted = ordered.filter(pl.col("nic_tx_bytes").is_not_null())
    wide = counted.filter(pl.col("nic_tx_bytes") >= END_32).select(BOOT).unique()
    known = before.boots.filter("is_wide").join(text(counted.select(BOOT).unique()), on=BOOT)
    known = known.select(pl.col(name).cast(counted.schema[name]) for name in BOOT)
    wide = pl.concat([wide, known]).unique().with_columns(is_wide=pl.lit(True))
    counted = counted.join(wide, on=BOOT, how="left", maintain_order="left").with_columns(
        pl.col("is_wide").fill_null(False)
    )
    return counted.with_columns(is_misread=pl.coalesce("is_misread", _is_misread()))


def _sent(counted: pl.DataFrame) -> pl.DataFrame:
    pairs = _paired(counted.filter(~pl.col("is_misread")))
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


def _between(ordered: pl.DataFrame) -> pl.DataFrame:
    pairs = _paired(ordered)
    is_same = ~pl.col("is_reboot") & ~pl.col("is_restart") & (pl.col("epoch").cast(pl.String) != "")
    is_later = pl.col("seq") > pl.col("old_seq")
    step = pl.when(is_later).then(pl.col("seq") - pl.col("old_seq")).otherwise(0)
    lost = pl.when(is_same & (step > 1)).then(step - 1).otherwise(0).clip(0, MOST).cast(pl.Int64)
    why = pl.coalesce(
        pl.when("is_reboot").then(pl.lit(REBOOT)), pl.when("is_restart").then(pl.lit(RESTART)), pl.lit("")
    )
    return pairs.select(*SENSOR, "start", "end", why=why, lost=lost.fill_null(0))


def _patience(between: pl.DataFrame, before: Spoken) -> pl.DataFrame:
    """`host sensor patience`: how long each that spoke twice may say nothing, by the median of its spans."""
    kinds = [pl.col(name).cast(between.schema[name]) for name in SENSOR]
    new = between.group_by(*SENSOR, length=pl.col("end") - pl.col("start")).agg(pl.len().cast(pl.Int64))
    lengths = pl.concat([before.lengths.with_columns(kinds), new])
    lengths = lengths.group_by(*SENSOR, "length").agg(pl.col("len").sum()).sort(*SENSOR, "length")
    total, until = pl.col("len").sum(), pl.col("len").cum_sum()
    middle = [pl.col("length").filter(until > place).first() for place in ((total - 1) // 2, total // 2)]
    cadence = lengths.group_by(SENSOR).agg(cadence=(middle[0] + middle[1]) // 2)
    patience = pl.max_horizontal(SILENT_US, MISSED * pl.col("cadence").clip(0, LONGEST_CADENCE_US))
    return cadence.select(*SENSOR, patience=patience)


def _silent(
    ordered: pl.DataFrame, between: pl.DataFrame, patience: pl.DataFrame, until: int, before: Spoken
) -> pl.DataFrame:
    kinds = [pl.col(name).cast(between.schema[name]) for name in SENSOR]
    latest = pl.concat([before.latest.with_columns(kinds), ordered.select(*SENSOR, "time")])
    last = latest.group_by(SENSOR).agg(pl.col("time").max().alias("start")).filter(pl.col("start") < until)
    ends = last.select(*SENSOR, "start", end=pl.lit(until, pl.Int64), why=pl.lit(END), lost=pl.lit(0, pl.Int64))
    both = pl.concat([before.between.with_columns(kinds), between, ends])
    both = both.join(patience, on=SENSOR, how="left", maintain_order="left")
    allowed = pl.when(pl.col("why") == END).then(CLOCKS_US).otherwise(0)
    is_long = pl.col("end") - pl.col("start") >= pl.col("patience").fill_null(SILENT_US) + allowed
    told = both.with_columns(is_long=is_long).drop("patience")
    is_kept = pl.col("is_long") | (pl.col("lost") > 0) | pl.col("why").is_in(["", END]).not_()
    return told.filter(is_kept).sort(*SENSOR, "start", "end")
