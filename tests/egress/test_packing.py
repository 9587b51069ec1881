"""Frames as bytes, and bytes of anybody as frames: equal, or refused, and never more memory than allowed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import packing
from egress.ddl import FINDINGS
from egress.heartbeats import HEARTBEATS
from egress.packing import Reason, WireError, pack, unpack
from egress.schema import CELLS, FLOWS, Table, conform
from tests.egress.strategies import NOON, few, flows_of, traffic

MIB = 1 << 20
ROWS = conform(
    pl.DataFrame(
        {
            "host": ["gpu-01", "gpu-01", "gpu-02"],
            "sensor": ["replay"] * 3,
            "remote_ip": [bytes(15) + bytes([n]) for n in range(3)],
            "name": ["a.example.org", "", "ü.example.org"],
            "minute": [NOON, NOON, NOON + 60_000_000],
            "first": [NOON] * 3,
            "last": [NOON + 1] * 3,
            "sent": [0, 1, 2**63 - 1],
        }
    ),
    CELLS,
)


def arrow_of(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)


def framed(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(raw)


def stream_of(*batches: pa.RecordBatch, codec: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return framed(sink.getvalue().to_pybytes())


def batch_of(frame: pl.DataFrame, table: Table, **columns: pa.Array) -> pa.RecordBatch:
    """What `pack` writes, with some columns replaced."""
    batch = pa.ipc.open_stream(arrow_of(pack(frame, table))).read_next_batch()
    arrays = [columns.get(name, array) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def refusal(data: bytes, table: Table = CELLS, most_bytes: int = MIB) -> Reason:
    with pytest.raises(WireError) as caught:
        unpack(data, table, most_bytes)
    return caught.value.reason


@few
@given(traffic)
def test_flows_come_back_as_they_went(transfers: list) -> None:  # type: ignore[type-arg] # of Transfer
    """Every type that a flow has, from no row to eight."""
    flows = flows_of(transfers)

    back = unpack(pack(flows, FLOWS), FLOWS, MIB)

    assert_frame_equal(flows, back)


def test_unknown_numbers_and_lists_come_back_as_they_went() -> None:
    """Null is not 0, and an empty list is not null."""
    beats = conform(pl.DataFrame({"time": [NOON, NOON], "host": ["a", "b"], "seq": [None, 7]}), HEARTBEATS)
    found = conform(
        pl.DataFrame(
            {
                column.name: [[], ["x", ""]] if column.dtype == pl.List(pl.String) else [1, 0]
                for column in FINDINGS.columns
            }
        ),
        FINDINGS,
    )

    assert_frame_equal(beats, unpack(pack(beats, HEARTBEATS), HEARTBEATS, MIB))
    assert_frame_equal(found, unpack(pack(found, FINDINGS), FINDINGS, MIB))


def test_the_same_rows_are_the_same_bytes_however_they_lie_in_memory() -> None:
    """Pieces, slices and views of one frame: a message may be compared byte for byte."""
    pieces = pl.concat([ROWS[:1], ROWS[1:]], rechunk=False)
    slice_of_more = pl.concat([ROWS[2:], ROWS], rechunk=True)[1:]

    assert pieces.n_chunks() == 2
    assert pack(ROWS, CELLS) == pack(pieces, CELLS) == pack(slice_of_more, CELLS)


def test_a_frame_that_is_not_the_tables_is_not_packed() -> None:
    """Whoever packs it has a defect, and hears of it."""
    with pytest.raises(ValueError, match="conform"):
        pack(ROWS.drop("sent"), CELLS)
    with pytest.raises(ValueError, match="remote_ip must be 16 bytes"):
        pack(ROWS.with_columns(remote_ip=pl.lit(b"1234")), CELLS)
    with pytest.raises(ValueError, match="host has nulls"):
        pack(ROWS.with_columns(host=pl.lit(None, pl.String)), CELLS)


PACKED = pack(ROWS, CELLS)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_one_flipped_byte_anywhere_is_refused(place: int, difference: int) -> None:
    """The checksum inside the frame covers the content; the frame's own header is covered by what it says."""
    data = bytearray(PACKED)
    data[place] ^= difference

    try:
        back = unpack(bytes(data), CELLS, MIB)
    except WireError:
        return
    assert_frame_equal(ROWS, back)


