"""Other people's flow columns as Egress' own: types brought together, what cannot be a flow marked with its reason.

Addresses may be 16 or 4 bytes or text; times any unit and zone, or whole microseconds; numbers of any width, also
floats without a fraction. A naive time is UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import polars as pl
import pyarrow as pa

from egress.schema import ADDRESS_BYTES, FLOWS, TIME, V4_MAPPED_PREFIX, Column

REQUIRED = ("start", "end", "src_ip", "dst_ip", "proto")
COUNTED = ("src_bytes", "dst_bytes")
"""At least one of them must be there."""

MAX_COUNT = 2**63 - 1
MAX_TIME_US = 2**53
"""The year 2255; before 1970 is as impossible."""

MAX_NAME = 253
MAX_TEXT = 1024
"""Characters kept of text that others wrote: a host name's length for names, more for processes and files."""

TEXT_LIMITS = {"name": MAX_NAME, "host": MAX_NAME, "tunnel": MAX_NAME, "name_from": 16, "side": 3}

MISSING, IMPOSSIBLE, BACKWARDS, ADDRESS = "missing_value", "impossible_value", "ends_before_start", "bad_address"

TICKS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}


def missing(schema: pa.Schema) -> list[str]:
    """What a file with this schema lacks or has in a type that cannot be read; empty: it is a flow file."""
    wants = [name for name in REQUIRED if name not in schema.names]
    if not any(name in schema.names for name in COUNTED):
        wants.append(" or ".join(COUNTED))
    doubled = sorted({name for name in schema.names if name in FLOWS.names and schema.names.count(name) > 1})
    wrong = [name for name in known(schema) if name not in doubled and not _is_usable(name, schema.field(name).type)]
    return [
        *wants,
        *(f"{name} only once" for name in doubled),
        *(f"{name} as {_kind(name)} (it is {schema.field(name).type})" for name in wrong),
    ]


def known(schema: pa.Schema) -> list[str]:
    """The columns that a flow has, in FLOWS' order."""
    return [name for name in FLOWS.names if name in schema.names]


def text_columns(schema: pa.Schema) -> list[str]:
    """Columns to be read as dictionaries, so that a long text repeated often stays one text."""
    written = (pl.String, pl.Binary)
    names = [name for name in known(schema) if FLOWS.column(name).dtype in written]
    return [name for name in names if _is_text(schema.field(name).type)]


@dataclass(frozen=True, slots=True)
class _Read:
    """One column as it should be, and which rows cannot be read so."""

    value: pl.Expr
    is_unfit: pl.Expr
    reason: str = IMPOSSIBLE


def as_written(batch: pa.Table) -> pl.DataFrame | None:
    """The batch in Polars, where every row of it is one that Egress writes, so that `normalise` would change nothing.

    None: it has other columns, or a row that must be looked at. A third of what `normalise` takes.
    """
    frame = _plain(batch, times=False)
    if frame.schema != FLOWS.polars or not frame.height:
        return None
    return frame if all(frame.select(*_ARE_AS_WRITTEN).row(0)) else None


def normalise(batch: pa.Table) -> pl.DataFrame:
    """FLOWS' columns, and `_reason` (null: a good row) with the `_column` that it is about; rows stay in order.

    Values of a row with a reason mean nothing, except byte counts: they are 0 where they could not be read.
    """
    raw = _plain(batch)
    units = {field.name: field.type.unit for field in batch.schema if pa.types.is_timestamp(field.type)}
    reads = {name: _read(raw[name], units.get(name, "us")) for name in known(batch.schema)}
    reasons = [(read.is_unfit, read.reason, name) for name, read in reads.items()]
    reasons += [(pl.col(name).is_null(), MISSING, name) for name in REQUIRED + COUNTED if name in reads]
    frame = raw.select(
        *(_filled(column, reads.get(column.name)) for column in FLOWS.columns),
        _reason=pl.coalesce(*(pl.when(mask).then(pl.lit(why)) for mask, why, _ in reasons)),
        _column=pl.coalesce(*(pl.when(mask).then(pl.lit(name)) for mask, _, name in reasons)),
    )
    return _checked(frame)


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    """What no single column shows: parts that end before they start, a side without a host."""
    is_good = pl.col("_reason").is_null()
    is_backwards = is_good & (pl.col("end") < pl.col("start"))
    is_sideless = is_good & ((pl.col("host") != "") != pl.col("side").is_in(["src", "dst"]))
    return frame.with_columns(
        _reason=pl.when(is_backwards)
        .then(pl.lit(BACKWARDS))
        .when(is_sideless)
        .then(pl.lit(IMPOSSIBLE))
        .otherwise("_reason"),
        _column=pl.when(is_backwards).then(pl.lit("end")).when(is_sideless).then(pl.lit("side")).otherwise("_column"),
        sampling=pl.max_horizontal("sampling", pl.lit(1, pl.UInt32)),
        name_from=pl.when(pl.col("name") == "").then(pl.lit("")).otherwise("name_from"),
    )


def _filled(column: Column, read: _Read | None) -> pl.Expr:
    default = 0 if column.name in COUNTED else column.default
    filler = pl.lit(default, column.dtype)
    if read is None:
        return filler.alias(column.name)
    value = pl.when(~read.is_unfit).then(read.value).cast(column.dtype)
    return (value if default is None else value.fill_null(filler)).alias(column.name)


