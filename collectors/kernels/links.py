"""From a frame's first byte to its IP header: link types, tags and labels.

Each step moves `packet[POS]` on and returns the ethertype of what follows, or minus a verdict.
"""

from __future__ import annotations

from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.octets import be16, be32, le32, u8
from collectors.kernels.row_types import Bytes, Words

IPV4, IPV6, ETHERNET, MPLS, PPP, BY_VERSION = 0x0800, 0x86DD, 0x6558, 0x8847, 0x880B, 0x10000
"""Ethertypes; 0x6558 is "transparent Ethernet bridging". BY_VERSION is ours: the first nibble says which IP it is."""

OUTGOING = 4
"""Packet type of SLL: sent by this host."""


@step
def refuse(packet: Words, verdict: int, detail: int) -> int:
    packet[p.DETAIL] = detail
    return -verdict


@step
def has(packet: Words, count: int) -> bool:
    """True where `count` bytes from here were captured."""
    return bool(packet[p.POS] + count <= packet[p.END])


@step
def read_link(data: Bytes, packet: Words, link: int) -> int:
    """Ethertype of what the frame carries, by libpcap's LINKTYPE number."""
    if link == 1:
        return ethernet(data, packet)
    if link in (12, 14, 101, 228, 229):  # raw IP, with all its numbers
        return BY_VERSION
    if link in (113, 276):
        return cooked(data, packet, link)
    if link in (0, 108):
        return loopback(data, packet)
    if link in (9, 50, 204, 51, 104):
        return point_to_point(data, packet, link)
    return refuse(packet, p.LINK_TYPE, link)


@step
def ethernet(data: Bytes, packet: Words) -> int:
    if not has(packet, 14):
        return refuse(packet, p.TRUNCATED_LINK, 14)
    packet[p.POS] += 14
    return be16(data, packet[p.POS] - 2)


@step
def cooked(data: Bytes, packet: Words, link: int) -> int:
    """SLL and SLL2: each direction, and in SLL2 each interface, is a vantage point of its own."""
    size = 16 if link == 113 else 20
    if not has(packet, size):
        return refuse(packet, p.TRUNCATED_LINK, size)
    at = packet[p.POS]
    packet[p.POS] += size
    packet[p.IS_MIRRORED] = 1
    if link == 113:
        packet[p.VANTAGE] |= 1 if be16(data, at) == OUTGOING else 0
        return be16(data, at + 14)
    packet[p.VANTAGE] |= be32(data, at + 4) << 1 | (1 if u8(data, at + 10) == OUTGOING else 0)
    return be16(data, at)


@step
def loopback(data: Bytes, packet: Words) -> int:
    """BSD loopback: an address family in either byte order."""
    if not has(packet, 4):
        return refuse(packet, p.TRUNCATED_LINK, 4)
    at = packet[p.POS]
    packet[p.POS] += 4
    family = min(be32(data, at), le32(data, at))
    if family == 2:
        return IPV4
    if family in (10, 24, 28, 30):  # Linux, BSDs and macOS each have their own AF_INET6
        return IPV6
    return refuse(packet, p.NULL_FAMILY, family)


@step
def point_to_point(data: Bytes, packet: Words, link: int) -> int:
    if link == 104 or (link == 50 and has(packet, 1) and u8(data, packet[p.POS]) in (0x0F, 0x8F)):
        if not has(packet, 4):  # Cisco HDLC: address, control, ethertype
            return refuse(packet, p.TRUNCATED_LINK, 4)
        packet[p.POS] += 4
        return be16(data, packet[p.POS] - 2)
    if link == 204:  # a pseudo byte for the direction
        packet[p.POS] += 1
    if link == 51:
        return pppoe(data, packet)
    return ppp(data, packet)


@step
def pppoe(data: Bytes, packet: Words) -> int:
    if not has(packet, 8):
        return refuse(packet, p.TRUNCATED_LINK, 8)
    packet[p.POS] += 6
    return ppp(data, packet)


