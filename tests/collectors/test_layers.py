"""What a packet's layers say, as scapy builds them and the meter reads them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.contrib.erspan import ERSPAN, ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import ARP, LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

A, B = "10.0.0.1", "198.51.100.9"
A6, B6 = "fd00::1", "2001:db8::9"
BODY = Raw(b"x" * 100)


def eth(inside: Packet) -> Packet:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inside


def udp(src: str = A, dst: str = B, *, sport: int = 5000, dport: int = 6000) -> Packet:
    network = IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)
    return network / UDP(sport=sport, dport=dport) / BODY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "packet"),
    [
        (1, eth(udp())),
        (1, eth(Dot1Q(vlan=7) / udp())),
        (1, eth(Dot1AD(vlan=7) / Dot1Q(vlan=9) / udp())),
        (1, Ether(type=0x9100) / Dot1Q(vlan=7) / udp()),
        (1, eth(MPLS(label=3, s=0) / MPLS(label=4, s=1) / udp())),
        (1, eth(PPPoE(sessionid=1) / PPP(proto=0x21) / udp())),
        (1, Ether(src="02:00:00:00:00:01") / LLC() / SNAP(code=0x0800) / udp()),
        (113, CookedLinux(proto=0x0800) / udp()),
        (276, CookedLinuxV2(proto=0x0800) / udp()),
        (0, Loopback(type=2) / udp()),
        (9, HDLC() / PPP(proto=0x21) / udp()),
        (9, PPP(proto=0x21) / udp()),
        (9, PPP(proto=0x0281) / MPLS(label=3, s=1) / udp()),
        *((raw, udp()) for raw in (12, 14, 101, 228)),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else str(value),
)
def test_links_and_tags_lead_to_ip(meter, pcap, ip, link, packet):
    """However a packet is wrapped on the link, the row says what IP says."""
    row = meter(pcap([bytes(packet)], link=link)).row

    assert (row["src_ip"], row["src_port"], row["dst_ip"], row["dst_port"]) == (ip(A), 5000, ip(B), 6000)
    assert (row["proto"], row["src_bytes"], row["src_payload"], row["src_packets"]) == (17, 128, 100, 1)
    assert (row["tunnel"], row["outer_src_ip"], row["outer_dst_ip"]) == ("", bytes(16), bytes(16))


def test_vlan_is_the_outermost_tag(meter, pcap):
    """Of two tags the outer one is the row's."""
    assert meter(pcap([bytes(eth(Dot1AD(vlan=7) / Dot1Q(vlan=9) / udp()))])).row["vlan"] == 7


@pytest.mark.parametrize(
    ("tunnel", "packet", "outer"),
    [
        (
            "vxlan",
            IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=4789) / VXLAN(vni=5, flags=8) / eth(udp()),
            "192.0.2.",
        ),
        (
            "vxlan",
            IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=8472) / VXLAN(vni=5, flags=8) / eth(udp()),
            "192.0.2.",
        ),
        ("geneve", IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=6081) / GENEVE(vni=5) / eth(udp()), "192.0.2."),
        ("gtp", IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=2152) / GTP_U_Header(teid=5) / udp(), "192.0.2."),
        ("gre", IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / udp(), "192.0.2."),
        ("gre", IP(src="192.0.2.1", dst="192.0.2.2") / GRE(key_present=1, seqnum_present=1, key=3) / udp(), "192.0.2."),
        ("gre", IP(src="192.0.2.1", dst="192.0.2.2") / GRE(proto=0x6558) / eth(udp()), "192.0.2."),
        ("erspan", IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / ERSPAN() / eth(udp()), "192.0.2."),
        (
            "erspan",
            IP(src="192.0.2.1", dst="192.0.2.2") / GRE(seqnum_present=1) / ERSPAN_II() / eth(udp()),
            "192.0.2.",
        ),
        (
            "erspan",
            IP(src="192.0.2.1", dst="192.0.2.2") / GRE(seqnum_present=1) / ERSPAN_III() / eth(udp()),
            "192.0.2.",
        ),
        ("ipip", IP(src="192.0.2.1", dst="192.0.2.2") / udp(), "192.0.2."),
        ("4in6", IPv6(src="2001:db8:1::1", dst="2001:db8:1::2") / udp(), "2001:db8:1::"),
        (
            "gre/ipip",
            IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / IP(src="203.0.113.1", dst="203.0.113.2") / udp(),
            "192.0.2.",
        ),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else str(value),
)
def test_tunnels_show_the_inner_addresses_and_keep_the_outer(meter, pcap, ip, tunnel, packet, outer):
    """The row carries the inner conversation, `tunnel` and the outer addresses say what was removed."""
    row = meter(pcap([bytes(eth(packet))])).row

    assert (row["src_ip"], row["dst_ip"], row["src_port"], row["dst_port"]) == (ip(A), ip(B), 5000, 6000)
    assert (row["src_bytes"], row["src_payload"]) == (128, 100)
    assert (row["tunnel"], row["outer_src_ip"], row["outer_dst_ip"]) == (tunnel, ip(outer + "1"), ip(outer + "2"))


