"""Flow files are an input as good as a capture, whoever wrote them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import flowcolumns
from collectors.flowfile import FlowFileCollector, FlowFileWriter
from egress.contracts import Batch, Count, ReadSettings, Tally
from egress.schema import FLOWS, TIME, conform

HOST = bytes(10) + b"\xff\xff\x0a\x4d\x01\x0a"
PEER = bytes(10) + b"\xff\xff\xc6\x33\x64\x0a"
BEGIN, END = datetime(2026, 11, 20, 10, tzinfo=UTC), datetime(2026, 11, 20, 10, 0, 9, tzinfo=UTC)


def foreign(**columns: list[Any]) -> pa.Table:
    """Two transfers in as few columns as a flow can have, changed as said."""
    plain: dict[str, Any] = {
        "start": pa.array([BEGIN, END]),
        "end": pa.array([END, END]),
        "src_ip": ["10.77.1.10", "10.77.1.10"],
        "dst_ip": ["198.51.100.10", "198.51.100.10"],
        "proto": [6, 17],
        "src_bytes": [5_000_000, 70],
    }
    return pa.table({**plain, **columns})


def read(*paths: Path, **options: Any) -> tuple[pl.DataFrame, Tally]:
    batches = list(FlowFileCollector().read(paths, ReadSettings(**options)))
    tally = sum((batch.tally for batch in batches), Tally())
    assert tally.read == sum(tally.skipped.values(), tally.metered)
    return pl.concat([batch.flows for batch in batches]), tally


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "other.parquet"


def test_the_fewest_columns_make_flows(file: Path) -> None:
    """What is not there gets the schema's defaults; rows know where they stand."""
    pq.write_table(foreign(), file)

    flows, tally = read(file)

    assert flows.schema == FLOWS.polars
    assert flows.select("src_ip", "dst_ip", "src_bytes", "src_payload", "host", "sampling").rows() == [
        (HOST, PEER, 5_000_000, 0, "", 1),
        (HOST, PEER, 70, 0, "", 1),
    ]
    assert flows.select("collector", "origin", "position").rows() == [
        ("flowfile", "other.parquet", 1),
        ("flowfile", "other.parquet", 2),
    ]
    assert flows["flow_id"].n_unique() == 2
    assert tally.read == tally.metered == Count(2, 5_000_070)
    assert tally.inputs[0].frames == 2
    assert len(tally.inputs[0].sha256) == 64


