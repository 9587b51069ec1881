"""Other people's heartbeat columns as Egress' own; what cannot be a heartbeat is marked with its reason.

Times may be timestamps of any unit and zone, whole microseconds, or ISO 8601 text; without a zone they are UTC.
Numbers may be of any width, also floats without a fraction and text; texts may be numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import polars as pl

from egress.heartbeats import HEARTBEATS
from egress.schema import TIME, Column

REQUIRED = ("time", "host")
TELLING = ("sensor", "seq", "epoch", "nic_tx_bytes")
"""At least one of them makes a file with `time` and `host` a heartbeat file."""

FOREIGN = ("src_ip", "dst_ip", "event", "object", "class_uid")
"""What has one of them is something else: flows, lifecycle events, receipts, findings."""

MAX_TIME_US = 2**53
"""The year 2255; before 1970 is as impossible."""
MAX_TEXT = 253
MISSING, IMPOSSIBLE = "missing_value", "impossible_value"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_heartbeat(names: Collection[str]) -> bool:
    """Whether columns of these names are those of heartbeats."""
    present = set(names)
    return present.issuperset(REQUIRED) and bool(present & set(TELLING)) and not present & set(FOREIGN)


def normalise(raw: pl.DataFrame) -> pl.DataFrame:
    """HEARTBEATS' columns, and `_reason` (null: a good row) with the `_column` that it is about; rows stay in order."""
    reads = {column.name: _read(raw[column.name], column) for column in HEARTBEATS.columns if column.name in raw}
    frame = pl.DataFrame(list(reads.values()))
    marks = [(raw[name].is_not_null() & value.is_null(), IMPOSSIBLE, name) for name, value in reads.items()]
    marks += [(frame["time"].is_null(), MISSING, "time"), (frame["host"].fill_null("") == "", MISSING, "host")]
    return frame.select(
        *(_filled(column, frame.columns) for column in HEARTBEATS.columns),
        _reason=pl.coalesce(*(pl.when(mask).then(pl.lit(why)) for mask, why, _ in marks)),
        _column=pl.coalesce(*(pl.when(mask).then(pl.lit(name)) for mask, _, name in marks)),
    )


def _filled(column: Column, present: Collection[str]) -> pl.Expr:
    value = pl.col(column.name) if column.name in present else pl.lit(None, column.dtype).alias(column.name)
    return value if column.default is None else value.fill_null(pl.lit(column.default, column.dtype))


def _read(raw: pl.Series, column: Column) -> pl.Series:
    """The column in its type; null where it cannot be read so."""
    if isinstance(raw.dtype, pl.Categorical | pl.Enum):
        raw = raw.cast(pl.String)
    if column.dtype == TIME:
        return _times(raw)
    if column.dtype == pl.String:
        return raw.cast(pl.String, strict=False).str.slice(0, MAX_TEXT)
    whole = raw.set(raw.is_nan() | (raw != raw.floor()), None) if raw.dtype.is_float() else raw
    return whole.cast(pl.UInt64, strict=False)


def _times(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.String:
        raw = pl.Series(raw.name, [_moment(text) for text in raw], pl.Int64)
    elif isinstance(raw.dtype, pl.Datetime):
        raw = raw.dt.epoch("us")
    ticks = raw.cast(pl.Int64, strict=False)
    return ticks.set(~ticks.is_between(0, MAX_TIME_US), None).cast(TIME)


def _moment(text: str | None) -> int | None:
    """UTC microseconds."""
    if text is None or text.isdecimal():
        return None if text is None else min(int(text[:20]), MAX_TIME_US + 1)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