@pytest.mark.parametrize(
    ("tunnel", "packet"),
    [
        ("6in4", IP(src="192.0.2.1", dst="192.0.2.2", proto=41) / udp(A6, B6)),
        ("6in6", IPv6(src="2001:db8:1::1", dst="2001:db8:1::2") / udp(A6, B6)),
        ("teredo", IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=3544, dport=3544) / udp(A6, B6)),
    ],
)
def test_ipv6_inside_tunnels(meter, pcap, ip, tunnel, packet):
    """IPv6 carried by something else is metered as IPv6."""
    row = meter(pcap([bytes(eth(packet))])).row

    assert (row["src_ip"], row["dst_ip"], row["tunnel"], row["src_bytes"]) == (ip(A6), ip(B6), tunnel, 148)


def test_outer_addresses_follow_the_side_that_sent(meter, pcap, ip):
    """The answer through a tunnel is the same conversation, its outer source the responder's."""
    there = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=4789) / VXLAN(flags=8) / eth(udp())
    back = (
        IP(src="192.0.2.2", dst="192.0.2.1") / UDP(dport=4789) / VXLAN(flags=8) / eth(udp(B, A, sport=6000, dport=5000))
    )

    row = meter(pcap([bytes(eth(there)), bytes(eth(back))])).row

    assert (row["outer_src_ip"], row["outer_dst_ip"]) == (ip("192.0.2.1"), ip("192.0.2.2"))
    assert (row["src_bytes"], row["dst_bytes"]) == (128, 128)


@pytest.mark.parametrize(
    "inside", [Raw(b"\0" * 80), Raw(b"\x45" * 80), IP(src=A, dst=B, len=2000) / UDP() / BODY, ARP()]
)
def test_a_tunnel_that_does_not_decode_is_its_outer_flow(meter, pcap, ip, inside):
    """What claims to be VXLAN and holds no sound packet is metered whole, as UDP between the outer addresses."""
    packet = IP(src=A, dst=B) / UDP(sport=9999, dport=4789) / VXLAN(flags=8) / eth(inside)
    packet = IP(bytes(packet))

    row = meter(pcap([bytes(eth(packet))])).row

    assert (row["src_ip"], row["dst_port"], row["tunnel"]) == (ip(A), 4789, "")
    assert row["src_bytes"] == len(packet)


def test_bulk_behind_a_short_inner_length_counts(meter, pcap):
    """An inner packet that claims 28 bytes while its tunnel carries 1,000 more is charged with what was sent."""
    inner = bytes(IP(src=A, dst=B) / UDP()) + b"s" * 1000
    packet = IP(src="192.0.2.1", dst="192.0.2.2", proto=4) / Raw(inner)

    assert meter(pcap([bytes(eth(packet))])).row["src_bytes"] == 1028