@pytest.mark.parametrize(
    "columns",
    [
        {"src_ip": pa.array([HOST] * 2, pa.binary(16)), "dst_ip": pa.array([PEER] * 2, pa.large_binary())},
        {"src_ip": pa.array([HOST[12:]] * 2, pa.binary()), "dst_ip": pa.array([PEER[12:]] * 2, pa.binary(4))},
        {"src_ip": ["::ffff:10.77.1.10"] * 2, "dst_ip": pa.array(["198.51.100.10"] * 2).dictionary_encode()},
        {"start": pa.array([BEGIN, END], pa.timestamp("s")), "end": pa.array([END, END], pa.timestamp("ms", "UTC"))},
        {"start": pa.array([BEGIN, END], pa.timestamp("ns", "Asia/Tokyo")), "end": pa.array([END] * 2)},
        {"start": [1_795_168_800_000_000, 1_795_168_809_000_000]},
        {"proto": pa.array([6.0, 17.0]), "src_bytes": pa.array([5_000_000, 70], pa.int32())},
        {"proto": pa.array([6, 17], pa.int8()), "src_bytes": pa.array([5_000_000, 70], pa.uint64())},
        {"dst_bytes": [0, 0], "final": [None, True], "sampling": [0, None], "name": [None, ""]},
        {"note": ["a", "b"], "nested": [{"a": 1}, None]},
    ],
)
def test_types_of_others_mean_the_same(tmp_path: Path, columns: dict[str, Any]) -> None:
    """The same two transfers, told in other types."""
    usual, told = tmp_path / "usual.parquet", tmp_path / "told.parquet"
    pq.write_table(foreign(), usual)
    pq.write_table(foreign(**columns), told)

    expected, found = read(usual)[0], read(told)[0]

    assert found.drop("origin").equals(expected.drop("origin"))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("src_bytes", pa.array([-1, 70]), "impossible_value"),
        ("src_bytes", pa.array([2**63, 70], pa.uint64()), "impossible_value"),
        ("src_bytes", pa.array([1.5, 70]), "impossible_value"),
        ("src_bytes", pa.array([float("nan"), 70]), "impossible_value"),
        ("src_bytes", pa.array([None, 70], pa.int64()), "missing_value"),
        ("proto", pa.array([256, 17]), "impossible_value"),
        ("proto", pa.array([None, 17], pa.int32()), "missing_value"),
        ("src_port", pa.array([65_536, 1]), "impossible_value"),
        ("dst_ip", pa.array(["198.51.100", "::1"]), "bad_address"),
        ("dst_ip", pa.array([b"12345", PEER]), "bad_address"),
        ("dst_ip", pa.array([None, "::1"]), "missing_value"),
        ("start", pa.array([None, END]), "missing_value"),
        ("start", pa.array([-1, 1]), "impossible_value"),
        ("start", pa.array([2**62, 1], pa.timestamp("ms")), "impossible_value"),
        ("end", pa.array([datetime(1999, 1, 1, tzinfo=UTC), END]), "ends_before_start"),
        ("host", pa.array(["gpu-01", ""]), "impossible_value"),
        ("side", pa.array(["src", ""]), "impossible_value"),
    ],
)
def test_rows_that_cannot_be_are_skipped_by_place(file: Path, column: str, value: pa.Array, reason: str) -> None:
    """The row after them counts."""
    pq.write_table(foreign(**{column: value}), file)

    flows, tally = read(file)

    assert flows["proto"].to_list() == [17]
    assert {reason: count.frames for reason, count in tally.skipped.items()} == {reason: 1}
    assert tally.examples[0].where == "other.parquet, row 1"
    assert reason in tally.examples[0].what


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (foreign().drop_columns(["dst_ip", "src_bytes"]), "it lacks dst_ip, src_bytes or dst_bytes"),
        (foreign(proto=["tcp", "udp"]), "it lacks proto as number (it is string)"),
        (foreign(name=[{"a": 1}, None]), "it lacks name as text"),
        (pa.table({"a": [1]}), "it lacks start, end, src_ip, dst_ip, proto, src_bytes or dst_bytes"),
    ],
)
def test_a_file_of_other_things_is_refused_by_what_it_lacks(file: Path, table: pa.Table, what: str) -> None:
    """Parquet alone is no flow file."""
    pq.write_table(table, file)

    flows, tally = read(file)

    assert flows.height == 0
    assert tally.read == Count()
    assert what in tally.examples[0].what


@pytest.mark.parametrize("chunk_bytes", [1, 300, 8 << 20])
def test_a_row_told_twice_counts_once(tmp_path: Path, chunk_bytes: int) -> None:
    """Within a file and over files; what differs in its bytes is another row."""
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pq.write_table(pa.concat_tables([foreign(), foreign()]), a)
    pq.write_table(foreign(src_bytes=[5_000_000, 71]), b)

    flows, tally = read(a, b, chunk_bytes=chunk_bytes)

    assert flows["src_bytes"].to_list() == [5_000_000, 70, 71]
    assert tally.skipped == {"duplicate_row": Count(3, 10_000_070)}


def test_text_of_others_is_kept_short(file: Path) -> None:
    """253 characters of a name, 1,024 of a process."""
    pq.write_table(foreign(name=["n" * 300] * 2, name_from=["log"] * 2, process=["\x1b[31m" + "p" * 2000] * 2), file)

    flows, _ = read(file)

    assert flows["name"].to_list() == ["n" * 253] * 2
    assert set(flows["process"].str.len_chars()) == {1024}


def row(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.integers(0, 2**52))
    host = draw(st.sampled_from(["", "gpu-01"]))
    numbers = {c.name: draw(st.integers(0, 2**8 - 1)) for c in FLOWS.columns if c.dtype.is_integer()}
    texts = {c.name: draw(st.text(max_size=5)) for c in FLOWS.columns if c.dtype == pl.String}
    name = texts["name"]
    return {
        **numbers,
        **texts,
        "src_bytes": draw(st.integers(0, 2**63 - 1)),
        "flow_id": draw(st.integers(1, 2**64 - 1)),
        "sampling": draw(st.integers(1, 9)),
        "host": host,
        "side": draw(st.sampled_from(["src", "dst"])) if host else "",
        "name_from": draw(st.sampled_from(["dns", "sni"])) if name else "",
        "origin": draw(st.sampled_from(["a.pcap", "b.pcap"])),
        "final": draw(st.booleans()),
        "start": start,
        "end": start + draw(st.integers(0, 10**7)),
        **{
            ip: draw(st.binary(min_size=16, max_size=16)) for ip in ("src_ip", "dst_ip", "outer_src_ip", "outer_dst_ip")
        },
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.composite(row)(), max_size=8, unique_by=lambda r: r["flow_id"]), st.integers(1, 2000))
@pytest.mark.slow
def test_what_was_written_is_what_is_read(tmp_path: Path, rows: list[dict[str, Any]], chunk_bytes: int) -> None:
    """Every column of every row, however the reading is split."""
    path = tmp_path / "flows.parquet"
    flows = pl.DataFrame([{k: r[k] for k in FLOWS.names} for r in rows], schema=FLOWS.polars, orient="row")
    writer = FlowFileWriter(path)
    for part in (flows.head(3), flows.slice(3)):
        writer.write(part)
    writer.close()

    found, tally = read(path, chunk_bytes=chunk_bytes)

    assert found.equals(flows)
    assert tally.metered.frames == len(rows)