def _plain(batch: pa.Table, *, times: bool = True) -> pl.DataFrame:
    """The batch in Polars: dictionaries as text, and `times` as their ticks."""
    series = []
    for name, column in zip(batch.column_names, batch.itercolumns(), strict=True):
        plain = column.cast(pa.int64()) if times and pa.types.is_timestamp(column.type) else column
        series.append(
            _text(name, plain) if pa.types.is_dictionary(plain.type) else pl.Series(name, pl.from_arrow(plain))
        )
    return pl.DataFrame(series)


def _text(name: str, column: pa.ChunkedArray) -> pl.Series:
    """Most columns of text say the same in every row."""
    if column.num_chunks == 1 and len(column.chunk(0).dictionary) == 1 and not column.null_count:
        found = pl.Series(name, pl.from_arrow(column.chunk(0).dictionary), pl.String)
        if not found.null_count():
            return found.new_from_index(0, len(column))
    return pl.Series(name, pl.from_arrow(column)).cast(pl.String)


def _read(raw: pl.Series, unit: str) -> _Read:
    column = FLOWS.column(raw.name)
    if column.dtype == TIME:
        return _time(raw.name, unit)
    if column.dtype == pl.Binary:
        return _text_address(raw) if raw.dtype == pl.String else _byte_address(raw.name)
    if column.dtype == pl.String:
        return _Read(pl.col(raw.name).str.head(TEXT_LIMITS.get(raw.name, MAX_TEXT)), pl.lit(False))
    return _number(raw, column)


def _time(name: str, unit: str) -> _Read:
    ticks = pl.col(name).cast(pl.Int64, strict=False)
    a_tick = TICKS_NS[unit]
    limit = MAX_TIME_US * 1000 // a_tick
    us = ticks // (1000 // a_tick) if a_tick < 1000 else ticks * (a_tick // 1000)
    return _Read(us.cast(TIME), pl.col(name).is_not_null() & ~ticks.is_between(0, limit).fill_null(False))


def _number(raw: pl.Series, column: Column) -> _Read:
    value = pl.col(raw.name)
    fitting = value.cast(column.dtype, strict=False)
    is_unfit = fitting.is_null()
    if raw.dtype.is_float():
        is_unfit |= value.is_nan() | (value != value.floor())
    if column.unit:
        is_unfit |= fitting > MAX_COUNT
    return _Read(fitting, value.is_not_null() & is_unfit)


def _byte_address(name: str) -> _Read:
    value, size = pl.col(name).cast(pl.Binary), pl.col(name).cast(pl.Binary).bin.size()
    packed = pl.when(size == 4).then(pl.lit(V4_MAPPED_PREFIX) + value).otherwise(value)
    return _Read(packed, value.is_not_null() & ~size.is_in([4, ADDRESS_BYTES]), ADDRESS)


def _text_address(raw: pl.Series) -> _Read:
    """Each distinct text is parsed once."""
    distinct = raw.drop_nulls().unique()
    packed = pl.Series([_packed(text) for text in distinct], dtype=pl.Binary)
    value = pl.col(raw.name).replace_strict(distinct, packed, default=None, return_dtype=pl.Binary)
    return _Read(value, pl.col(raw.name).is_not_null() & value.is_null(), ADDRESS)


def _packed(text: str) -> bytes | None:
    try:
        packed = ip_address(text.strip()).packed
    except ValueError:
        return None
    return V4_MAPPED_PREFIX + packed if len(packed) == 4 else packed


def _are_as_written() -> Iterator[pl.Expr]:
    """What holds for all rows of a batch of which each could be passed on as it is."""
    for column in FLOWS.columns:
        value = pl.col(column.name)
        yield value.null_count() == 0
        if column.dtype == TIME:
            yield value.to_physical().is_between(0, MAX_TIME_US).all()
        elif column.dtype == pl.Binary:
            yield (value.bin.size() == ADDRESS_BYTES).all()
        elif column.dtype == pl.String:
            yield value.str.len_bytes().max() <= TEXT_LIMITS.get(column.name, MAX_TEXT)
        elif column.unit:
            yield value.max() <= MAX_COUNT
    yield (pl.col("start") <= pl.col("end")).all()
    yield ((pl.col("host") != "") == pl.col("side").is_in(["src", "dst"])).all()
    yield pl.col("sampling").min() >= 1
    yield ((pl.col("name") != "") | (pl.col("name_from") == "")).all()


_ARE_AS_WRITTEN = [claim.alias(str(number)) for number, claim in enumerate(_are_as_written())]


def _is_usable(name: str, kind: pa.DataType) -> bool:
    types, wanted = pa.types, FLOWS.column(name).dtype
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = _is_text(kind) or types.is_string_view(kind)
    if wanted == TIME:
        return bool(types.is_timestamp(kind) or types.is_integer(kind))
    if wanted == pl.Binary:
        is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
        return bool(is_text or is_bytes)
    if wanted == pl.String:
        return bool(is_text)
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind(name: str) -> str:
    dtype = FLOWS.column(name).dtype
    return {TIME: "time", pl.Binary: "address", pl.String: "text"}.get(dtype, "number")
