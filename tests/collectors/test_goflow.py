"""What goflow2 publishes, as Egress' rows: real messages, made ones, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from collectors import goflow
from collectors.goflowmessage import ADDRESSES, NUMBERS
from egress import registry
from egress.addresses import bytes_of
from egress.contracts import ReadSettings
from egress.schema import FLOWS

PROTOBUF, JSON = goflow.protobuf(), goflow.json()
NOON_NS = 1_795_348_800_000_000_000
FLOW = {
    "type": 3,
    "time_received_ns": NOON_NS + 2_000_000_000,
    "time_flow_start_ns": NOON_NS,
    "time_flow_end_ns": NOON_NS + 1_500_000_999,
    "src_addr": "10.0.0.1",
    "dst_addr": "198.51.100.7",
    "src_port": 50_000,
    "dst_port": 443,
    "proto": 6,
    "bytes": 1500,
    "packets": 2,
    "tcp_flags": 27,
    "sampler_address": "192.0.2.1",
}


def as_json(**changes: object) -> bytes:
    return json.dumps(FLOW | changes).encode()


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def as_protobuf(**changes: object) -> bytes:
    """By the rules of the format, without the library."""
    body = b""
    for name, value in (FLOW | changes).items():
        if name in ADDRESSES:
            packed = bytes_of(str(value))
            packed = packed[12:] if "." in str(value) else packed
            body += varint(ADDRESSES[name] << 3 | 2) + varint(len(packed)) + packed
        else:
            assert isinstance(value, int)
            body += varint(NUMBERS[name] << 3) + varint(value)
    return varint(len(body)) + body


def row(reader: goflow.GoflowReader, value: bytes) -> dict[str, object]:
    read = reader.read([value])
    assert read.refused == ()
    return read.flows.row(0, named=True)


def carried(rows: pl.DataFrame) -> pl.DataFrame:
    """Bytes and packets from each address to each other one."""
    ways = [("src", "dst"), ("dst", "src")]
    each = [
        rows.select("proto", a=f"{one}_ip", b=f"{other}_ip", bytes=f"{one}_bytes", packets=f"{one}_packets")
        for one, other in ways
    ]
    sums = pl.concat(each).filter(pl.col("bytes") > 0).group_by("a", "b", "proto").agg(pl.col("bytes", "packets").sum())
    return sums.sort("a", "b", "proto")


@pytest.mark.parametrize("sample", ["netflow9.bin", "netflow9.json", "netflow5.bin"])
def test_a_real_exporters_bytes_are_those_that_our_meter_counts(data: Path, sample: str) -> None:
    """Two tools and a protocol lie between: every byte and packet of each direction is the same."""
    value = (data / "goflow" / sample).read_bytes()
    read = PROTOBUF.read([value]) if sample.endswith("bin") else JSON.read(value.splitlines())
    capture = next(one for one in registry.collectors() if one.name == "capture")
    files = ("put_over_ipv6.pcap", "relay_gpu.pcap")
    metered = pl.concat(
        batch.flows for name in files for batch in capture.read([data / "recorded" / name], ReadSettings())
    )
    if "5" in sample:
        metered = metered.filter(pl.col("src_ip").bin.starts_with(bytes(10) + b"\xff\xff"))

    assert read.refused == ()
    assert_frame_equal(carried(read.flows), carried(metered))


def test_both_encodings_say_the_same(data: Path) -> None:
    binary = PROTOBUF.read([(data / "goflow" / "netflow9.bin").read_bytes()])
    text = JSON.read((data / "goflow" / "netflow9.json").read_bytes().splitlines())

    assert_frame_equal(binary.flows, text.flows)
    assert binary.places.to_list() == [0] * 33
    assert text.places.to_list() == list(range(33))


@pytest.mark.parametrize(("reader", "made"), [(PROTOBUF, as_protobuf), (JSON, as_json)], ids=["protobuf", "json"])
def test_a_flow_has_its_columns(reader: goflow.GoflowReader, made: object) -> None:
    """Times in microseconds, addresses in 16 bytes, the exporter as the sensor."""
    assert callable(made)
    found = row(reader, made())

    said = {
        name: found[name] for name in ("src_ip", "dst_ip", "src_port", "dst_port", "proto", "src_bytes", "dst_bytes")
    }
    assert said == {
        "src_ip": bytes_of("10.0.0.1"),
        "dst_ip": bytes_of("198.51.100.7"),
        "src_port": 50_000,
        "dst_port": 443,
        "proto": 6,
        "src_bytes": 1500,
        "dst_bytes": 0,
    }
    assert (found["collector"], found["sensor"], found["src_flags"]) == ("goflow2", "192.0.2.1", 27)
    assert (found["end"] - found["start"]).total_seconds() == 1.5  # type: ignore[operator]


def test_counts_are_multiplied_by_the_sampling_rate() -> None:
    """One packet of 1,514 B in 1,000 of sFlow is 1.5 MB of IP, tagged or not."""
    sampled = {"type": 1, "bytes": 1514, "packets": 1, "sampling_rate": 1000}

    plain, tagged = row(PROTOBUF, as_protobuf(**sampled)), row(JSON, as_json(**sampled, vlan_id=7))

    assert (plain["src_bytes"], plain["src_packets"], plain["sampling"]) == (1_500_000, 1000, 1000)
    assert (tagged["src_bytes"], tagged["vlan"]) == (1_496_000, 7)
    assert row(PROTOBUF, as_protobuf(sampling_rate=0))["sampling"] == 1


def test_who_answers_is_the_responder() -> None:
    """A server's bytes are its own, and it is the one that was asked."""
    found = row(PROTOBUF, as_protobuf(src_port=443, dst_port=50_000))
    unclear = row(PROTOBUF, as_protobuf(src_port=8000, dst_port=443))

    assert (found["src_ip"], found["dst_port"]) == (bytes_of("198.51.100.7"), 443)
    assert (found["src_bytes"], found["dst_bytes"], found["dst_flags"]) == (0, 1500, 27)
    assert (unclear["src_ip"], unclear["src_bytes"]) == (bytes_of("10.0.0.1"), 1500)


