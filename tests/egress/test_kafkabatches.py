"""Batches as brokers send them, broken in every bit: neighbours are kept, and nothing turns for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("kafka")

from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.structs import TopicPartition

from egress.kafkabatches import PartitionRecords, Poison

AT = TopicPartition("egress.flows.v1", 0)
NONE, GZIP = 0, 1


def batch(offset: int, values: list[bytes], codec: int = NONE) -> bytes:
    """One batch as a broker stores it, its first record at this offset."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=1 << 30)
    for value in values:
        builder.append(timestamp=0, key=b"key", value=value, headers=[("n", b"1")])
    builder.close()
    made = bytearray(builder.buffer())
    made[:8] = offset.to_bytes(8, "big")
    return bytes(made)


def read(data: bytes) -> tuple[list[tuple[int, bytes]], list[Poison]]:
    """(offset, value) of what can be read, and what cannot, by a reader that goes on behind each poison."""
    found: list[tuple[int, bytes]] = []
    poisons: list[Poison] = []
    before, position = -1, 0
    while before < position < OFFSETS:
        before = position
        answer = PartitionRecords(position, AT, MemoryRecords(from_batch_of(data, position)), check_crcs=False)
        try:
            while answer and (records := answer.take(3)):
                found += [(record.offset, record.value) for record in records]
            position = answer.next_fetch_offset
        except Poison as poison:
            position = poison.following
            poisons.append(poison)
    return found, poisons


def from_batch_of(data: bytes, position: int) -> bytes:
    """What a broker answers a request from this offset: whole batches, from the one that holds it."""
    at = 0
    while at < len(data):
        size = 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        last = int.from_bytes(data[at : at + 8], "big") + int.from_bytes(data[at + 23 : at + 27], "big", signed=True)
        if last >= position:
            return data[at:]
        at += size
    return b""


OFFSETS = 6
THREE = [batch(0, [b"a", b"b"]), batch(2, [b"c", b"d", b"e"]), batch(5, [b"f"])]


def test_sound_batches_are_read_whole() -> None:
    """What the guard lets through is what the library gives."""
    found, poisons = read(b"".join(THREE))

    assert found == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e"), (5, b"f")]
    assert poisons == []


def test_a_compressed_batch_is_refused_unopened_and_its_neighbours_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 kB may become 300 MB: it must not even be begun."""

    def open_it(batch: Any) -> None:
        raise AssertionError("decompressed")

    bomb = batch(2, [bytes(1 << 20)] * 3, GZIP)
    monkeypatch.setattr("kafka.record.default_records.gzip_decode", open_it)

    found, poisons = read(THREE[0] + bomb + THREE[2])

    assert found == [(0, b"a"), (1, b"b"), (5, b"f")]
    assert [(one.offset, one.following, one.reason) for one in poisons] == [(2, 5, "compressed")]


def test_a_batch_that_fails_its_checksum_costs_itself_only() -> None:
    """A flipped bit in a value on the broker's disk."""
    broken = bytearray(THREE[1])
    broken[-3] ^= 1

    found, poisons = read(THREE[0] + bytes(broken) + THREE[2])

    assert [value for _, value in found] == [b"a", b"b", b"f"]
    assert [(one.offset, one.following, one.reason) for one in poisons] == [(2, 5, "corrupt")]


def test_a_record_that_the_decoder_cannot_read_costs_what_is_behind_it_in_its_batch() -> None:
    """Sound checksum, unsound content: whoever wrote it meant it."""
    broken = bytearray(THREE[1])
    broken[DefaultRecordBatch.HEADER_STRUCT.size] = 0x7F  # the first record's length
    whole = DefaultRecordBatch(bytes(broken))
    from kafka.record.util import calc_crc32c

    broken[17:21] = calc_crc32c(memoryview(broken)[whole.ATTRIBUTES_OFFSET :]).to_bytes(4, "big")

    found, poisons = read(THREE[0] + bytes(broken) + THREE[2])

    assert [value for _, value in found] == [b"a", b"b", b"f"]
    assert [(one.offset, one.following, one.reason) for one in poisons] == [(2, 5, "corrupt")]


def test_old_formats_are_refused() -> None:
    """They have no offsets to trust, and may be compressed inside."""
    builder = MemoryRecordsBuilder(magic=1, compression_type=NONE, batch_size=1 << 30)
    builder.append(timestamp=0, key=b"k", value=b"v")
    builder.close()

    answer = PartitionRecords(0, AT, MemoryRecords(bytes(builder.buffer())), check_crcs=False)

    with pytest.raises(Poison, match="magic 1") as refusal:
        answer.take(1)
    assert refusal.value.reason == "old format"
    assert not answer, "the library would go on asking this answer for ever, at full speed"


@given(st.integers(0, len(THREE[1]) - 1), st.integers(0, 7))
def test_no_single_bit_makes_a_reader_stop_turn_or_take_a_wrong_value(place: int, bit: int) -> None:
    """Any bit of the middle batch; offset and length stand outside its checksum."""
    broken = bytearray(THREE[1])
    broken[place] ^= 1 << bit
    in_frame = 8 <= place < 12  # with a wrong length a broker finds no batch behind it either
    in_offset = place < 8

    found, _ = read(THREE[0] + bytes(broken) + THREE[2])

    assert found[:2] == [(0, b"a"), (1, b"b")]
    assert [value for _, value in found] == sorted({value for _, value in found}), "given twice, or out of order"
    if not in_frame and not in_offset:
        assert found[2:] in ([(5, b"f")], [(2, b"c"), (3, b"d"), (4, b"e"), (5, b"f")])