@given(st.integers(0, len(PACKED) - 1), st.binary(min_size=1, max_size=40))
def test_cut_and_extended_bytes_are_refused(length: int, more: bytes) -> None:
    """Half a message is no message, nor are one and a half."""
    assert refusal(PACKED[:length]) == Reason.DAMAGED
    assert refusal(PACKED + more) == Reason.DAMAGED


def test_a_bomb_is_refused_by_what_it_says_before_it_is_opened() -> None:
    """300 MB of zeros in a frame of a few kB; and a frame that keeps its size to itself."""
    whole = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=300 * MIB)
    bomb = b"".join([*(whole.compress(bytes(MIB)) for _ in range(300)), whole.flush()])
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(arrow_of(PACKED))

    assert len(bomb) < 300_000
    assert refusal(bomb, most_bytes=16 * MIB) == Reason.TOO_LARGE
    assert refusal(silent) == Reason.DAMAGED


def test_a_bomb_that_lies_about_its_size_is_refused() -> None:
    """The size in the frame's header is what is allocated, and not one byte more is written."""
    honest = zstandard.ZstdCompressor().compress(bytes(MIB))
    stated = zstandard.get_frame_parameters(honest).content_size
    place = honest.index(stated.to_bytes(4, "little"))
    lying = honest[:place] + (1000).to_bytes(4, "little") + honest[place + 4 :]

    assert zstandard.get_frame_parameters(lying).content_size == 1000
    assert refusal(lying) == Reason.DAMAGED


@pytest.mark.slow
def test_a_bomb_takes_no_memory() -> None:
    """A process that may grow by 60 MB refuses 300 MB in words; opening it would end in a MemoryError."""
    program = """
        import resource, sys, zstandard
        from egress.packing import WireError, unpack
        from egress.schema import FLOWS
        whole = zstandard.ZstdCompressor().compressobj(size=300 << 20)
        bomb = b"".join([*(whole.compress(bytes(1 << 20)) for _ in range(300)), whole.flush()])
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (60 << 20),) * 2)
        try:
            bytearray(300 << 20)
        except MemoryError:
            print("limited")
        try:
            unpack(bomb, FLOWS, 16 << 20)
        except WireError as error:
            print(error.reason)
    """
    done = run(program)

    assert done.stdout.split() == ["limited", "too_large"], done.stderr


def test_buffers_compressed_inside_of_the_stream_are_refused() -> None:
    """Arrow's own compression would be a second place where sizes are believed."""
    for codec in ("zstd", "lz4"):
        assert refusal(stream_of(batch_of(ROWS, CELLS), codec=codec)) == Reason.BAD_ARROW


def test_more_than_one_batch_or_none_is_refused() -> None:
    batch = batch_of(ROWS, CELLS)
    none = pa.BufferOutputStream()
    pa.ipc.new_stream(none, batch.schema).close()

    assert refusal(stream_of(batch, batch)) == Reason.BAD_ARROW
    assert refusal(framed(none.getvalue().to_pybytes())) == Reason.BAD_ARROW
    assert refusal(framed(arrow_of(PACKED) + b"more")) == Reason.BAD_ARROW
    assert refusal(framed(b"")) == Reason.DAMAGED


def test_text_that_would_grow_when_it_is_spelled_out_is_refused() -> None:
    """100 kB that 2,000 rows refer to are 200 MB, and take 100 kB to send."""
    rows = pl.concat([ROWS] * 700)
    for texts in (["x" * 100_000], ["x" * 100_000, ""]):
        index = pa.array([0] * rows.height, pa.int32())
        array = pa.DictionaryArray.from_arrays(index, pa.array(texts, pa.large_string()))
        data = stream_of(batch_of(rows, CELLS, tunnel=array))

        assert len(data) < 50_000
        assert refusal(data, most_bytes=16 * MIB) == Reason.TOO_LARGE


