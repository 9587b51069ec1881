"""Conversations: who began, where parts are cut, when they end, what TCP tells, what happens when too many come."""

from __future__ import annotations

import pytest
from scapy.layers.inet import GRE, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

A, B = "10.0.0.1", "198.51.100.9"


def eth(inside: Packet) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inside)


def tcp(
    flags: str, size: int = 0, *, seq: int = 0, ack: int = 0, back: bool = False, ports: tuple[int, int] = (5000, 443)
) -> bytes:
    """A segment from A's port to B's, or back."""
    src, dst, sport, dport = (B, A, *ports[::-1]) if back else (A, B, *ports)
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack)
    return eth(IP(src=src, dst=dst) / segment / Raw(b"x" * size))


def udp(size: int = 100, *, src: str = A, dst: str = B, sport: int = 5000, dport: int = 6000) -> bytes:
    return eth(IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(b"x" * size))


@pytest.mark.parametrize(
    ("frames", "port"),
    [
        ([tcp("S", ports=(80, 5000))], 80),
        ([tcp("SA", ports=(80, 5000), back=True)], 80),
        ([tcp("SA", ports=(5000, 443), back=True), tcp("A")], 5000),
        ([tcp("A", 9, ports=(443, 5000))], 5000),
        ([tcp("A", 9, ports=(5000, 443))], 5000),
        ([tcp("A", 9, ports=(5000, 6000))], 5000),
        ([tcp("A", 9, ports=(22, 443))], 22),
        ([tcp("A", 9, ports=(5000, 6000)), tcp("S", ports=(5000, 6000), back=True)], 6000),
    ],
)
def test_the_initiator_is_told_by_the_syn_then_by_the_server_port_then_by_the_first_packet(meter, pcap, frames, port):
    """A well-known port is a server's unless both are; a SYN knows better."""
    assert meter(pcap(frames)).row["src_port"] == port


def test_parts_are_cut_on_the_ten_second_grid(meter, pcap):
    """A conversation over three buckets is three rows with one id, numbered, the last one final."""
    flows = meter(pcap([(t, udp()) for t in (1, 9.9, 10, 25)])).flows.sort("part")

    assert flows["flow_id"].n_unique() == 1
    assert flows["part"].to_list() == [0, 1, 2]
    assert flows["src_packets"].to_list() == [2, 1, 1]
    assert flows["final"].to_list() == [False, False, True]
    assert flows["position"].to_list() == [1, 3, 4]


@pytest.mark.slow
def test_time_running_back_a_little_stays_in_its_part(meter, pcap):
    """Less than a bucket back: the part begins earlier; more: another part."""
    little = meter(pcap([(t, udp()) for t in (11, 9)])).row
    assert (little["src_packets"], little["start"].second, little["end"].second) == (2, 29, 31)

    much = meter(pcap([(t, udp()) for t in (1000, 50)])).flows
    assert much["src_packets"].to_list() == [1, 1]
    assert much["flow_id"].n_unique() == 1


def test_a_long_silence_ends_a_conversation(meter, pcap):
    """After the idle time-out the same addresses are another conversation."""
    flows = meter(pcap([(0, udp()), (299, udp()), (600, udp())])).flows.sort("start")

    assert flows["final"].to_list() == [False, True, True]
    assert flows["flow_id"].to_list()[0] == flows["flow_id"].to_list()[1] != flows["flow_id"].to_list()[2]


def test_a_syn_after_the_end_begins_anew(meter, pcap):
    """Ports are used again after FIN both ways, or after a reset."""
    first = [tcp("S"), tcp("SA", back=True), tcp("FA"), tcp("FA", back=True), tcp("A")]
    metered = meter(pcap([*first, tcp("S"), tcp("RA", back=True), tcp("S")]))

    assert sorted(metered.flows["src_packets"] + metered.flows["dst_packets"]) == [1, 2, 5]
    assert metered.flows["flow_id"].n_unique() == 3


def test_flags_are_those_of_each_side(meter, pcap):
    """What the initiator sent stands in src_flags."""
    row = meter(pcap([tcp("S"), tcp("SA", back=True), tcp("PA", 5, seq=1)])).row

    assert (row["src_flags"], row["dst_flags"]) == (0x1A, 0x12)


def test_bytes_sent_again_are_counted_beside(meter, pcap):
    """A segment seen twice is charged twice and named once."""
    row = meter(pcap([tcp("A", 100, seq=0), tcp("A", 100, seq=100), tcp("A", 150, seq=50)])).row

    assert (row["src_payload"], row["retransmits"], row["missed"]) == (350, 150, 0)


