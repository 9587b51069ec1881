"""An independent decoder: which conversation a frame belongs to, and how many of its bytes are IP and payload.

Plain Python and `struct`, written from the RFCs. Innermost addresses win; a tunnel is only removed where what is inside
reads as IP, else the frame belongs to the tunnel's own conversation. Lengths: the IP header's, never more than the
frame had on the wire; the wire's own where the header says 0 or the frame exceeds what the field can hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.corpus.oracle_reader import Frame

V4_MAPPED = bytes(10) + b"\xff\xff"
MOST_PADDING = 46
"""Ethernet's smallest payload: what may stand behind an IP packet without being part of it."""
LONGEST_IP = 65_535
DEEPEST = 4
"""Tunnels removed at most."""
ICMP, IPIP, TCP, UDP, IP6, GRE, ESP, AH, ICMP6, NO_NEXT, SCTP = 1, 4, 6, 17, 41, 47, 50, 51, 58, 59, 132
VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
OPTION_HEADERS = (0, 43, 60)
"""IPv6 extension headers that say their length in units of 8 bytes, not counting the first."""
VXLAN_PORTS, GENEVE_PORT, GTP_PORT, TEREDO_PORT = (4789, 8472), 6081, 2152, 3544
FIXED_L4 = {TCP: 20, UDP: 8, SCTP: 12, ICMP: 8, ICMP6: 8}
WITH_PORTS = (TCP, UDP, SCTP)