GOOD = conform(
    pl.DataFrame(
        {
            "start": [1_795_348_800_000_000, 1_795_348_800_000_001],
            "end": [1_795_348_800_000_000, 1_795_348_900_000_000],
            "src_ip": [bytes(15) + b"\x01"] * 2,
            "dst_ip": [bytes(15) + b"\x02"] * 2,
            "proto": [6, 17],
            "host": ["a", ""],
            "side": ["src", ""],
        }
    ).with_columns(pl.col("start", "end").cast(TIME)),
    FLOWS,
)


def test_rows_as_egress_writes_them_are_passed_on_as_they_are() -> None:
    """And are what a look at each row makes of them."""
    table = GOOD.to_arrow()

    passed, looked_at = flowcolumns.as_written(table), flowcolumns.normalise(table)

    assert passed is not None
    assert passed.equals(looked_at.drop("_reason", "_column"))
    assert looked_at["_reason"].null_count() == GOOD.height


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("src_bytes", 2**63),
        ("dst_packets", 2**64 - 1),
        ("start", -1),
        ("end", 1_795_348_800_000_000),
        ("end", 2**60),
        ("src_ip", b"\x0a\x00\x00\x01"),
        ("outer_dst_ip", b""),
        ("name", "x" * 254),
        ("process", "é" * 600),
        ("side", "dst"),
        ("side", None),
        ("host", "b"),
        ("sampling", 0),
        ("name_from", "dns"),
    ],
)
def test_one_row_that_must_be_looked_at_has_all_looked_at(column: str, value: object) -> None:
    spoiled = pl.Series([GOOD[column].to_physical()[0], value], dtype=GOOD[column].to_physical().dtype)

    table = GOOD.with_columns(spoiled.cast(GOOD[column].dtype).alias(column)).to_arrow()

    assert flowcolumns.as_written(table) is None


def test_an_unfinished_file_never_has_the_final_name(tmp_path: Path) -> None:
    """Whoever finds `flows.parquet` finds all of it."""
    writer = FlowFileWriter(tmp_path / "flows.parquet")

    assert [path.name for path in tmp_path.iterdir()] == ["flows.parquet.part"]

    writer.close()
    assert pq.read_schema(tmp_path / "flows.parquet").metadata[b"egress_schema"] == b"1"


def test_a_damaged_row_group_costs_itself_only(file: Path) -> None:
    """Its rows are counted as unreadable, the groups around it are read."""
    table = pa.concat_tables([foreign(src_bytes=[n, n + 1]) for n in range(0, 60, 2)])
    pq.write_table(table, file, row_group_size=20, use_dictionary=False, write_page_checksum=True)
    column = pq.ParquetFile(file).metadata.row_group(1).column(5)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 0xFF
    file.write_bytes(bytes(data))

    flows, tally = read(file)

    assert flows.height == 40
    assert tally.skipped == {"unreadable": Count(20, 0)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4), st.floats(0, 1))
@pytest.mark.slow
def test_changed_files_are_an_answer(tmp_path: Path, changes: list[tuple[float, int]], cut: float) -> None:
    """Bytes set, file cut: rows or reasons, and the sums agree."""
    path = tmp_path / "changed.parquet"
    pq.write_table(foreign(name=["a", "b"]), path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path.write_bytes(bytes(data[: len(data) if cut > 0.5 else int(2 * cut * len(data))]))

    batches: list[Batch] = list(FlowFileCollector().read([path], ReadSettings()))

    tally = sum((batch.tally for batch in batches), Tally())
    assert tally.read == sum(tally.skipped.values(), tally.metered)
