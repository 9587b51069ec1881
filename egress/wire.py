"""Messages on the bus: rows of one host, and headers that say which they are before anything is decoded.

A schema's name stands for its columns for ever (`tests/data/wire` holds bytes of each). New columns are a new name; the
old one stays in `SCHEMAS` with the table as it was, so that what lies on the bus or in a spool can be read after an
upgrade. Only names in `SCHEMAS` are read at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
import pyarrow as pa

from egress.heartbeats import HEARTBEATS
from egress.packing import (
    Reason,
    WireError,
    arrow_schema,
    frame_of,
    pack,
    pack_batch,
    raw_bytes,
    to_batch,
    unpack,
    unpack_batch,
)
from egress.schema import FLOWS, Table, conform

__all__ = ["SCHEMAS", "Header", "Reason", "Version", "WireError", "arrow_schema", "decode", "encode", "pack", "unpack"]

FLOWS_V1 = "egress.flows.v1"
HEARTBEATS_V1 = "egress.heartbeats.v1"

MOST_VALUE_BYTES = 900_000
"""A message as it travels: below the 1 MB that brokers allow where nobody changed it."""
MOST_RAW_BYTES = 16 << 20
"""The same decompressed: 2,000 rows of flows take 0.6 MB."""
MOST_ROWS = 16_384
MOST_TEXT_BYTES = 4096
"""One text in a row: a path is the longest (PATH_MAX)."""
MAX_COUNT = 2**63 - 1

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Header:
    """Which rows these are. (sensor, host, epoch, seq) names a message once and for all."""

    schema: str
    host: str
    sensor: str
    boot: str
    """Which start of the host; empty if unknown."""
    epoch: str
    """Which start of the sensor, or which content of a file."""
    seq: int
    """0, 1, 2, ... for each (sensor, host, epoch): a hole is a lost message."""
    rows: int


@dataclass(frozen=True, slots=True)
class Version:
    """A schema as it was written, and the table that it is read as."""

    written: Table
    read: Table

    def raised(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """With the columns of today: what is new has its default, what is gone is gone."""
        if self.written is self.read:
            return batch
        return to_batch(conform(frame_of(batch, self.written), self.read), self.read)


SCHEMAS: Mapping[str, Version] = {
    FLOWS_V1: Version(FLOWS, FLOWS),
    HEARTBEATS_V1: Version(HEARTBEATS, HEARTBEATS),
}

_COUNTS = tuple(column.name for column in FLOWS.columns if column.unit in ("bytes", "packets"))
_HEADERS = tuple(field.name for field in fields(Header))
_NUMBERS = ("seq", "rows")
_MOST_HEADER_BYTES = 253
_MOST_DIGITS = 18


def encode(
    frame: pl.DataFrame, header: Header, schemas: Mapping[str, Version] = SCHEMAS
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of a message; equal frames and headers give equal bytes.

    Raises WireError where `decode` would: `too_large` tells the caller to send the rows in two parts. Raises ValueError
    where the columns are not the table's, KeyError for an unknown schema.
    """
    batch = to_batch(frame, schemas[header.schema].written)
    _check_rows(batch, header)
    value = pack_batch(batch, MOST_TEXT_BYTES)
    if len(value) > MOST_VALUE_BYTES or raw_bytes(value) > MOST_RAW_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{frame.height:,} rows take {len(value):,} B, {MOST_VALUE_BYTES:,} may go")
    return value, [(name, str(getattr(header, name)).encode()) for name in _HEADERS]


def decode(
    value: bytes | None,
    headers: Headers,
    schemas: Mapping[str, Version] = SCHEMAS,
    most_bytes: int = MOST_RAW_BYTES,
) -> tuple[Header, pl.DataFrame]:
    """A message's header and its rows, with today's columns. Raises WireError, and nothing else, for what is wrong."""
    header, batch = decode_batch(value, headers, schemas, most_bytes)
    return header, frame_of(batch, schemas[header.schema].read)