@dataclass(frozen=True, slots=True)
class Packet:
    """What one frame was, innermost."""

    src: bytes
    dst: bytes
    proto: int
    src_port: int = 0
    dst_port: int = 0
    ip_bytes: int = 0
    payload: int = 0
    tunnel: tuple[str, ...] = ()
    outer: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes that are left to decode: what was captured of them, and how many there were on the wire."""

    data: bytes
    wire: int

    def skip(self, count: int) -> Span:
        return Span(self.data[count:], self.wire - count)

    def cut(self, wire: int) -> Span:
        return Span(self.data[:wire], wire)


@dataclass(slots=True)
class Decoder:
    """Frames in, packets out; remembers which conversation a datagram's first fragment belonged to."""

    firsts: dict[tuple[bytes, ...], Packet] = field(default_factory=dict)
    is_cut: bool = False
    """The frame holds the first piece of a datagram only, so what is inside is longer than it."""
    carriers: list[Packet] = field(default_factory=list)
    """The packets that the last frame's tunnels were, innermost first: some tools count them too."""

    def packet(self, frame: Frame) -> Packet | None:
        """None: nothing that reads as IP."""
        self.carriers, self.is_cut = [], False
        opener = LINKS.get(frame.link)
        return opener(self, Span(frame.data, frame.wire), 0) if opener else None

    def ethernet(self, span: Span, depth: int) -> Packet | None:
        return self.ethertype(_u16(span.data, 12), span.skip(14), depth)

    def ethertype(self, kind: int, span: Span, depth: int) -> Packet | None:
        while kind in VLAN_TAGS and len(span.data) >= 4:
            kind, span = _u16(span.data, 2), span.skip(4)
        if kind == 0x0800:
            return self.ip(span, depth, 4)
        if kind == 0x86DD:
            return self.ip(span, depth, 6)
        if kind in (0x8847, 0x8848):
            return self.mpls(span, depth)
        if kind == 0x8903:  # Cisco FabricPath: a 2-byte tag, then the frame
            return self.ethernet(span.skip(2), depth)
        if kind == 0x88E7:  # 802.1ah: a 4-byte service tag, then the customer's frame
            return self.ethernet(span.skip(4), depth)
        if kind == 0x8926:  # Cisco VN-Tag
            return self.ethertype(_u16(span.data, 4), span.skip(6), depth)
        if kind == 0x8864:
            return self.ppp(span.skip(6), depth)
        return None

    def mpls(self, span: Span, depth: int) -> Packet | None:
        while len(span.data) > 4:
            is_bottom, span = span.data[2] & 1, span.skip(4)
            if is_bottom and span.data and span.data[0] >> 4 == 0:  # pseudowire control word (RFC 4385)
                return self.ethernet(span.skip(4), depth)
            if is_bottom:
                return self.ip(span, depth)
        return None

    def ppp(self, span: Span, depth: int) -> Packet | None:
        if span.data[:2] == b"\xff\x03":
            span = span.skip(2)
        if not span.data:
            return None
        width = 1 if span.data[0] & 1 else 2
        kind = int.from_bytes(span.data[:width], "big")
        if kind in (0x0281, 0x0283):
            return self.mpls(span.skip(width), depth)
        version = {0x0021: 4, 0x0057: 6}.get(kind)
        return self.ip(span.skip(width), depth, version) if version else None

    def sll(self, span: Span, depth: int) -> Packet | None:
        return self.ethertype(_u16(span.data, 14), span.skip(16), depth)

    def sll2(self, span: Span, depth: int) -> Packet | None:
        return self.ethertype(_u16(span.data, 0), span.skip(20), depth)

    def hdlc(self, span: Span, depth: int) -> Packet | None:
        return self.ethertype(_u16(span.data, 2), span.skip(4), depth)

    def loopback(self, span: Span, depth: int) -> Packet | None:
        """The family's number differs between systems, and its byte order between machines."""
        families = {int.from_bytes(span.data[:4], "big"), int.from_bytes(span.data[:4], "little")}
        version = 4 if 2 in families else 6 if families & {10, 24, 28, 30} else 0
        return self.ip(span.skip(4), depth, version) if version else None

    def ip(self, span: Span, depth: int, expected: int = 0) -> Packet | None:
        version = span.data[0] >> 4 if span.data else 0
        if expected and version != expected:
            return None
        if version == 4:
            return self.ip4(span, depth)
        return self.ip6(span, depth) if version == 6 else None

    def ip4(self, span: Span, depth: int) -> Packet | None:
        data = span.data
        header = (data[0] & 15) * 4
        if len(data) < 20 or header < 20 or span.wire < header:
            return None
        length = self.believed(_u16(data, 2), header, span.wire, depth)
        if length is None:
            return None
        span = span.cut(length)
        packet = Packet(V4_MAPPED + data[12:16], V4_MAPPED + data[16:20], data[9], ip_bytes=span.wire)
        word = _u16(data, 6)
        fragment = (data[4:6], (word & 0x1FFF) * 8, bool(word & 0x2000))
        body = span.skip(header)
        if packet.proto == AH and not fragment[1] and len(body.data) >= 12:
            size = (body.data[1] + 2) * 4
            if size <= body.wire:
                packet, body = replace(packet, proto=body.data[0]), body.skip(size)
        return self.datagram(packet, body, depth, fragment)

    def ip6(self, span: Span, depth: int) -> Packet | None:
        data = span.data
        if len(data) < 40 or span.wire < 40:
            return None
        claimed = _u16(data, 4)
        is_jumbo = claimed == 0 and span.wire - 40 > MOST_PADDING
        length = self.believed(0 if is_jumbo else claimed + 40, 40, span.wire, depth)
        if length is None:
            return None
        span = span.cut(length)
        proto, rest, fragment = data[6], span.skip(40), (b"", 0, False)
        while proto in (*OPTION_HEADERS, 44, AH) and len(rest.data) >= 8:
            following = rest.data[0]
            if proto == 44:
                word = _u16(rest.data, 2)
                fragment, size = (rest.data[4:8], word & 0xFFF8, bool(word & 1)), 8
            else:
                size = (rest.data[1] + 2) * 4 if proto == AH else (rest.data[1] + 1) * 8
            if size > rest.wire:
                break
            proto, rest = following, rest.skip(size)
            if fragment[1]:
                break
        packet = Packet(data[8:24], data[24:40], proto, ip_bytes=span.wire)
        return self.datagram(packet, rest, depth, fragment)

    def believed(self, claimed: int, header: int, wire: int, depth: int) -> int | None:
        """IP length of a packet that says `claimed` and had `wire` bytes to be in; None: inside, this is no packet."""
        if depth and not self.is_cut and (0 < claimed < header or claimed > wire):
            return None
        has_bulk_behind = depth > 0 and wire - claimed > MOST_PADDING
        return wire if claimed < header or wire > LONGEST_IP or has_bulk_behind else min(claimed, wire)

    def datagram(self, packet: Packet, body: Span, depth: int, fragment: tuple[bytes, int, bool]) -> Packet:
        """`fragment` is (identification, offset, are there more)."""
        identification, offset, has_more = fragment
        key = (packet.src, packet.dst, bytes([packet.proto]), identification)
        if offset:
            first = self.firsts.get(key)
            if first is None:
                return replace(packet, payload=body.wire)
            inside = first.tunnel[depth:]  # a datagram around a tunnel: its later pieces add to what was inside
            return replace(first, ip_bytes=body.wire if inside else packet.ip_bytes, payload=body.wire)
        self.is_cut = self.is_cut or has_more
        found = self.transport(packet, body, depth)
        if has_more:
            self.firsts[key] = found
        return found

    def transport(self, packet: Packet, body: Span, depth: int) -> Packet:
        inner = self.tunnelled(packet, body, depth) if depth < DEEPEST else None
        if inner is not None:
            return inner
        header = FIXED_L4.get(packet.proto, 0)
        if len(body.data) < 4:
            return replace(packet, payload=max(0, body.wire - header))
        if packet.proto == TCP and len(body.data) >= 14:
            claimed = (body.data[12] >> 4) * 4
            header = claimed if header <= claimed <= body.wire else header
        if packet.proto in WITH_PORTS:
            packet = replace(packet, src_port=_u16(body.data, 0), dst_port=_u16(body.data, 2))
        return replace(packet, payload=max(0, body.wire - header))

    def tunnelled(self, packet: Packet, body: Span, depth: int) -> Packet | None:
        name, inner = "", None
        if packet.proto in (IPIP, IP6):
            is_v4 = packet.proto == IPIP
            name, inner = ("ipip" if is_v4 else "6in4"), self.ip(body, depth + 1, 4 if is_v4 else 6)
        elif packet.proto == GRE:
            name, inner = self.gre(body, depth + 1)
        elif packet.proto == UDP and len(body.data) >= 8:
            name, inner = self.in_udp(_u16(body.data, 0), _u16(body.data, 2), body.skip(8), depth + 1)
        if inner is None:
            return None
        ports = (_u16(body.data, 0), _u16(body.data, 2)) if packet.proto == UDP else (0, 0)
        self.carriers.append(replace(packet, src_port=ports[0], dst_port=ports[1], payload=body.wire))
        return replace(inner, tunnel=(name, *inner.tunnel), outer=(packet.src, packet.dst))

    def gre(self, body: Span, depth: int) -> tuple[str, Packet | None]:
        if len(body.data) < 4:
            return "gre", None
        flags, kind = _u16(body.data, 0), _u16(body.data, 2)
        optional = sum(4 for bit in (0x8000, 0x2000, 0x1000) if flags & bit)
        if flags & 7 > 1 or flags & 0x4000:  # source routes (RFC 1701) are read by nobody any more
            return "gre", None
        if flags & 7 == 1:  # PPTP: a key always, an acknowledgement by flag
            rest = body.skip(8 + 4 * bool(flags & 0x1000) + 4 * bool(flags & 0x0080))
            return "gre", self.ppp(rest, depth) if kind == 0x880B else None
        rest = body.skip(4 + optional)
        if kind == 0x6558:
            return "gre", self.ethernet(rest, depth)
        if kind == 0x880B:
            return "gre", self.ppp(rest, depth)
        if kind == 0x88BE:  # ERSPAN: type I has no GRE sequence number and no header of its own
            return "erspan", self.ethernet(rest.skip(8 if flags & 0x1000 else 0), depth)
        if kind == 0x22EB:
            has_subheader = len(rest.data) > 11 and rest.data[11] & 1
            return "erspan", self.ethernet(rest.skip(20 if has_subheader else 12), depth)
        return "gre", self.ethertype(kind, rest, depth)

    def in_udp(self, src_port: int, dst_port: int, body: Span, depth: int) -> tuple[str, Packet | None]:
        data = body.data
        if dst_port in VXLAN_PORTS and len(data) > 8 and data[0] & 8 and data[7] == 0:
            return "vxlan", self.ethernet(body.skip(8), depth)
        if dst_port == GENEVE_PORT and len(data) > 8 and data[0] >> 6 == 0:
            rest = body.skip(8 + (data[0] & 63) * 4)
            kind = _u16(data, 2)
            return "geneve", self.ethernet(rest, depth) if kind == 0x6558 else self.ethertype(kind, rest, depth)
        if dst_port == GTP_PORT and len(data) > 8 and data[0] >> 4 == 3 and data[1] == 255:
            return "gtp", self.gtp(body, depth)
        if TEREDO_PORT in (src_port, dst_port) and len(data) > 8:
            return "teredo", self.teredo(body, depth)
        return "", None

    def gtp(self, body: Span, depth: int) -> Packet | None:
        """G-PDU of GTPv1-U (3GPP TS 29.281, 5.1)."""
        flags = body.data[0]
        rest = body.skip(8)
        if flags & 7:
            following = rest.data[3] if len(rest.data) > 3 else 0
            rest = rest.skip(4)
            while flags & 4 and following and rest.data and rest.data[0]:
                size = rest.data[0] * 4
                following = rest.data[size - 1] if size <= len(rest.data) else 0
                rest = rest.skip(size)
        return self.ip(rest, depth)

    def teredo(self, body: Span, depth: int) -> Packet | None:
        """RFC 4380, 5.1.1: optional authentication, then optional origin indication, then IPv6."""
        if body.data[:2] == b"\x00\x01" and len(body.data) > 4:
            body = body.skip(13 + body.data[2] + body.data[3])
        if body.data[:2] == b"\x00\x00":
            body = body.skip(8)
        return self.ip6(body, depth) if body.data and body.data[0] >> 4 == 6 else None


def _u16(data: bytes, at: int) -> int:
    return struct.unpack_from(">H", data, at)[0] if len(data) >= at + 2 else 0


LINKS: dict[int, Callable[[Decoder, Span, int], Packet | None]] = {
    0: Decoder.loopback,
    1: Decoder.ethernet,
    9: Decoder.ppp,
    50: Decoder.ppp,
    104: Decoder.hdlc,
    108: Decoder.loopback,
    113: Decoder.sll,
    276: Decoder.sll2,
    **dict.fromkeys((12, 14, 101, 228, 229), Decoder.ip),
}