def test_columns_of_another_table_are_refused() -> None:
    """By name, by type, by order, by what may be null, and with remarks in the schema."""
    batch = batch_of(ROWS, CELLS)
    turned = batch.select(list(reversed(batch.schema.names)))
    nullable = pa.RecordBatch.from_arrays(batch.columns, names=batch.schema.names)
    remarked = batch.replace_schema_metadata({"pandas": "{}"})

    assert refusal(pack(flows_of([]), FLOWS)) == Reason.BAD_ARROW
    for other in (turned, nullable, remarked):
        assert refusal(stream_of(other)) == Reason.OTHER_COLUMNS


def test_nulls_and_impossible_times_are_refused() -> None:
    """Where a column has no null by its declaration; before 1970; in the year 294,000."""
    hosts = pa.array(["a", None, "b"], pa.large_string()).dictionary_encode()
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0], pa.int32()), pa.array([None], pa.large_string()))
    counts = pa.array([1, None, 2], pa.uint64())
    minutes = [pa.array([NOON, NOON, time], pa.timestamp("us", "UTC")) for time in (-1, 2**63 - 1)]

    odd = [("host", hosts), ("host", hidden), ("sent", counts), *(("minute", each) for each in minutes)]
    for name, array in odd:
        assert refusal(stream_of(batch_of(ROWS, CELLS, **{name: array}))) == Reason.IMPOSSIBLE_VALUE


def test_offsets_and_indices_beyond_the_data_are_refused() -> None:
    """What Polars' own reader follows."""
    beyond = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 7], pa.int32()), pa.array(["a", "b"], pa.large_string()), safe=False
    )
    raw = pa.py_buffer(b"abc")
    backwards = pa.Array.from_buffers(
        pa.large_string(), 3, [None, pa.array([0, 900, 2, 3], pa.int64()).buffers()[1], raw]
    )
    no_text = pa.Array.from_buffers(
        pa.large_string(), 3, [None, pa.array([0, 1, 2, 3], pa.int64()).buffers()[1], pa.py_buffer(b"\xff\xfe\xfd")]
    )

    for changed in ({"host": beyond}, {"name": backwards}, {"name": no_text}):
        assert refusal(stream_of(batch_of(ROWS, CELLS, **changed))) == Reason.BAD_ARROW


FUZZ = """
    import numpy as np, sys, zstandard
    from egress import packing
    from egress.schema import FLOWS
    rng = np.random.default_rng(int(sys.argv[1]))
    raw = bytearray(zstandard.ZstdDecompressor().decompress(sys.stdin.buffer.read()))
    made = zstandard.ZstdCompressor()
    refused = read = 0
    for _ in range(int(sys.argv[2])):
        broken = bytearray(raw)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(0, len(raw)))
            broken[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(0, 256)]))
        if rng.integers(0, 4) == 0:
            begin = int(rng.integers(0, len(raw)))
            del broken[begin : begin + int(rng.integers(1, 64))]
        try:
            frame = packing.unpack(made.compress(bytes(broken)), FLOWS, 1 << 24)
            frame.sort("name", "src_ip", "host").group_by("host", "name").agg(packing.pl.all().first())
            assert frame.schema == FLOWS.polars
            read += 1
        except packing.WireError:
            refused += 1
    print(refused, read)
"""


@pytest.mark.slow
def test_a_broken_stream_inside_of_a_whole_frame_never_ends_the_process() -> None:
    """An attacker's checksum is right: Arrow's own bytes are flipped, set and cut, and what is read is worked with."""
    flows = unpack(pack(flows_of([]), FLOWS), FLOWS, MIB)
    golden = Path(__file__).parent.parent / "data" / "wire" / "egress.flows.v1.bin"

    done = run(FUZZ, "1", "4000", stdin=golden.read_bytes())

    assert flows.is_empty()
    assert done.returncode == 0, done.stderr
    refused, read = map(int, done.stdout.split())
    assert refused + read == 4000
    assert refused > 500
    assert read > 100


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data, CELLS, MIB)
    with pytest.raises(WireError):
        unpack(framed(data), CELLS, MIB)


def test_what_was_refused_is_said_without_its_content() -> None:
    """A log line can stand it: what is foreign is not quoted."""
    with pytest.raises(WireError, match=r"no whole zstd frame: .*; refused as damaged"):
        unpack(b"\x1b[31mnot ours", CELLS, MIB)
    assert packing.WireError.exit_code == 3


def run(program: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *words]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