def decode_batch(
    value: bytes | None,
    headers: Headers,
    schemas: Mapping[str, Version] = SCHEMAS,
    most_bytes: int = MOST_RAW_BYTES,
) -> tuple[Header, pa.RecordBatch]:
    """`decode` in Arrow, as the rows travel."""
    header = read_header(headers)
    if header.schema not in schemas:
        raise WireError(Reason.UNKNOWN_SCHEMA, f"schema {header.schema!r:.60} is not known here")
    if not value:
        raise WireError(Reason.NO_VALUE, "the message has no value")
    if len(value) > MOST_VALUE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"the value has {len(value):,} B, {MOST_VALUE_BYTES:,} are allowed")
    version = schemas[header.schema]
    batch = unpack_batch(value, version.written, most_bytes, MOST_TEXT_BYTES)
    _check_rows(batch, header)
    return header, version.raised(batch)


def read_header(headers: Headers) -> Header:
    """Raises WireError unless each of Header's fields is there once; other headers are others' business."""
    found: dict[str, str | int] = {}
    for name, value in headers:
        if name not in _HEADERS:
            continue
        if name in found:
            raise WireError(Reason.BAD_HEADER, f"header {name} is there twice")
        found[name] = _number(name, value) if name in _NUMBERS else _text(name, value)
    missing = [name for name in _HEADERS if name not in found]
    if missing:
        raise WireError(Reason.BAD_HEADER, f"no header {', '.join(missing)}")
    return Header(**found)  # type: ignore[arg-type] # each read as its field's type above


def _text(name: str, value: bytes) -> str:
    try:
        if value is not None and len(value) <= _MOST_HEADER_BYTES:
            return bytes(value).decode()
    except UnicodeDecodeError:
        pass
    raise WireError(Reason.BAD_HEADER, f"header {name} is no text of up to {_MOST_HEADER_BYTES} B")


def _number(name: str, value: bytes) -> int:
    if value is None or not 1 <= len(value) <= _MOST_DIGITS or not bytes(value).isdigit():
        raise WireError(Reason.BAD_HEADER, f"header {name} is no decimal number of up to {_MOST_DIGITS} digits")
    return int(value)


def _check_rows(batch: pa.RecordBatch, header: Header) -> None:
    if batch.num_rows != header.rows:
        raise WireError(Reason.NOT_AS_SAID, f"{batch.num_rows} rows, and the header says {header.rows}")
    if batch.num_rows > MOST_ROWS:
        raise WireError(Reason.TOO_LARGE, f"{batch.num_rows:,} rows, {MOST_ROWS:,} are allowed")
    if not batch.num_rows:
        return
    if _texts(batch, "host") != {header.host}:
        raise WireError(Reason.NOT_AS_SAID, "rows of another host than the header's")
    if "flow_id" in batch.schema.names:
        _check_flows(batch, header.host)


def _check_flows(batch: pa.RecordBatch, host: str) -> None:
    """What a collector never writes, whoever it was that did."""
    start, end = (batch.column(name).view(pa.int64()).to_numpy() for name in ("start", "end"))
    most = max(int(batch.column(name).to_numpy().max()) for name in _COUNTS)
    if most > MAX_COUNT or int(batch.column("sampling").to_numpy().min()) < 1:
        raise WireError(Reason.IMPOSSIBLE_VALUE, "a counter that no wire can reach")
    if (end < start).any():
        raise WireError(Reason.IMPOSSIBLE_VALUE, "a row that ends before it starts")
    if not _texts(batch, "side") <= ({"src", "dst"} if host else {""}):
        raise WireError(Reason.IMPOSSIBLE_VALUE, "a side that does not go with the host")


def _texts(batch: pa.RecordBatch, name: str) -> set[str]:
    """What a column of text says in any row."""
    column = batch.column(name)
    used = [0] if len(column.dictionary) == 1 else np.unique(column.indices.to_numpy()).tolist()
    return {column.dictionary[index].as_py() for index in used}