def test_icmp_has_type_and_code_for_ports() -> None:
    found = row(PROTOBUF, as_protobuf(proto=1, src_port=0, dst_port=0, icmp_type=3, icmp_code=1))

    assert (found["src_port"], found["dst_port"]) == (3, 1)


@pytest.mark.parametrize(("name", "number"), [("TCP", 6), ("IPv6-ICMP", 58), ("GRE", 47), ("XNS-IDP", 255), ("47", 47)])
def test_names_of_protocols_are_read(name: str, number: int) -> None:
    assert row(JSON, as_json(proto=name))["proto"] == number


def test_times_may_be_text_or_absent() -> None:
    """A formatter renders them; an exporter without a clock leaves them out: then it is when it was received."""
    text = row(JSON, as_json(time_flow_start_ns="2026-11-22T12:00:00Z", time_flow_end_ns="2026-11-22T12:00:01.5Z"))
    absent = row(PROTOBUF, as_protobuf(time_flow_start_ns=0, time_flow_end_ns=0))
    backwards = row(PROTOBUF, as_protobuf(time_flow_end_ns=NOON_NS - 1))

    assert text["start"].isoformat() == "2026-11-22T12:00:00+00:00"  # type: ignore[attr-defined]
    assert absent["start"] == absent["end"]
    assert absent["start"].second == 2  # type: ignore[attr-defined]
    assert backwards["start"] == backwards["end"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"src_addr": ""}, "no_address"),
        ({"bytes": 2**63}, "impossible_value"),
        ({"bytes": 2**40, "sampling_rate": 2**30}, "impossible_value"),
        ({"packets": 2**62}, "impossible_value"),
        ({"src_port": 70_000}, "impossible_value"),
        ({"proto": 300}, "impossible_value"),
        ({"sampling_rate": 2**32}, "impossible_value"),
        ({"time_received_ns": 0, "time_flow_start_ns": 0, "time_flow_end_ns": 0}, "impossible_value"),
        ({"time_flow_start_ns": 2**63}, "impossible_value"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused_and_its_neighbours_are_read(change: dict[str, object], reason: str) -> None:
    for reader, made in ((PROTOBUF, as_protobuf), (JSON, as_json)):
        if change.get("src_addr") == "" and reader is PROTOBUF:
            continue
        read = reader.read([made(), made(**change), made()])

        assert [(each.place, each.reason) for each in read.refused] == [(1, reason)]
        assert read.places.to_list() == [0, 2]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}x",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"bytes": true}',
        b'{"bytes": 1.5}',
        b'{"src_addr": "x"}',
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_json_of_a_flow_is_refused(value: bytes) -> None:
    read = JSON.read([value])

    assert read.flows.is_empty()
    assert [each.place for each in read.refused] == [0]


def test_a_message_that_is_too_large_is_not_looked_at() -> None:
    assert PROTOBUF.read([bytes(2 << 20)]).refused[0].reason == "malformed"


@settings(max_examples=60)
@given(st.binary(max_size=120))
def test_no_bytes_end_a_reader(value: bytes) -> None:
    """Rows or a refusal, and columns are always FLOWS'."""
    for reader in (PROTOBUF, JSON):
        read = reader.read([value, value])
        assert read.flows.schema == FLOWS.polars
        assert len(read.places) == read.flows.height


@settings(max_examples=60)
@given(st.integers(0, 90), st.integers(0, 255))
def test_no_flipped_byte_ends_a_reader(place: int, byte: int) -> None:
    value = bytearray(as_protobuf())
    value[place % len(value)] = byte

    read = PROTOBUF.read([bytes(value)])

    assert read.flows.schema == FLOWS.polars
    assert read.flows.height or read.refused


def test_readers_are_found_by_their_encoding() -> None:
    for name in registry.ROWS_READERS:
        assert registry.rows_reader(name).name == name
    with pytest.raises(KeyError):
        registry.rows_reader("xml")