def test_ethernet_padding_is_nobodys_bytes(meter, pcap):
    """The 18 bytes that fill a short frame belong to the link."""
    packet = bytes(eth(IP(src=A, dst=B) / UDP())).ljust(60, b"\0")

    assert meter(pcap([packet])).row["src_bytes"] == 28


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (IP(src=A, dst=B, options=[IPOption_RR()]) / TCP(options=[("MSS", 1460)]) / BODY, 100),
        (IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"z" * 20)]) / UDP() / BODY, 100),
        (IPv6(src=A6, dst=B6) / IPv6ExtHdrRouting(addresses=[B6]) / IPv6ExtHdrDestOpt() / TCP() / BODY, 100),
        (IP(src=A, dst=B) / SCTP() / BODY, 100),
        (IP(src=A, dst=B, proto=99) / BODY, 100),
        (IP(src=A, dst=B) / ICMP(type=8) / BODY, 100),
    ],
)
def test_payload_is_what_the_headers_leave(meter, pcap, packet, payload):
    """IP bytes include options and extension headers, payload none of them."""
    packet = packet.__class__(bytes(packet))

    row = meter(pcap([bytes(eth(packet))])).row

    assert (row["src_bytes"], row["src_payload"]) == (len(packet), payload)


def test_length_zero_and_big_frames_take_the_wire(meter, pcap):
    """Segmentation offload writes IP length 0, BIG TCP frames are longer than it can say: the wire is right."""
    offloaded = bytearray(bytes(IP(src=A, dst=B) / TCP() / Raw(b"x" * 60_000)))
    offloaded[2:4] = b"\0\0"
    big = bytearray(bytes(IPv6(src=A6, dst=B6) / TCP() / Raw(b"x" * 1000)))
    big[4:6] = b"\0\0"

    frames = [bytes(eth(Raw(bytes(offloaded)))), bytes(eth(Raw(bytes(big))))]
    frames = [frame[:12] + kind + frame[14:] for frame, kind in zip(frames, (b"\x08\0", b"\x86\xdd"), strict=True)]
    metered = meter(pcap(frames, snap=200, wire=lambda data: 150_014 if len(data) < 60_000 else len(data)))

    assert sorted(metered.flows["src_bytes"]) == [60_040, 150_000]
    assert sorted(metered.flows["src_payload"]) == [60_000, 149_940]


def test_ports_are_type_and_code_for_icmp_and_a_reply_belongs_to_its_request(meter, pcap, ip):
    """Even when the reply is seen first, the one who was answered is the initiator."""
    reply = eth(IP(src=B, dst=A) / ICMP(type=0, code=0) / BODY)
    request = eth(IP(src=A, dst=B) / ICMP(type=8, code=0) / BODY)

    row = meter(pcap([bytes(reply), bytes(request)])).row

    assert (row["src_ip"], row["src_port"], row["dst_port"]) == (ip(A), 8, 0)
    assert (row["src_packets"], row["dst_packets"]) == (1, 1)


@pytest.mark.parametrize(
    ("reason", "link", "frame"),
    [
        ("arp", 1, bytes(eth(ARP()))),
        ("ethertype_0x88cc", 1, bytes(Ether(type=0x88CC) / BODY)),
        ("llc", 1, bytes(Ether(src="02:00:00:00:00:01", type=40) / Raw(b"\x42\x42\x03" + bytes(37)))),
        ("link_type_105", 105, bytes(100)),
        ("ipv4_header_malformed", 1, bytes(eth(IP(ihl=4) / BODY))),
        ("ip_version", 1, bytes(Ether(type=0x0800) / Raw(b"\x95" * 60))),
        ("truncated_before_ip", 1, bytes(eth(IP()))[:30]),
        ("truncated_before_ip", 1, b"\x02" * 9),
        ("ppp_control", 9, bytes(HDLC() / PPP(proto=0xC021) / BODY)),
        ("empty_frame", 1, b""),
    ],
)
def test_what_is_not_ip_is_skipped_by_name(meter, pcap, reason, link, frame):
    """Each reason has its counter, and an example that says where."""
    metered = meter(pcap([frame], link=link))

    assert {name: count.frames for name, count in metered.tally.skipped.items()} == {reason: 1}
    (example,) = metered.tally.examples
    assert example.reason == reason
    assert example.where.endswith("packet 1, byte 40")


