"""A capture with a damaged record: what follows it is found again, wherever chunks end."""

from __future__ import annotations

import struct
from pathlib import Path

import polars as pl
import pytest

from collectors.capture import CaptureCollector
from egress.contracts import ReadSettings, Tally

FILE_HEADER, RECORD_HEADER = 24, 16
DAMAGED = 100
"""This record's captured length becomes impossible."""


@pytest.fixture(scope="module")
def damaged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    capture = bytearray((data / "demo" / "ordinary_day.pcap").read_bytes())
    at = FILE_HEADER
    for _ in range(DAMAGED):
        at += RECORD_HEADER + struct.unpack_from("<I", capture, at + 8)[0]
    struct.pack_into("<I", capture, at + 8, 0xFFFFFFFF)
    path = tmp_path_factory.mktemp("damaged") / "damaged.pcap"
    path.write_bytes(capture)
    return path


def read(path: Path, chunk_bytes: int) -> tuple[pl.DataFrame, Tally]:
    batches = list(CaptureCollector().read([path], ReadSettings(chunk_bytes=chunk_bytes)))
    return pl.concat([batch.flows for batch in batches]), sum((batch.tally for batch in batches), Tally())


def test_only_the_damaged_record_is_lost(damaged: Path, data: Path) -> None:
    """The record after it is recognised by its header, and by the one that follows."""
    whole = read(data / "demo" / "ordinary_day.pcap", 8 << 20)[1]

    tally = read(damaged, 8 << 20)[1]

    assert tally.read.frames == whole.read.frames - 1
    assert [example.reason for example in tally.examples] == ["unreadable_record"]


@pytest.mark.parametrize("chunk_bytes", [61, 97, 1_000])
def test_damage_costs_the_same_wherever_chunks_end(damaged: Path, chunk_bytes: int) -> None:
    """The search for the next record goes on in the next chunk, as if there had been one."""
    flows, tally = read(damaged, 8 << 20)

    pieces, pieces_tally = read(damaged, chunk_bytes)

    assert pieces.equals(flows)
    assert pieces_tally == tally
