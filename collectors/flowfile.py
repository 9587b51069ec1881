"""Flow files (Parquet) as an input as good as a capture: `FLOWS`' columns, by whoever wrote them.

In their tally "frames" are rows and "bytes" are `src_bytes + dst_bytes`. Rows that cannot be a flow are skipped by
reason; a row that was there before, in any of the files, is a `duplicate_row`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from collectors import flowcolumns
from collectors.seenrows import SeenRows, flow_ids
from egress.contracts import Batch, Count, InputTally, ReadSettings, Skipped, Tally
from egress.errors import InputError
from egress.schema import FLOWS, SCHEMA_VERSION, conform

MAGIC = b"PAR1"
ROW_BYTES = 128
"""What a row takes in memory, about: turns `chunk_bytes` into rows."""

MAX_THRIFT = 64 << 20
"""Bytes of one file's footer that are believed; a row group takes about 2 kB there."""

DAMAGE = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises on a damaged file; a name that is no UTF-8 is a ValueError."""

EXAMPLES = 3
MAX_SHOWN = 60

NOT_FLOWS, UNREADABLE, DUPLICATE = "not_a_flow_file", "unreadable", "duplicate_row"


class FlowFileCollector:
    """Reads Parquet files row group by row group."""

    name = "flowfile"

    def claims(self, path: Path, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def read(self, paths: Sequence[Path], settings: ReadSettings) -> Iterator[Batch]:
        """Rows in the order of the files and within them; nothing downstream depends on it.

        Raises InputError where a file cannot be opened. One that is no Parquet inside, or whose columns are no flow's,
        is skipped with what it lacks.
        """
        seen = SeenRows()
        for path in paths:
            yield from _File(path, settings, seen).batches()


@dataclass
class _File:
    """One file while it is read."""

    path: Path
    settings: ReadSettings
    seen: SeenRows
    total: Count = field(default_factory=Count)
    shown: dict[str, int] = field(default_factory=dict)

    def batches(self) -> Iterator[Batch]:
        digest, size = _digest(self.path)
        try:
            file = _open(self.path)
        except DAMAGE as error:
            yield Batch(FLOWS.empty(), self._refused(UNREADABLE, _first_line(error), digest, size))
            return
        with file:
            lacks = flowcolumns.missing(file.schema_arrow)
            if lacks:
                what = f"no flow file: it lacks {', '.join(lacks)}; skipped"
                yield Batch(FLOWS.empty(), self._refused(NOT_FLOWS, what, digest, size))
                return
            yield from self._rows(file)
            unknown = len(file.schema_arrow.names) - len(flowcolumns.known(file.schema_arrow))
        notes = {"unknown_columns": unknown} if unknown else {}
        yield Batch(FLOWS.empty(), Tally(notes=notes, inputs=(self._input(digest, size),)))

    def _rows(self, file: pq.ParquetFile) -> Iterator[Batch]:
        columns = flowcolumns.known(file.schema_arrow)
        rows_at_once = max(1, self.settings.chunk_bytes // ROW_BYTES)
        first = 1
        for group in range(file.num_row_groups):
            promised = file.metadata.row_group(group).num_rows
            begin = first
            try:
                for batch in file.iter_batches(rows_at_once, [group], columns, use_threads=self.settings.threads > 1):
                    table = pa.Table.from_batches([batch])
                    table.validate(full=True)
                    yield self._batch(table, first)
                    first += table.num_rows
            except DAMAGE as error:
                lost = max(0, promised - (first - begin))
                yield self._lost(first, lost, _first_line(error))
                first += lost

    def _batch(self, table: pa.Table, first: int) -> Batch:
        written = self._as_written(table, first)
        if written is not None:
            return written
        frame = flowcolumns.normalise(table).with_columns(_row=pl.int_range(first, first + table.num_rows))
        frame = self._identified(frame, table.column_names)
        is_new = self.seen.add(frame.filter(pl.col("_reason").is_null()))
        good = frame.filter(pl.col("_reason").is_null())
        doubled = good.filter(~is_new).with_columns(_reason=pl.lit(DUPLICATE), _column=pl.lit(""))
        bad = pl.concat([frame.filter(pl.col("_reason").is_not_null()), doubled]).sort("_row")
        flows = conform(good.filter(is_new), FLOWS)
        skipped = {reason: _count(part) for (reason,), part in bad.group_by("_reason", maintain_order=True)}
        tally = Tally(_count(frame), _count(flows), skipped, {}, tuple(self._examples(bad, table, first)))
        self.total += tally.read
        return Batch(flows, tally)

    def _as_written(self, table: pa.Table, first: int) -> Batch | None:
        """None unless there is nothing wrong with any row, so that none needs to be looked at by itself."""
        frame = flowcolumns.as_written(table)
        if frame is None:
            return None
        rows = pl.int_range(first, first + table.num_rows, eager=True).alias("_row")
        flows = self._identified(frame.with_columns(rows), table.column_names).drop("_row")
        if not self.seen.add_new(flows):
            return None
        self.total += (count := _count(flows))
        return Batch(flows, Tally(count, count))

    def _identified(self, frame: pl.DataFrame, present: Sequence[str]) -> pl.DataFrame:
        """With an id where there was none, and where the row stands unless the file says where it was read first."""
        is_nameless = frame["flow_id"] == 0
        if is_nameless.any():
            frame = frame.with_columns(flow_id=pl.when(is_nameless).then(flow_ids(frame)).otherwise("flow_id"))
        if "collector" not in present:
            frame = frame.with_columns(collector=pl.lit("flowfile"))
        if "sensor" not in present:
            frame = frame.with_columns(sensor=pl.lit("replay"))
        is_placed = pl.col("origin") != ""
        return frame.with_columns(
            origin=pl.when(is_placed).then("origin").otherwise(pl.lit(self.path.name)),
            position=pl.when(is_placed).then("position").otherwise(pl.col("_row").cast(pl.UInt64)),
        )

    def _examples(self, bad: pl.DataFrame, table: pa.Table, first: int) -> Iterator[Skipped]:
        for row, reason, column in bad.select("_row", "_reason", "_column").head(1000).iter_rows():
            if self.shown.get(reason, 0) >= EXAMPLES:
                continue
            self.shown[reason] = self.shown.get(reason, 0) + 1
            what = _what(table, column, row - first)
            yield Skipped(reason, f"{self.path.name}, row {row}", f"{what}; row skipped, counted as {reason}")

    def _lost(self, row: int, rows: int, why: str) -> Batch:
        count = Count(rows, 0)
        self.total += count
        example = Skipped(
            UNREADABLE, f"{self.path.name}, row {row}", f"{why}; {rows} rows skipped to the next row group"
        )
        return Batch(FLOWS.empty(), Tally(count, Count(), {UNREADABLE: count}, {}, (example,)))

    def _refused(self, reason: str, what: str, digest: str, size: int) -> Tally:
        example = Skipped(reason, self.path.name, what)
        return Tally(skipped={reason: Count()}, examples=(example,), inputs=(self._input(digest, size),))

    def _input(self, digest: str, size: int) -> InputTally:
        return InputTally(str(self.path), digest, size, self.total.frames, self.total.bytes)


class FlowFileWriter:
    """Leaves flows as Parquet that `FlowFileCollector` reads back row by row; closed or not at all."""

    ROWS = 100_000
    """Rows of a row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(path.name + ".part")
        self._schema = FLOWS.empty().to_arrow().schema.with_metadata({"egress_schema": str(SCHEMA_VERSION)})
        self._waiting: list[pl.DataFrame] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._unfinished, self._schema, compression="zstd")

    def write(self, flows: pl.DataFrame) -> None:
        """Takes columns of FLOWS."""
        self._waiting.append(flows)
        if sum(frame.height for frame in self._waiting) >= self.ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()
        self._unfinished.replace(self._path)

    def _flush(self) -> None:
        if self._waiting:
            rows = conform(pl.concat(self._waiting), FLOWS).to_arrow().cast(self._schema)
            self._file.write_table(rows, row_group_size=self.ROWS)
            self._waiting = []


def _open(path: Path) -> pq.ParquetFile:
    limits = {"thrift_string_size_limit": MAX_THRIFT, "thrift_container_size_limit": MAX_THRIFT}
    with pq.ParquetFile(path, **limits) as file:
        texts = flowcolumns.text_columns(file.schema_arrow)
    return pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False, page_checksum_verification=True, **limits)


def _digest(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            digest, size = sha256(), 0
            while piece := file.read(1 << 20):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file that can be read") from error
    return digest.hexdigest(), size


def _count(rows: pl.DataFrame) -> Count:
    total = rows.select((pl.col("src_bytes").cast(pl.Int128) + pl.col("dst_bytes")).sum()).item()
    return Count(rows.height, int(total or 0))


def _what(table: pa.Table, column: str, row: int) -> str:
    if not column:
        return "the same row came before"
    return f"{column} is {_shown(table[column][row])}" if column in table.column_names else f"{column} is not there"


def _shown(value: pa.Scalar) -> str:
    """As text for a person: no control characters, not long."""
    try:
        text = repr(value.as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        text = "beyond what can be shown"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _first_line(error: Exception) -> str:
    return repr(str(error).partition("\n")[0][:200])[1:-1]
