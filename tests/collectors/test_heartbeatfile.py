"""Heartbeat files as people and programs write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
import zstandard

from collectors.flowfile import FlowFileCollector
from collectors.heartbeatfile import HeartbeatFileCollector
from egress import heartbeats, inputs
from egress.contracts import Count, ReadSettings, Tally
from egress.heartbeats import HEARTBEATS
from egress.schema import FLOWS

LINES = [
    {"time": "2026-11-20T12:00:00Z", "host": "gpu-01", "sensor": "s", "boot": 7, "epoch": 1, "seq": 0},
    {"time": "2026-11-20T12:00:10Z", "host": "gpu-01", "sensor": "s", "boot": 7, "epoch": 1, "nic_tx_bytes": 2**64 - 1},
    {"time": "2026-11-20T13:00:20.5+01:00", "host": "gpu-01", "nic_tx_bytes": 4e9, "strange": [1]},
]
ROWS = [
    ("2026-11-20 12:00:00.000000", "s", "7", "1", 0, None),
    ("2026-11-20 12:00:10.000000", "s", "7", "1", None, 2**64 - 1),
    ("2026-11-20 12:00:20.500000", "", "", "", None, 4_000_000_000),
]


def read(path: Path, **settings: int) -> tuple[pl.DataFrame, Tally]:
    batches = list(HeartbeatFileCollector().read([path], ReadSettings(**settings)))  # type: ignore[arg-type]
    frames = [batch.heartbeats for batch in batches if batch.heartbeats is not None]
    return pl.concat([HEARTBEATS.empty(), *frames]), sum((batch.tally for batch in batches), Tally())


def claims(path: Path) -> bool:
    return HeartbeatFileCollector().claims(path, inputs.head_of(path))


def written(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def told(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    time = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    return frame.select(time, "sensor", "boot", "epoch", "seq", "nic_tx_bytes").rows()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("chunk_bytes", [1, 70, 1 << 20])
def test_lines_of_json_are_read_however_they_are_packed_and_cut(tmp_path: Path, pack: object, chunk_bytes: int) -> None:
    """What a line does not say is unknown, not 0; counters reach 2^64."""
    assert callable(pack)
    path = written(tmp_path / "beats", LINES)
    path.write_bytes(pack(path.read_bytes()))

    rows, tally = read(path, chunk_bytes=chunk_bytes)

    assert claims(path)
    assert told(rows) == ROWS
    assert (tally.read, tally.metered, tally.skipped) == (Count(3), Count(3), {})
    assert tally.inputs[0].bytes == path.stat().st_size


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_gives_the_same_rows(tmp_path: Path, unit: str) -> None:
    """Times of any unit, numbers of other widths, text as categories."""
    rows, _ = read(written(tmp_path / "beats", LINES))
    other = rows.with_columns(
        pl.col("time").cast(pl.Datetime(unit)), pl.col("seq").cast(pl.Int16), pl.col("host").cast(pl.Categorical)
    )
    other.write_parquet(tmp_path / "beats.parquet")

    again, tally = read(tmp_path / "beats.parquet", chunk_bytes=300)

    assert claims(tmp_path / "beats.parquet")
    assert again.equals(rows)
    assert tally.metered == Count(3)


def test_what_cannot_be_a_heartbeat_is_skipped_and_counted(tmp_path: Path) -> None:
    """Each with its reason; the rest is used."""
    path = written(
        tmp_path / "beats", [*LINES, LINES[0] | {"seq": -1}, LINES[0] | {"time": "noon"}, LINES[0] | {"host": ""}]
    )
    path.write_text(path.read_text() + "[1, 2]\n{broken\n\n")

    rows, tally = read(path)

    assert rows.height == 3
    assert tally.skipped == {"impossible_value": Count(2), "missing_value": Count(3)}
    assert tally.read == sum(tally.skipped.values(), tally.metered)
    assert "row 4" in tally.examples[0].where


def test_a_damaged_parquet_file_is_said(tmp_path: Path) -> None:
    """What was read before the damage stays."""
    read(written(tmp_path / "beats", LINES))[0].write_parquet(tmp_path / "beats.parquet", compression="uncompressed")
    whole = (tmp_path / "beats.parquet").read_bytes()
    (tmp_path / "beats.parquet").write_bytes(whole[:60] + bytes(40) + whole[100:])

    rows, tally = read(tmp_path / "beats.parquet")

    assert rows.height + sum(count.frames for count in tally.skipped.values()) <= 3
    assert "unreadable" in tally.skipped or rows.height == 3


@pytest.mark.parametrize(
    "line",
    [
        {"time": "2026-11-20T10:00:00Z", "event": "deployed", "model": "m", "host": "h"},
        {"time": "2026-11-20T10:00:00Z", "approval": "a", "host": "h", "object": "o", "bytes": 1},
        {"host": "h", "seq": 1},
        {"time": 1795348800000, "class_uid": 2004},
    ],
)
def test_other_lines_of_json_are_left_to_others(tmp_path: Path, line: dict[str, object]) -> None:
    """Lifecycle events, receipts and findings lie in the same folder."""
    assert not claims(written(tmp_path / "x.jsonl", [line]))


def test_flows_and_heartbeats_are_told_apart(tmp_path: Path) -> None:
    """Both are Parquet."""
    FLOWS.empty().write_parquet(tmp_path / "flows.parquet")
    HEARTBEATS.empty().write_parquet(tmp_path / "beats.parquet")

    known = inputs.sort([tmp_path / "flows.parquet", tmp_path / "beats.parquet"])

    assert {collector.name: len(paths) for collector, paths in known.claimed} == {"flowfile": 1, "heartbeatfile": 1}
    assert FlowFileCollector.name == "flowfile"


def test_the_same_heartbeat_twice_is_one(tmp_path: Path) -> None:
    """Also where one of the two knows more."""
    rows, _ = read(written(tmp_path / "beats", [*LINES, LINES[0] | {"nic_tx_bytes": 5}]))

    assert sorted(told(heartbeats.add([rows, rows]))) == sorted([(*ROWS[0][:5], 5), *ROWS[1:]])
