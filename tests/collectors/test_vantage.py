"""The same traffic seen from several places of one reading is charged once."""

from __future__ import annotations

import struct

import polars as pl
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

A, B = "10.0.0.1", "198.51.100.9"


def udp(size: int = 100, *, sport: int = 5000, src: str = A, dst: str = B, dport: int = 6000) -> Packet:
    return IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(b"x" * size)


def eth(inside: Packet) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inside)


def sll2(inside: Packet, interface: int, kind: int) -> bytes:
    return bytes(CookedLinuxV2(proto=0x0800, ifindex=interface, pkttype=kind) / inside)


def vxlan(inside: Packet) -> Packet:
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inside
    return IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=7, dport=4789) / VXLAN(flags=8) / frame


def test_two_taps_on_one_path_count_once(meter, pcap):
    """Two captures of the same 200 packets over 40 s: each is charged once, the rest is noted."""
    here = [(n / 5, eth(udp(n))) for n in range(200)]
    there = [(time + 0.0004, frame) for time, frame in here]

    both = meter(pcap(here), pcap(there))

    alone = meter(pcap(here))
    assert both.total("src_bytes") == alone.total("src_bytes")
    assert both.total("src_packets") == 200
    assert both.flows["flow_id"].n_unique() == 1
    assert sorted(both.flows["part"]) == list(range(both.flows.height))
    assert both.tally.notes["seen_again_frames"] == 200
    assert both.tally.metered.frames == 400


def test_two_taps_of_a_short_transfer_count_once(meter, pcap):
    """Half a second in all: the second capture is another view, not the next file of the first."""
    here = [(n / 400, eth(udp(n))) for n in range(200)]
    there = [(time + 0.0004, frame) for time, frame in here]

    both = meter(pcap(here), pcap(there))

    assert both.total("src_packets") == 200
    assert both.tally.notes["seen_again_frames"] == 200


@pytest.mark.slow
def test_rotated_files_that_overlap_a_little_add_up(meter, pcap):
    """The writer of the second file had packets that were older than the last of the first."""
    first = [(n / 400, eth(udp(n))) for n in range(200)]
    second = [(0.45 + n / 400, eth(udp(n))) for n in range(200)]

    assert meter(pcap(first), pcap(second)).total("src_packets") == 400


def test_disjoint_taps_add_up(meter, pcap):
    """Where the examiner says that they saw different traffic, everything counts."""
    here = [(n / 5, eth(udp(n))) for n in range(50)]

    assert meter(pcap(here), pcap(here), is_disjoint=True).total("src_packets") == 100


def test_the_larger_view_counts(meter, pcap):
    """A tap that lost half of the packets takes nothing away."""
    here = [(n / 5, eth(udp(100))) for n in range(100)]

    assert meter(pcap(here[::2]), pcap(here)).total("src_packets") == 100
    assert meter(pcap(here), pcap(here[::2])).total("src_packets") == 100


def test_what_only_one_tap_saw_is_kept(meter, pcap):
    """Other conversations are not touched by the comparison."""
    here = [(n / 5, eth(udp(100))) for n in range(50)]
    other = [(n / 5, eth(udp(100, sport=7000))) for n in range(50)]

    assert meter(pcap(here), pcap(other)).total("src_packets") == 100


@pytest.mark.parametrize("link", [113, 276])
def test_a_forwarded_packet_on_any_counts_once(meter, pcap, link):
    """`tcpdump -i any` on a router sees each packet come in and go out."""
    frames = []
    for n in range(60):
        inside = udp(100)
        if link == 276:
            frames += [(n / 4, sll2(inside, 2, 0)), (n / 4 + 0.0001, sll2(inside, 3, 4))]
        else:
            frames += [
                (n / 4 + 0.0001 * (kind == 4), bytes(CookedLinux(proto=0x0800, pkttype=kind) / inside))
                for kind in (0, 4)
            ]

    metered = meter(pcap(frames, link=link))

    assert (metered.total("src_packets"), metered.tally.notes["seen_again_frames"]) == (60, 60)


def test_both_directions_on_any_are_one_row(meter, pcap):
    """What went out and what came in are different views; each is the largest of its direction."""
    frames = []
    for n in range(40):
        out = IP(src=A, dst=B) / TCP(sport=5000, dport=443, flags="A", seq=n * 100, ack=n * 10) / Raw(b"x" * 100)
        back = IP(src=B, dst=A) / TCP(sport=443, dport=5000, flags="A", seq=n * 10, ack=n * 100 + 100) / Raw(b"y" * 10)
        frames += [(n / 100, sll2(out, 2, 4)), (n / 100 + 0.001, sll2(back, 2, 0))]

    metered = meter(pcap(frames, link=276))

    row = metered.row
    assert (row["src_packets"], row["dst_packets"], row["src_payload"], row["dst_payload"]) == (40, 40, 4000, 400)
    assert row["missed"] == 0
    assert metered.tally.notes.get("seen_again_frames", 0) == 0