def test_gaps_are_missed_until_they_are_filled(meter, pcap):
    """A hole counts; a segment that fills it late takes it back; an ACK for what was not seen counts too."""
    hole = [tcp("A", 100, seq=0), tcp("A", 100, seq=300)]
    assert meter(pcap(hole)).row["missed"] == 200
    assert meter(pcap([*hole, tcp("A", 150, seq=100)])).row["missed"] == 50
    acked = [tcp("A", 100, seq=0, ack=1), tcp("A", back=True, seq=1, ack=700)]
    assert meter(pcap(acked)).row["missed"] == 600


def test_one_direction_alone_tells_how_much_the_other_sent(meter, pcap):
    """Only the receiver's ACKs were captured: what they advance by was sent."""
    assert meter(pcap([tcp("A", ack=n, back=True) for n in (1, 50_001, 90_001)])).row["missed"] == 90_000


def test_sequence_numbers_wrap(meter, pcap):
    """Past 2^32 nothing is missed."""
    row = meter(pcap([tcp("A", 100, seq=2**32 - 50), tcp("A", 100, seq=50)])).row

    assert (row["missed"], row["retransmits"]) == (0, 0)


def test_a_forged_jump_is_capped(meter, pcap):
    """One packet can claim a gibibyte at most."""
    assert meter(pcap([tcp("A", 1, seq=0), tcp("A", 1, seq=2**31 - 1)])).row["missed"] <= 1 << 30


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_fragments_belong_to_the_flow_of_the_first(meter, pcap, version, is_reversed):
    """All bytes of a fragmented packet are in one row if its first fragment came first, and counted either way."""
    if version == 4:
        pieces = fragment(IP(src=A, dst=B, id=77) / UDP(sport=5000, dport=6000) / Raw(b"x" * 4000), 1000)
    else:
        whole = IPv6(src="fd00::1", dst="2001:db8::9") / IPv6ExtHdrFragment(id=7)
        pieces = fragment6(whole / UDP(sport=5000, dport=6000) / Raw(b"x" * 4000), 1280)
    frames = [eth(piece) for piece in (pieces[::-1] if is_reversed else pieces)]

    metered = meter(pcap(frames))

    assert metered.total("src_bytes") == sum(len(frame) - 14 for frame in frames)
    assert metered.total("src_payload") == 4000
    if not is_reversed:
        assert (metered.row["src_port"], metered.row["dst_port"]) == (5000, 6000)
    notes = metered.tally.notes
    assert notes.get("fragments_unknown" if is_reversed else "fragments_credited") == len(frames) - 1


def test_fragments_of_a_tunnel_belong_to_the_flow_inside(meter, pcap, ip):
    """The outer packet was fragmented: what follows is credited to the inner conversation, byte for byte."""
    inner = IP(src=A, dst=B) / UDP(sport=5000, dport=6000) / Raw(b"x" * 3000)
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inner
    outer = IP(src="192.0.2.1", dst="192.0.2.2", id=9) / UDP(sport=7, dport=4789) / VXLAN(flags=8) / frame

    row = meter(pcap([eth(piece) for piece in fragment(outer, 1000)])).row

    assert (row["src_ip"], row["dst_port"], row["tunnel"]) == (ip(A), 6000, "vxlan")
    assert (row["src_bytes"], row["src_payload"]) == (3028, 3000)


def test_the_same_inner_addresses_in_two_tunnels_are_two_rows(meter, pcap):
    """Outer addresses are never lost: whoever sends chooses the inner ones."""
    inner = IP(src=A, dst=B) / UDP(sport=5000, dport=6000)
    frames = [eth(IP(src="192.0.2.1", dst=f"192.0.2.{n}") / GRE() / inner) for n in (2, 3)]

    assert meter(pcap(frames)).flows["outer_dst_ip"].n_unique() == 2


@pytest.mark.slow
def test_more_conversations_than_fit_keep_their_bytes(meter, pcap, ip):
    """The smallest are merged, counted, and nothing is lost; the large one is still told apart."""
    big = udp(1400, dport=9999)
    frames = [frame for n in range(500) for frame in (big, udp(n % 7, dst=f"203.0.{n % 250}.{n // 250 + 1}"))]

    metered = meter(pcap(frames), max_flows=64)

    assert metered.total("src_bytes") == sum(len(frame) - 14 for frame in frames)
    assert metered.total("src_packets") == 1000
    assert metered.tally.notes["merged_flows"] > 300
    whole = [row for row in metered.rows if row["dst_port"] == 9999]
    assert sum(row["src_bytes"] for row in whole) == 500 * 1428


@pytest.mark.slow
def test_eviction_does_not_depend_on_chunks(meter, pcap):
    """Which conversations go is decided by the packets alone."""
    frames = [udp(n % 50, dst=f"203.0.{n % 250}.{n % 3}", sport=1024 + n) for n in range(2000)]

    first, second = (meter(pcap(frames), max_flows=100, chunk_bytes=size).flows for size in (1 << 10, 1 << 20))

    assert first.equals(second)