def test_ports_survive_a_snap_length_that_cuts_the_tcp_header(meter, pcap):
    """With ports but no flags captured, the payload is what a header without options leaves."""
    frame = bytes(eth(IP(src=A, dst=B) / TCP(sport=1234, dport=443, flags="A") / BODY))

    row = meter(pcap([frame], snap=14 + 20 + 8)).row

    assert (row["src_port"], row["dst_port"], row["src_flags"], row["src_payload"]) == (1234, 443, 0, 100)


def test_ports_are_zero_where_nothing_of_layer_4_was_captured(meter, pcap):
    """The IP header is enough for a flow."""
    frame = bytes(eth(IP(src=A, dst=B) / TCP(sport=1234, dport=443) / BODY))

    row = meter(pcap([frame], snap=14 + 20)).row

    assert (row["src_port"], row["dst_port"], row["proto"], row["src_bytes"]) == (0, 0, 6, 140)


WRAPS = {
    "vxlan": lambda inner: IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=4789) / VXLAN(flags=8) / eth(inner),
    "geneve": lambda inner: IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=6081) / GENEVE() / eth(inner),
    "gre": lambda inner: IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / inner,
    "4in6": lambda inner: IPv6(src="2001:db8:1::1", dst="2001:db8:1::2") / inner,
}
TAGS = {
    "none": lambda inner: inner,
    "vlan": lambda inner: Dot1Q(vlan=5) / inner,
    "qinq": lambda inner: Dot1AD(vlan=5) / Dot1Q(vlan=6) / inner,
    "mpls": lambda inner: MPLS(s=1) / inner,
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 1200),
    names=st.lists(st.sampled_from(sorted(WRAPS)), max_size=4),
    tag=st.sampled_from(sorted(TAGS)),
)
@pytest.mark.slow
def test_any_stack_of_four_tunnels_leads_to_the_inner_packet(meter, pcap, ip, size, names, tag):
    """However layers are stacked, bytes are the inner packet's and are counted once."""
    inner = IP(src=A, dst=B) / UDP(sport=5000, dport=6000) / Raw(b"p" * size)
    packet = inner
    for name in reversed(names):
        if name == "4in6" and isinstance(packet, IPv6):
            packet = IPv6(src="2001:db8:1::1", dst="2001:db8:1::2", nh=41) / packet
        else:
            packet = WRAPS[name](packet)

    row = meter(pcap([bytes(eth(TAGS[tag](packet)))])).row

    assert (row["src_ip"], row["dst_ip"], row["src_port"]) == (ip(A), ip(B), 5000)
    assert (row["src_bytes"], row["src_payload"]) == (28 + size, size)
    assert row["tunnel"].count("/") == max(0, len(names) - 1)


def test_a_sender_cannot_make_endless_reasons(meter, pcap):
    """Ethertypes beyond the first few dozen are pooled, and every frame is still counted."""
    frames = [bytes(Ether(type=0x7000 + n) / BODY) for n in range(500)]

    skipped = meter(pcap(frames)).tally.skipped

    assert len(skipped) == 65
    assert skipped["other_ethertype"].frames == 436


def test_type_and_code_do_not_turn_with_the_addresses(meter, pcap, ip):
    """Whichever address is the higher one, src_port is the type and dst_port the code."""
    rows = [meter(pcap([bytes(eth(IP(src=src, dst=dst) / ICMP(type=3, code=4)))])).row for src, dst in ((A, B), (B, A))]

    assert [(row["src_port"], row["dst_port"]) for row in rows] == [(3, 4), (3, 4)]
    assert [row["src_ip"] for row in rows] == [ip(A), ip(B)]


@pytest.mark.parametrize("chunk_bytes", [1 << 10, 1 << 20])
def test_an_example_says_where_in_the_file(meter, pcap, chunk_bytes):
    """Packet number and byte are those of the file, wherever a chunk begins."""
    frames = [bytes(eth(udp()))] * 50 + [bytes(eth(ARP()))]

    (example,) = meter(pcap(frames), chunk_bytes=chunk_bytes).tally.examples

    assert example.where.endswith(f"packet 51, byte {24 + 50 * (16 + len(frames[0])) + 16}")
