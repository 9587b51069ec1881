"""Frames of declared tables as bytes, and back from bytes that nobody vouches for.

One Arrow IPC stream of one record batch inside of one zstd frame with a checksum. Text with few values travels as a
dictionary, addresses as 16 bytes. Reading is pyarrow's under full validation: Polars' own reader can end the process on
damaged bytes, and it trusts sizes that are written inside.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from egress.errors import EgressError
from egress.schema import ADDRESS_BYTES, TIME, Column, Table

LEVEL = 1
"""Measured on rows of flows: level 3 takes a fifth more time for a twentieth fewer bytes."""
SPELLED_BYTES = 8 << 20
MOST_TEXTS = 1_024
MAX_TIME_US = 2**53
"""The year 2255; before 1970 is as impossible."""

_INDEX = pa.int32()
_TEXT = pa.large_string()
_ADDRESS = pa.binary(ADDRESS_BYTES)
_OWN = threading.local()
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
"""Kinds of message, as the format numbers them (Arrow's Message.fbs)."""


class Reason(StrEnum):
    """Why bytes were refused: a closed set, the label of a counter."""

    NO_VALUE = "no_value"
    BAD_HEADER = "bad_header"
    UNKNOWN_SCHEMA = "unknown_schema"
    TOO_LARGE = "too_large"
    DAMAGED = "damaged"
    BAD_ARROW = "bad_arrow"
    OTHER_COLUMNS = "other_columns"
    IMPOSSIBLE_VALUE = "impossible_value"
    NOT_AS_SAID = "not_as_said"


class WireError(EgressError):
    """A message that is not what it should be. `what` is for a person, and quotes nothing of the message's content."""

    exit_code = 3

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(f"{what}; refused as {reason}")
        self.reason = reason
        self.what = what


def pack(frame: pl.DataFrame, table: Table, most_text: int = 0) -> bytes:
    """The same frame gives the same bytes. Raises ValueError where it is not the table's: columns, nulls, addresses.

    With `most_text`, raises WireError for a text of more bytes, and for more text than `SPELLED_BYTES` in all.
    """
    return pack_batch(to_batch(frame, table), most_text)


def pack_batch(batch: pa.RecordBatch, most_text: int = 0) -> bytes:
    """`pack` of what `to_batch` gave."""
    if most_text and _longest(batch, most_text) * batch.num_rows > SPELLED_BYTES:
        raise WireError(Reason.TOO_LARGE, f"the text of {batch.num_rows:,} rows could be larger than allowed")
    return _compressor().compress(written(batch))


def written(rows: pa.RecordBatch | pa.Table, codec: str | None = None) -> pa.Buffer:
    """An Arrow stream. Its size is found out first: a buffer that grows is copied as often as it doubles."""
    size = pa.MockOutputStream()
    _write(rows, size, codec)
    buffer = pa.allocate_buffer(size.size())
    _write(rows, pa.FixedSizeBufferWriter(buffer), codec)
    return buffer


def _write(rows: pa.RecordBatch | pa.Table, sink: pa.NativeFile, codec: str | None) -> None:
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as stream:
        stream.write(rows)


def to_batch(frame: pl.DataFrame, table: Table) -> pa.RecordBatch:
    """The frame in Arrow: text with few values as a dictionary, addresses as 16 bytes. Raises ValueError as `pack`."""
    plan = _plan(table)
    if frame.columns != plan.names or frame.dtypes != plan.dtypes:
        raise ValueError(f"columns are not those of {table.name}: conform() them first")
    return pa.RecordBatch.from_arrays(_encoded(frame, plan), schema=plan.schema)


def unpack(data: bytes, table: Table, most_bytes: int, most_text: int = 0) -> pl.DataFrame:
    """What `pack` was given. Raises WireError for anything that `pack` cannot have made.

    No more than `most_bytes` is taken for the decompressed stream, nor for the text that it spells out.
    """
    return frame_of(unpack_batch(data, table, most_bytes, most_text), table)


def unpack_batch(data: bytes, table: Table, most_bytes: int, most_text: int = 0) -> pa.RecordBatch:
    """`unpack` in Arrow, as it travels."""
    plan = _plan(table)
    raw = _decompressed(data, most_bytes)
    try:
        _look_inside(raw, plan)
        batch = pa.ipc.open_stream(raw).read_next_batch()
        if not batch.schema.equals(plan.schema, check_metadata=True):
            raise WireError(Reason.OTHER_COLUMNS, f"columns are not those of {table.name}")
        batch.validate(full=True)
        if most_text:
            _longest(batch, most_text)
        _check(batch, plan, most_bytes)
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise WireError(Reason.BAD_ARROW, f"no Arrow stream of {table.name}: {_first_line(error)}") from error
    return batch


def frame_of(batch: pa.RecordBatch, table: Table) -> pl.DataFrame:
    """The frame that `to_batch` was given."""
    plan = _plan(table)
    arrays, constant = {}, {}
    for name, array in zip(plan.names, batch.columns, strict=True):
        if name not in plan.repeated:
            arrays[name] = array
        elif len(array.dictionary) == 1 and not array.null_count:
            constant[name] = _one(name, array.dictionary[0].as_py()).new_from_index(0, len(array))
        else:
            arrays[name] = array.dictionary_decode()
    found = dict(zip(arrays, pl.DataFrame(pa.RecordBatch.from_pydict(arrays)).get_columns(), strict=True)) | constant
    return pl.DataFrame([found[name] for name in plan.names])


def raw_bytes(data: bytes) -> int:
    """What `pack`'s bytes take once they are decompressed."""
    return int(zstandard.get_frame_parameters(data).content_size)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from a table's declaration, found out once."""

    name: str
    schema: pa.Schema
    names: list[str]
    dtypes: list[pl.DataType]
    repeated: frozenset[str]
    addresses: frozenset[str]
    times: frozenset[str]
    required: frozenset[str]
    """Columns without nulls."""


@cache
def _plan(table: Table) -> _Plan:
    columns = table.columns
    return _Plan(
        table.name,
        arrow_schema(table),
        list(table.names),
        list(table.polars.dtypes()),
        frozenset(column.name for column in columns if _is_repeated(column)),
        frozenset(column.name for column in columns if _is_address(column)),
        frozenset(column.name for column in columns if column.dtype == TIME),
        frozenset(column.name for column in columns if not column.may_be_unknown),
    )


def arrow_schema(table: Table) -> pa.Schema:
    """How the table travels. No metadata; null only where a column may be unknown."""
    plain = table.empty().to_arrow().schema
    fields = [
        pa.field(column.name, _wire_type(column, plain.field(column.name).type), column.may_be_unknown)
        for column in table.columns
    ]
    return pa.schema(fields)


def _wire_type(column: Column, plain: pa.DataType) -> pa.DataType:
    if _is_repeated(column):
        return pa.dictionary(_INDEX, _TEXT)
    return _ADDRESS if _is_address(column) else plain


def _is_repeated(column: Column) -> bool:
    return column.clickhouse.startswith("LowCardinality")


def _is_address(column: Column) -> bool:
    return column.clickhouse == "IPv6"


def _encoded(frame: pl.DataFrame, plan: _Plan) -> list[pa.Array]:
    zeros = pl.zeros(frame.height, pl.Int32, eager=True).to_arrow()  # pa.array() imports pandas: 0.2 s
    arrays = []
    for name, series in zip(plan.names, frame.rechunk().get_columns(), strict=True):
        if name in plan.required and series.null_count():
            raise ValueError(f"{name} has nulls, and must not")
        if name in plan.repeated:
            arrays.append(_dictionary(series, zeros))
        elif name in plan.addresses:
            arrays.append(_fixed(series.to_arrow(), name))
        else:
            arrays.append(series.to_arrow())
    return arrays


def _dictionary(texts: pl.Series, zeros: pa.Array) -> pa.DictionaryArray:
    """Most columns hold one text, and finding that out takes a third of what pyarrow takes to find out more."""
    if _is_constant(texts):
        return pa.DictionaryArray.from_arrays(zeros, texts[:1].to_arrow(), safe=False)
    return texts.to_arrow().dictionary_encode()


def _is_constant(texts: pl.Series) -> bool:
    return len(texts) > 0 and not texts.null_count() and bool((texts == texts[0]).all())


def _fixed(array: pa.Array, name: str) -> pa.Array:
    """Addresses without their lengths; casting takes three times as long."""
    if array.null_count or not len(array):
        return array.cast(pa.binary()).cast(_ADDRESS)
    _, ends, content = array.buffers()
    places = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
    if (np.diff(places) != ADDRESS_BYTES).any():
        raise ValueError(f"{name} must be {ADDRESS_BYTES} bytes in every row")
    held = content.slice(int(places[0]), len(array) * ADDRESS_BYTES)
    return pa.FixedSizeBinaryArray.from_buffers(_ADDRESS, len(array), [None, held])


def _compressor() -> zstandard.ZstdCompressor:
    """One for each thread (it is not safe in two): setting up its tables takes as long as compressing 1,000 rows."""
    if not hasattr(_OWN, "compressor"):
        _OWN.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    found: zstandard.ZstdCompressor = _OWN.compressor
    return found


def _decompressed(data: bytes, most_bytes: int) -> bytes:
    """Refuses by the size that the frame states, before anything is allocated; a frame must state it."""
    try:
        stated = zstandard.get_frame_parameters(data).content_size
        if stated == zstandard.CONTENTSIZE_UNKNOWN:
            raise WireError(Reason.DAMAGED, "the zstd frame does not state its size")
        if stated > most_bytes:
            raise WireError(Reason.TOO_LARGE, f"{len(data):,} B would become {stated:,} B, {most_bytes:,} are allowed")
        if stated == 0:
            raise WireError(Reason.DAMAGED, "the zstd frame holds nothing")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=stated, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(Reason.DAMAGED, f"no whole zstd frame: {_first_line(error)}") from error


def _look_inside(raw: bytes, plan: _Plan) -> None:
    """One record batch, one dictionary for each column that has one, nothing after them, nothing compressed again.

    Arrow allows compressed buffers, and believes the sizes that they state.
    """
    source = pa.BufferReader(raw)
    messages = list(pa.ipc.MessageReader.open_stream(source))
    kinds = [message.type for message in messages]
    if kinds != ["schema", *["dictionary"] * len(plan.repeated), "record batch"] or source.tell() != len(raw):
        raise WireError(Reason.BAD_ARROW, f"not one record batch of {plan.name}")
    if any(_is_compressed(memoryview(message.metadata)) for message in messages):
        raise WireError(Reason.BAD_ARROW, "buffers are compressed inside of the stream")


def _is_compressed(metadata: memoryview) -> bool:
    """Whether a message (a flatbuffer, which pyarrow has verified) names a codec for its buffers."""
    (root,) = struct.unpack_from("<I", metadata)
    (kind,) = struct.unpack_from("<B", metadata, _field(metadata, root, 1))
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return False
    header = _target(metadata, _field(metadata, root, 2))
    if kind == _DICTIONARY_BATCH:
        header = _target(metadata, _field(metadata, header, 1))
    return _field(metadata, header, 3) != 0


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Where a flatbuffer table keeps a field; 0 where it has none."""
    (back,) = struct.unpack_from("<i", metadata, table)
    (size,) = struct.unpack_from("<H", metadata, table - back)
    if 4 + 2 * number >= size:
        return 0
    (place,) = struct.unpack_from("<H", metadata, table - back + 4 + 2 * number)
    return table + int(place) if place else 0


def _target(metadata: memoryview, place: int) -> int:
    (offset,) = struct.unpack_from("<I", metadata, place)
    return place + int(offset)


def _longest(batch: pa.RecordBatch, most: int) -> int:
    """The bytes of each column's longest text, summed; raises WireError where one is longer than `most`."""
    total = 0
    for array in batch.columns:
        texts = array.dictionary if pa.types.is_dictionary(array.type) else array
        if not pa.types.is_large_string(texts.type) or not len(texts):
            continue
        ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        longest = int((ends[1:] - ends[:-1]).max()) if ends[-1] > ends[0] else 0
        if longest > most:
            raise WireError(Reason.IMPOSSIBLE_VALUE, f"a text of {longest:,} B, {most:,} are allowed")
        total += longest
    return total


def _check(batch: pa.RecordBatch, plan: _Plan, most_bytes: int) -> None:
    for name, array in zip(plan.names, batch.columns, strict=True):
        if name in plan.repeated:
            most_bytes -= _text_bytes(array, array.dictionary)
            if most_bytes < 0:
                raise WireError(Reason.TOO_LARGE, f"the text of {plan.name} is larger than allowed")
            if array.dictionary.null_count:
                raise WireError(Reason.IMPOSSIBLE_VALUE, f"{name} has nulls among its texts, and must not")
        if array.null_count and name in plan.required:
            raise WireError(Reason.IMPOSSIBLE_VALUE, f"{name} has nulls, and must not")
        if name in plan.times:
            _check_times(array, name)


@lru_cache(maxsize=MOST_TEXTS)
def _one(name: str, text: str) -> pl.Series:
    """Made once: messages say the same few texts again and again."""
    return pl.Series(name, [text], pl.String)


def _text_bytes(array: pa.DictionaryArray, values: pa.Array) -> int:
    """What a dictionary's text takes once it is spelled out in every row."""
    if len(values) <= 1:  # most often: one host, one sensor, no container
        return len(array) * int(values.nbytes)
    lengths = pc.call_function("binary_length", [values]).take(array.indices)
    return int(pc.call_function("sum", [lengths]).as_py() or 0)


def _check_times(array: pa.Array, name: str) -> None:
    known = array.drop_null() if array.null_count else array
    if not len(known):
        return
    ticks = known.view(pa.int64()).to_numpy()
    first, last = int(ticks.min()), int(ticks.max())
    if not 0 <= first <= last <= MAX_TIME_US:
        raise WireError(Reason.IMPOSSIBLE_VALUE, f"{name} lies before 1970 or after 2255")


def _first_line(error: Exception) -> str:
    return repr(str(error).partition("\n")[0][:200])[1:-1]
