"""Heartbeat files, Parquet or lines of JSON (also gzip or zstd), as an input beside captures and flow files.

In their tally "frames" are rows; they carry no traffic, so they have no bytes. A row that cannot be a heartbeat is
skipped by reason. Which rows are duplicates is decided where all of them meet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from collectors.containers import Stored, chunks
from collectors.heartbeatcolumns import is_heartbeat, normalise
from egress.contracts import Batch, Count, InputTally, ReadSettings, Skipped, Tally
from egress.heartbeats import HEARTBEATS
from egress.schema import FLOWS

MAGIC = b"PAR1"
ROW_BYTES = 256
"""What a row takes in memory, about: turns `chunk_bytes` into rows."""
MAX_LINE = 1 << 20
"""A longer line is no heartbeat; what comes until its end is dropped with it."""
MAX_THRIFT = 64 << 20
EXAMPLES = 3
DAMAGE = (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError)
UNREADABLE = "unreadable"


class HeartbeatFileCollector:
    """Knows a heartbeat by its columns: `time`, `host`, and `sensor`, `epoch`, `seq` or `nic_tx_bytes`."""

    name = "heartbeatfile"

    def claims(self, path: Path, head: bytes) -> bool:
        if head.startswith(MAGIC):
            try:
                return is_heartbeat(pq.read_schema(path).names)
            except DAMAGE:
                return False
        return is_heartbeat(_keys(head))

    def read(self, paths: Sequence[Path], settings: ReadSettings) -> Iterator[Batch]:
        """Rows in the order of the files; nothing downstream depends on it. Raises InputError where one cannot be
        opened."""
        for path in paths:
            yield from _File(path, settings).batches()


@dataclass
class _File:
    """One file while it is read."""

    path: Path
    settings: ReadSettings
    stored: Stored = field(init=False)
    rows: int = 0
    shown: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stored = Stored(str(self.path))

    def batches(self) -> Iterator[Batch]:
        first = next(chunks(Stored(""), self.path, len(MAGIC)), b"")
        yield from self._parquet() if first.startswith(MAGIC) else self._lines()
        if self.stored.fault is not None:
            reason, what = self.stored.fault
            yield self._batch(None, Tally(skipped={reason: Count()}, examples=(Skipped(reason, self.path.name, what),)))
        yield self._batch(None, Tally())

    def _parquet(self) -> Iterator[Batch]:
        for _ in chunks(self.stored, self.path, 1 << 20):
            pass
        limits = {"thrift_string_size_limit": MAX_THRIFT, "thrift_container_size_limit": MAX_THRIFT}
        try:
            with pq.ParquetFile(self.path, **limits) as file:
                known = [name for name in HEARTBEATS.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(max(1, self.settings.chunk_bytes // ROW_BYTES), columns=known):
                    table = pa.Table.from_batches([batch])
                    table.validate(full=True)
                    frame = pl.from_arrow(table)
                    assert isinstance(frame, pl.DataFrame)
                    yield self._judged(frame)
        except DAMAGE as error:
            if isinstance(error, MemoryError):
                raise
            what = f"{repr(str(error).partition(chr(10))[0][:200])[1:-1]}; the rest was not read"
            example = Skipped(UNREADABLE, f"{self.path.name}, row {self.rows + 1}", what)
            yield self._batch(None, Tally(skipped={UNREADABLE: Count()}, examples=(example,)))

    def _lines(self) -> Iterator[Batch]:
        for lines in _lines(chunks(self.stored, self.path, self.settings.chunk_bytes)):
            parsed = [_parsed(line) for line in lines if line.strip()]
            if parsed:
                yield self._judged(_framed(parsed))

    def _judged(self, raw: pl.DataFrame) -> Batch:
        rows = normalise(raw).with_row_index("_row", self.rows + 1)
        self.rows += rows.height
        good, bad = rows.filter(pl.col("_reason").is_null()), rows.filter(pl.col("_reason").is_not_null())
        skipped = {
            reason: Count(number) for reason, number in bad.group_by("_reason").len().sort("_reason").iter_rows()
        }
        tally = Tally(Count(rows.height), Count(good.height), skipped, {}, tuple(self._examples(bad)))
        return self._batch(good.select(HEARTBEATS.names), tally)

    def _examples(self, bad: pl.DataFrame) -> Iterator[Skipped]:
        for row, reason, column in bad.select("_row", "_reason", "_column").head(1000).iter_rows():
            self.shown[reason] = self.shown.get(reason, 0) + 1
            if self.shown[reason] <= EXAMPLES:
                what = f"{column} is not there or cannot be read; row skipped, counted as {reason}"
                yield Skipped(reason, f"{self.path.name}, row {row}", what)

    def _batch(self, rows: pl.DataFrame | None, tally: Tally) -> Batch:
        read = InputTally(str(self.path), self.stored.sha256, self.stored.bytes, self.rows, 0)
        return Batch(FLOWS.empty(), tally + Tally(inputs=(read,)), rows)


def _keys(head: bytes) -> list[str]:
    """Keys of the JSON object in the first line; none where there is none."""
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
    return list(_parsed(line)) if line.startswith(b"{") else []


def _lines(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Whole lines, a piece's worth at a time."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[: MAX_LINE + 1]
        yield lines
    yield [rest]


def _parsed(line: bytes) -> dict[str, object]:
    """The object on a line; empty, and so without a time, where there is none."""
    if len(line) > MAX_LINE:
        return {}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _framed(rows: Sequence[dict[str, object]]) -> pl.DataFrame:
    """Every value as text, which `normalise` reads as what the column needs."""
    return pl.DataFrame(
        {name: [_text(row.get(name)) for row in rows] for name in HEARTBEATS.names},
        schema_overrides=dict.fromkeys(HEARTBEATS.names, pl.String),
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