@step
def ppp(data: Bytes, packet: Words) -> int:
    """PPP (RFC 1661): address and control may be absent, the protocol number may be a single odd byte."""
    if has(packet, 4) and be16(data, packet[p.POS]) == 0xFF03:
        packet[p.POS] += 2
    if not has(packet, 2):
        return refuse(packet, p.TRUNCATED_LINK, 2)
    at = packet[p.POS]
    is_short = u8(data, at) & 1 == 1
    number = u8(data, at) if is_short else be16(data, at)
    packet[p.POS] += 1 if is_short else 2
    if number == 0x21:
        return IPV4
    if number == 0x57:
        return IPV6
    if number in (0x281, 0x283):  # RFC 3032
        return MPLS
    return refuse(packet, p.PPP, number)


@step
def mpls(data: Bytes, packet: Words) -> int:
    """Labels down to the bottom of the stack; below it, IP by its version or Ethernet behind a control word."""
    while has(packet, 5):
        at = packet[p.POS]
        packet[p.POS] += 4
        if u8(data, at + 2) & 1:
            nibble = u8(data, at + 4) >> 4
            if nibble in (4, 6):
                return BY_VERSION
            if nibble == 0 and has(packet, 18) and be16(data, at + 20) in (IPV4, IPV6, 0x8100):
                packet[p.POS] += 4
                return ETHERNET
            return refuse(packet, p.MPLS, nibble)
    return refuse(packet, p.TRUNCATED_LINK, 4)


@step
def llc(data: Bytes, packet: Words) -> int:
    """802.2: SNAP with an ethertype is followed, everything else is not IP."""
    at = packet[p.POS]
    if has(packet, 8) and be16(data, at) == 0xAAAA and be32(data, at + 2) & 0xFFFFFF == 0 and u8(data, at + 2) == 3:
        packet[p.POS] += 8
        return be16(data, at + 6)
    return refuse(packet, p.LLC, be16(data, at) if has(packet, 2) else 0)


@step
def read_tags(data: Bytes, packet: Words, ethertype: int) -> int:
    """IPV4, IPV6 or BY_VERSION once every tag, label and shim is removed, else minus a verdict."""
    while ethertype > 0 and ethertype not in (IPV4, IPV6, BY_VERSION):
        if ethertype in (0x8100, 0x88A8, 0x9100):
            ethertype = vlan(data, packet)
        elif ethertype in (MPLS, 0x8848):
            ethertype = mpls(data, packet)
        elif ethertype == 0x8864:
            ethertype = pppoe(data, packet)
        elif ethertype == ETHERNET:
            ethertype = ethernet(data, packet)
        elif ethertype == PPP:
            ethertype = ppp(data, packet)
        elif 4 <= ethertype <= 1500 or ethertype == 0x8870:  # the latter: LLC in frames too long for a length
            ethertype = llc(data, packet)
        elif ethertype in (0x8926, 0x88E7, 0x8903):
            ethertype = fabric_tag(data, packet, ethertype)
        else:
            verdict = p.ARP if ethertype == 0x0806 else p.ETHERTYPE
            return refuse(packet, verdict, ethertype)
    if ethertype == 0:
        return refuse(packet, p.ETHERTYPE, 0)
    return ethertype


@step
def fabric_tag(data: Bytes, packet: Words, ethertype: int) -> int:
    """VN-Tag, provider backbone bridging, FabricPath: a tag of fixed size, then an ethertype or a whole frame."""
    size = 6 if ethertype == 0x8926 else 4 if ethertype == 0x88E7 else 2
    if not has(packet, size):
        return refuse(packet, p.TRUNCATED_LINK, size)
    packet[p.POS] += size
    return be16(data, packet[p.POS] - 2) if ethertype == 0x8926 else ETHERNET


@step
def vlan(data: Bytes, packet: Words) -> int:
    if not has(packet, 4):
        return refuse(packet, p.TRUNCATED_LINK, 4)
    at = packet[p.POS]
    packet[p.POS] += 4
    if packet[p.VLAN] == 0:
        packet[p.VLAN] = be16(data, at) & 0x0FFF
    return be16(data, at + 2)
