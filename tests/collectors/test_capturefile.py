"""pcap and pcapng in all their shapes, and what happens where they are damaged."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

T0 = 1_700_000_000
FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="198.51.100.9")
              / UDP(sport=5000, dport=6000) / Raw(b"x" * 100))  # fmt: skip


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", link: int = 1, snap: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(ticks: int, data: bytes = FRAME, order: str = "<", number: int = 0) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, order)


def microseconds(time) -> int:
    return round((time.timestamp() - T0) * 1_000_000)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34])
def test_pcap_of_every_kind(meter, pcap, order, magic):
    """Micro- and nanoseconds, patched headers, both byte orders: same packets, same times."""
    row = meter(pcap([(1.5, FRAME), (2.25, FRAME)], order=order, magic=magic)).row

    assert (row["src_packets"], row["src_bytes"]) == (2, 256)
    assert (microseconds(row["start"]), microseconds(row["end"])) == (1_500_000, 2_250_000)


@pytest.mark.parametrize("order", "<>")
def test_pcapng_of_both_byte_orders(meter, order):
    """Enhanced, simple and obsolete packet blocks, blocks of no interest between them."""
    ticks = (T0 + 3) * 1_000_000
    obsolete = struct.pack(order + "HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(FRAME), len(FRAME)) + FRAME
    simple = struct.pack(order + "I", len(FRAME)) + FRAME
    content = section(order) + interface(order) + block(0x0BAD, b"whatever", order)
    content += enhanced(ticks, order=order) + block(2, obsolete, order) + block(3, simple, order)

    row = meter(content).row

    assert (row["src_packets"], row["src_bytes"]) == (3, 384)
    assert microseconds(row["end"]) == 3_000_000


@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [
        (6, (T0 + 2) * 10**6),
        (9, (T0 + 2) * 10**9),
        (3, (T0 + 2) * 10**3),
        (0, T0 + 2),
        (0x80 | 10, (T0 + 2) << 10),
        (0x80 | 30, (T0 + 2) << 30),
    ],
)
def test_pcapng_time_units(meter, resolution, ticks):
    """Powers of ten and of two."""
    content = section() + interface(options=option(9, bytes([resolution]))) + enhanced(ticks)

    assert microseconds(meter(content).row["start"]) == 2_000_000


def test_pcapng_time_offset_and_several_sections(meter):
    """`if_tsoffset` counts whole seconds; a new section forgets the interfaces and may turn the byte order."""
    first = section() + interface(options=option(14, struct.pack("<q", T0))) + enhanced(2_000_000)
    second = section(">") + interface(">") + enhanced((T0 + 3) * 1_000_000, order=">")

    row = meter(first + second).row

    assert (row["src_packets"], microseconds(row["start"]), microseconds(row["end"])) == (2, 2_000_000, 3_000_000)


def test_simple_packets_are_cut_by_the_interface(meter):
    """A simple block holds no captured length: the snap length says it."""
    content = section() + interface(snap=60) + block(3, struct.pack("<I", 142) + FRAME[:60])

    metered = meter(content)

    assert metered.row["src_bytes"] == 128
    assert metered.tally.read.bytes == 142


def test_a_packet_of_an_interface_never_described_is_skipped(meter):
    """It is counted, not guessed."""
    metered = meter(section() + interface() + enhanced(0, number=5))

    assert metered.tally.skipped["unknown_interface"].frames == 1


@pytest.mark.parametrize(
    ("high", "low", "options"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF, b""),
        (0x7FFFFFFF, 0xFFFFFFFF, option(9, b"\0")),
        (0x7FFFFFFF, 0xFFFFFFFF, option(9, b"\x81")),
        (0, 5, option(9, b"\xff")),
        (0, 5, option(9, b"\x7f")),
        (0, 5, option(14, struct.pack("<q", -(1 << 63)))),
        (1, 5, option(14, struct.pack("<q", (1 << 63) - 1))),
    ],
)
@pytest.mark.slow
def test_no_time_overflows(meter, high, low, options):
    """A time beyond all calendars is still a packet."""
    head = struct.pack("<IIIII", 0, high, low, len(FRAME), len(FRAME))
    row = meter(section() + interface(options=options) + block(6, head + FRAME)).row

    assert row["src_packets"] == 1
    assert 1 <= row["start"].year <= 9999


def test_an_unbelievable_original_length_is_counted_and_shown(meter, pcap):
    """450 MB for a packet of 142 captured bytes: what was captured counts."""
    metered = meter(pcap([FRAME], wire=lambda _: 450_000_000))

    assert metered.tally.read.bytes == 142
    assert metered.tally.notes["bogus_length"] == 1
    assert any("packet 1" in example.what for example in metered.tally.examples if example.reason == "bogus_length")


def test_damage_in_the_middle_is_jumped_over(meter, pcap):
    """An impossible record header loses its bytes, not the rest of the file."""
    whole = pcap([(i / 10, FRAME) for i in range(20)])
    size = 16 + len(FRAME)
    at = 24 + 7 * size
    damaged = whole[:at] + b"\xff" * 50 + whole[at + size :]

    metered = meter(damaged)

    assert metered.tally.read.frames == 19
    assert metered.tally.notes["unreadable_record_bytes"] == 50


def test_damage_in_pcapng_is_jumped_over(meter):
    """A block is found again by its length at both ends."""
    packets = [enhanced((T0 + i) * 1_000_000) for i in range(9)]
    content = section() + interface() + b"".join(packets[:5]) + b"\x7f" * 33 + b"".join(packets[5:])

    metered = meter(content)

    assert metered.tally.read.frames == 9
    assert metered.tally.notes["unreadable_record_bytes"] == 33


def test_what_is_no_capture_is_said_and_the_others_are_read(meter, pcap):
    """One bad input does not stop the rest."""
    metered = meter(b"hello, I am a text", pcap([FRAME]))

    assert metered.row["src_packets"] == 1
    assert [example.reason for example in metered.tally.examples] == ["unknown_format"]


@pytest.mark.parametrize("content", [b"", b"\xd4\xc3\xb2\xa1", b"\x0a"])
def test_empty_and_tiny_files(meter, content):
    """Nothing to meter is no error."""
    assert meter(content).tally.read.frames == 0


SAMPLES = {
    "pcap": b"".join(
        [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
        + [struct.pack("<IIII", T0 + i, 0, len(FRAME), len(FRAME)) + FRAME for i in range(6)]
    ),
    "pcapng": section() + interface() + b"".join(enhanced((T0 + i) * 1_000_000) for i in range(6)),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SAMPLES)), cut=st.integers(0, 1000))
@pytest.mark.slow
def test_a_capture_cut_anywhere_gives_its_whole_packets(meter, kind, cut):
    """What came before the cut counts, and the cut is shown."""
    whole = SAMPLES[kind]
    metered = meter(whole[: min(cut, len(whole))])

    head, record = (24, 16 + len(FRAME)) if kind == "pcap" else (48, 32 + len(FRAME) + 2)
    assert metered.tally.read.frames == max(0, min(cut, len(whole)) - head) // record


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(SAMPLES)),
    edits=st.lists(
        st.tuples(st.integers(0, 900), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.sampled_from([1, 2, 4])),
        min_size=1,
        max_size=6,
    ),
)
@pytest.mark.slow
def test_any_field_set_to_any_extreme_is_answered(meter, kind, edits):
    """No crash, no hang, conservation exact (checked by the fixture)."""
    content = bytearray(SAMPLES[kind])
    for at, value, width in edits:
        content[at : at + width] = bytes([value]) * width

    assert meter(bytes(content)).tally.read.frames <= 100


@pytest.mark.parametrize(("version", "lengths"), [((2, 2), (1500, 128)), ((2, 3), (1500, 128)), ((2, 3), (128, 1500))])
def test_old_pcap_versions_write_the_lengths_the_other_way_round(meter, version, lengths):
    """libpcap 0.4 and older: the original length first, in 2.3 either way; 128 were captured of 1,500."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, *version, 0, 0, 65_535, 1)
    tally = meter(header + struct.pack("<IIII", T0, 0, *lengths) + FRAME[:128]).tally

    assert (tally.read.frames, tally.read.bytes) == (1, 1500)
