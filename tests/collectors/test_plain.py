"""The short way through the decoder against the long one: a VLAN tag sends the same packet the long way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

ADDRESSES = {4: ("10.0.0.1", "198.51.100.9"), 6: ("fd00::1", "2001:db8::9")}
PRIORITY_TAG = b"\x81\x00\x00\x00"
"""802.1Q with VLAN 0: changes nothing in a row."""


def packet(version: int, transport: Packet) -> bytes:
    src, dst = ADDRESSES[version]
    network = IP(src=src, dst=dst) if version == 4 else IPv6(src=src, dst=dst)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / network / transport / Raw(b"x" * 60))


PLAIN = tuple(
    packet(version, transport)
    for version in (4, 6)
    for transport in (
        TCP(sport=5000, dport=443, flags="S", options=[("MSS", 1460)]),
        TCP(sport=443, dport=5000, flags="PA", seq=1, ack=1),
        UDP(sport=5000, dport=53),
        UDP(sport=53, dport=5000),
    )
)


TELLING = (12, 13, 14, 16, 17, 18, 19, 20, 21, 23, 36, 37, 46, 56, 57, 66)
"""Where ethertype, version, lengths, fragment, protocol, ports of tunnels and TCP's own length stand, in v4 and v6."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A packet with up to three bytes from the ethertype to the end of TCP's header changed."""
    frame = bytearray(draw(st.sampled_from(PLAIN)))
    for place in draw(st.lists(st.one_of(st.sampled_from(TELLING), st.integers(12, 73)), max_size=3)):
        frame[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 6, 17, 41, 47, 0x45, 0x60, 255])))
    return bytes(frame)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(damaged(), min_size=10, max_size=40), st.integers(18, 110))
def test_the_short_way_reads_what_the_long_way_reads(
    meter: Callable[..., object], pcap: Callable[..., bytes], tmp_path: Path, frames: list[bytes], snap: int
) -> None:
    """Whatever is wrong with a header, wherever the snap length cuts: the same rows, the same number skipped."""
    tagged = [frame[:12] + PRIORITY_TAG + frame[12:] for frame in frames]

    short, long = meter(pcap(frames, snap=snap)), meter(pcap(tagged, snap=snap + 4))

    assert short.flows.drop("position").equals(long.flows.drop("position"))
    assert short.tally.metered.frames == long.tally.metered.frames
    assert short.tally.notes == long.tally.notes


def changed(frame: bytes, *bytes_at: tuple[int, int]) -> bytes:
    """`frame` with some of its bytes written over."""
    other = bytearray(frame)
    for place, value in bytes_at:
        other[place] = value
    return bytes(other)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(changed(PLAIN[0], (16, 2)), id="IPv4 claims more than the wire held"),
        pytest.param(changed(PLAIN[4], (18, 2)), id="IPv6 claims more than the wire held"),
        pytest.param(changed(PLAIN[1], (17, 60), (46, 0xF0)), id="TCP's header is longer than the packet"),
    ],
)
def test_contradictions_take_the_long_way(meter, pcap, frame):
    """Each is refused by one condition of the short way alone."""
    short, long = meter(pcap([frame])), meter(pcap([frame[:12] + PRIORITY_TAG + frame[12:]]))

    assert short.flows.equals(long.flows)
    assert short.tally.notes == long.tally.notes


def test_a_first_fragment_takes_the_long_way(meter, pcap):
    """There it is remembered, so that the rest of its packet is credited to its conversation."""
    first, later = changed(PLAIN[0], (20, 0x20)), changed(PLAIN[0], (21, 0x0A))

    metered = meter(pcap([first, later]))

    assert metered.tally.notes == {"fragments_credited": 1}
    assert metered.row["src_packets"] == 2


@pytest.mark.parametrize("frame", PLAIN)
def test_ordinary_packets_take_the_short_way_as_well_as_the_long(meter, pcap, frame):
    """Every kind that the property above starts from is metered, with its payload."""
    row = meter(pcap([frame])).row

    assert row["src_payload"] + row["dst_payload"] == 60