def test_inside_and_outside_of_a_tunnel_count_once_and_the_outer_addresses_stay(meter, pcap, ip):
    """A container's packet, then the same packet leaving in VXLAN: one charge, on the tunnelled row."""
    frames = []
    for n in range(50):
        frames += [(n / 10, sll2(udp(100), 5, 0)), (n / 10 + 0.0001, sll2(vxlan(udp(100)), 2, 4))]

    metered = meter(pcap(frames, link=276))

    assert metered.row["src_packets"] == 50
    assert (metered.row["tunnel"], metered.row["outer_dst_ip"]) == ("vxlan", ip("192.0.2.2"))


def test_what_is_seen_beyond_the_tunnel_is_not_lost(meter, pcap):
    """30 packets in the tunnel, 50 outside of it: 30 tunnelled, 20 plain."""
    frames = [(n / 10, sll2(udp(100), 5, 0)) for n in range(50)]
    frames += [(n / 10 + 0.0001, sll2(vxlan(udp(100)), 2, 4)) for n in range(30)]

    flows = meter(pcap(sorted(frames), link=276)).flows

    packets = dict(flows.group_by("tunnel").agg(pl.col("src_packets").sum()).iter_rows())
    assert packets == {"vxlan": 30, "": 20}


def test_striping_over_tags_hides_nothing(meter, pcap):
    """VLAN tags are chosen by the sender: they are no vantage points."""
    frames = []
    for n in range(40):
        frame = eth(udp(100))
        frames.append((n / 10, frame[:12] + struct.pack(">HH", 0x8100, n % 4 + 1) + frame[12:]))

    assert meter(pcap(frames)).total("src_packets") == 40


@pytest.mark.parametrize("chunk_bytes", [1 << 10, 3000, 1 << 20])
@pytest.mark.slow
def test_chunks_change_nothing_in_what_is_compared(meter, pcap, chunk_bytes):
    """Lanes are merged by time, not by how much of each was read."""
    here = [(n / 20, eth(udp(n % 90, sport=5000 + n % 7))) for n in range(600)]
    there = [(time + 0.0003, frame) for time, frame in here if len(frame) % 3]

    first = meter(pcap(here), pcap(there), chunk_bytes=1 << 14).flows
    second = meter(pcap(here), pcap(there), chunk_bytes=chunk_bytes, threads=2).flows

    assert first.equals(second)


def test_one_packet_from_2106_does_not_split_a_capture_into_lanes(meter, pcap):
    """A file whose clock leapt once is still continued by the next."""
    first = [(n / 10, eth(udp())) for n in range(30)]
    first.insert(15, (2_500_000_000, eth(udp())))
    second = [(3 + n / 10, eth(udp())) for n in range(30)]

    metered = meter(pcap(first), pcap(second))

    assert metered.total("src_packets") == 61


def test_a_second_tap_adds_nothing_to_a_name(meter, pcap):
    """Both cut the request inside its Host line; the pieces must not be joined to a name that nobody sent."""
    request = b"GET / HTTP/1.1\r\nHost: files.example.org\r\n\r\n"
    way = IP(src=A, dst=B)
    first = eth(way / TCP(sport=5000, dport=80, flags="S", seq=1))
    data = eth(way / TCP(sport=5000, dport=80, flags="PA", seq=2) / Raw(request))
    capture = pcap([(0.0, first), (0.1, data)], snap=len(data) - len("s.example.org\r\n\r\n"))

    assert set(meter(capture, capture).flows["name"]) == set(meter(capture).flows["name"])


@pytest.mark.slow
def test_a_second_view_cuts_no_part_in_two(meter, pcap):
    """Hundreds of packets within one 10 s part stay one row, with one view or with two."""
    here = [(n / 100, eth(udp(n % 50))) for n in range(900)]

    assert meter(pcap(here), pcap(here)).flows.height == meter(pcap(here)).flows.height == 1


@pytest.mark.slow
def test_two_equal_captures_give_the_rows_of_one(meter, pcap):
    """Many conversations over several parts: the same rows, with the same ids and numbers."""
    here = [(n / 20, eth(udp(n % 90, sport=5000 + n % 30))) for n in range(1200)]

    once, twice = meter(pcap(here)).flows, meter(pcap(here), pcap(here)).flows

    keys = ["start", "flow_id", "part"]
    columns = [c for c in once.columns if c not in ("origin", "position", "final")]
    assert twice.sort(keys).select(columns).equals(once.sort(keys).select(columns))
