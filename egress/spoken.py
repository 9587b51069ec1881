"""What sensors said before a border in time, as far as what they say after it rests on it.

Times are UTC microseconds; names are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

NEVER = -(2**62)
"""A border before everything."""
SENSOR = ["host", "sensor"]
BOOT = [*SENSOR, "boot"]
EPOCH = [*BOOT, "epoch"]
BEAT = ["time", "seq", "nic_tx_bytes"]


def blank(texts: Sequence[str], **others: pl.DataType | type[pl.DataType]) -> pl.DataFrame:
    """No rows of columns of text and others."""
    kinds: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(texts, pl.String)
    return pl.DataFrame(schema=kinds | others)


_BEATS = blank(
    EPOCH,
    **{"time": pl.Int64, "seq": pl.UInt64, "nic_tx_bytes": pl.UInt64, "began": pl.Int64},
    **dict.fromkeys(("is_misread", "was_misread"), pl.Boolean),
)
_BETWEEN = blank(SENSOR, start=pl.Int64, end=pl.Int64, why=pl.String, lost=pl.Int64)


@dataclass(frozen=True, slots=True)
class Spoken:
    """Spans that ended by the border are not in it, but for those that may be silences."""

    border: int = NEVER
    beats: pl.DataFrame = field(default_factory=_BEATS.clone)
    """The last ones of each sensor, in order, with when their epoch `began`. Whether the last one that counted
    `is_misread` is told by the next; what it `was_misread` as has to stay so."""
    over: pl.DataFrame = field(default_factory=blank(EPOCH).clone)
    """Epochs that another came after."""
    boots: pl.DataFrame = field(default_factory=blank(BOOT, is_wide=pl.Boolean).clone)
    """Those that counted, and whether beyond 32 bits."""
    latest: pl.DataFrame = field(default_factory=blank(SENSOR, time=pl.Int64).clone)
    lengths: pl.DataFrame = field(default_factory=blank(SENSOR, length=pl.Int64, len=pl.Int64).clone)
    """How many spans of each length there were."""
    between: pl.DataFrame = field(default_factory=_BETWEEN.clone)
    """Spans that may be silences, as `spans.Spans` has them."""
    floors: pl.DataFrame = field(default_factory=blank(SENSOR, floor=pl.Int64).clone)
    """How long a span has to be to stand there, if nothing else is odd about it."""


def spoken(before: Spoken, beats: pl.DataFrame, between: pl.DataFrame, patience: pl.DataFrame, border: int) -> Spoken:
    """What was said until a later border: from all `beats` since the last one and those kept there, in order and with
    `began is_wide is_misread` (null for those that say nothing of the card), spans `between` them, and `patience`."""
    said = beats.with_row_index("row").filter(pl.col("time") < border)
    spans = between.filter(pl.col("end") <= border)
    lengths = spans.group_by(*SENSOR, length=pl.col("end") - pl.col("start")).len()
    floors = patience.select(*SENSOR, floor=pl.col("patience") // 2)
    floors = text(pl.concat([before.floors, text(floors)])).group_by(SENSOR).agg(pl.col("floor").max())
    may_be = pl.concat([before.between, text(spans)]).join(floors, on=SENSOR, how="left", maintain_order="left")
    is_odd = (pl.col("lost") > 0) | (pl.col("why") != "")
    may_be = may_be.filter(is_odd | (pl.col("end") - pl.col("start") >= pl.col("floor").fill_null(NEVER)))
    counted = said.filter(pl.col("is_misread").is_not_null())
    boots = text(counted.group_by(BOOT).agg(pl.col("is_wide").any()))
    latest = text(said.group_by(SENSOR).agg(pl.col("time").max()))
    every = pl.concat([before.lengths, text(lengths).cast(before.lengths.schema)])
    return Spoken(
        border,
        text(_last(said, counted)).select(before.beats.columns),
        pl.concat([before.over, _over(said)]),
        pl.concat([before.boots, boots]).group_by(BOOT).agg(pl.col("is_wide").any()),
        pl.concat([before.latest, latest]).group_by(SENSOR).agg(pl.col("time").max()),
        every.group_by(*SENSOR, "length").agg(pl.col("len").sum()),
        may_be.select(before.between.columns),
        floors,
    )


def _last(said: pl.DataFrame, counted: pl.DataFrame) -> pl.DataFrame:
    """The last beat of each sensor, the last two that counted, and of those that were not misread one before these."""
    groups = [(said, 1), (counted, 2), (counted.filter(~pl.col("is_misread")), 2)]
    rows = pl.concat(frame.group_by(SENSOR).tail(most)["row"] for frame, most in groups).unique()
    newest = counted.group_by(SENSOR).tail(1)["row"]
    is_newest = pl.col("row").is_in(newest.implode())
    return (
        said.filter(pl.col("row").is_in(rows.implode()))
        .with_columns(was_misread=pl.when(is_newest).then("is_misread"))
        .with_columns(is_misread=pl.when(~is_newest).then("is_misread"))
    )


def _over(said: pl.DataFrame) -> pl.DataFrame:
    epochs = said.group_by(EPOCH).agg(pl.col("row").max())
    return text(epochs.filter(pl.col("row") < pl.col("row").max().over(SENSOR)).select(EPOCH))


def text(rows: pl.DataFrame) -> pl.DataFrame:
    """With names as text, where they were an Enum."""
    return rows.with_columns(pl.col(pl.Enum).cast(pl.String))
