"""From the IP header inwards: lengths, extension headers, fragments, layer 4, tunnels.

What cannot be read further is metered as what is known at the last good layer; only what has no sound IP header is
refused. The length rules stand in docs/metering.md.
"""

from __future__ import annotations

from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.links import BY_VERSION, IPV4, IPV6, has, read_link, read_tags, refuse
from collectors.kernels.octets import be16, be32, be64, u8
from collectors.kernels.row_types import Bytes, Words
from collectors.kernels.shims import tunnel_inside

V4_MAPPED = 0xFFFF << 32
MAX_IP_BYTES = 65_535
PADDING_BYTES = 46
"""What Ethernet adds at most to reach its smallest frame; more than that behind an IP packet is not padding."""

ICMP, TCP, UDP, AH, ICMPV6, SCTP = 1, 6, 17, 51, 58, 132
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


@step
def decode(data: Bytes, packet: Words, backup: Words, link: int) -> int:
    """0 with everything in `packet`, or the verdict why the frame is not metered.

    `packet` comes with POS, END, WIRE_END and VANTAGE; `backup` is scratch of the same size.
    """
    for place in range(p.VANTAGE + 1, p.SIZE):
        packet[place] = 0
    ethertype = read_tags(data, packet, read_link(data, packet, link))
    if ethertype < 0:
        return -ethertype
    verdict = read_ip(data, packet, ethertype)
    if verdict != p.METERED:
        return verdict
    for _ in range(p.MAX_TUNNELS):
        if not may_be_tunnel(packet) or not enter_tunnel(data, packet, backup):
            break
    packet[p.ODD] = packet[p.FRAGMENT] | packet[p.OUTER_FRAGMENT] | packet[p.FROM_WIRE] | packet[p.TUNNELS]
    return p.METERED


@step
def may_be_tunnel(packet: Words) -> bool:
    proto = packet[p.PROTO]
    if proto == UDP:
        return packet[p.PAYLOAD_AT] > 0 and is_tunnel_port(packet[p.SRC_PORT], packet[p.DST_PORT])
    return proto in (4, 41, 47) and packet[p.FRAGMENT] != p.LATER_FRAGMENT


@step
def is_tunnel_port(src_port: int, dst_port: int) -> bool:
    """VXLAN, Geneve and GTP-U by where they go to, Teredo by either end."""
    return dst_port in (4789, 8472, 6081, 2152, 3544) or src_port == 3544


@step
def enter_tunnel(data: Bytes, packet: Words, backup: Words) -> bool:
    """Go one encapsulation deeper; False, and `packet` as it was, where what is inside does not decode cleanly."""
    for place in range(p.SIZE):
        backup[place] = packet[place]
    packet[p.DETAIL] = 0
    ethertype = tunnel_inside(data, packet)
    if ethertype > 0:
        if packet[p.FRAGMENT] == p.FIRST_FRAGMENT:
            remember_outer_fragment(packet, backup)
        if backup[p.TUNNELS] == 0:
            for i in range(4):
                packet[p.OUTER_SRC_HI + i] = backup[p.SRC_HI + i]
        ethertype = read_tags(data, packet, ethertype)
        packet[p.VLAN] = backup[p.VLAN]
        if ethertype > 0 and read_ip(data, packet, ethertype) == p.METERED:
            return True
    for place in range(p.SIZE):
        packet[place] = backup[place]
    return False


@step
def remember_outer_fragment(packet: Words, outer: Words) -> None:
    """Later fragments of this outer packet will be credited to the flow found inside."""
    packet[p.OUTER_FRAGMENT] = 1
    packet[p.OUTER_ID] = outer[p.FRAGMENT_ID]
    packet[p.OUTER_PROTO] = outer[p.PROTO]
    packet[p.OUTER_TUNNELS] = outer[p.TUNNELS]
    for i in range(4):
        packet[p.FRAGMENT_SRC_HI + i] = outer[p.SRC_HI + i]


@step
def read_ip(data: Bytes, packet: Words, ethertype: int) -> int:
    if packet[p.POS] >= packet[p.END]:
        return -refuse(packet, p.TRUNCATED_IP, 0)
    version = u8(data, packet[p.POS]) >> 4
    expected = version
    if ethertype == IPV4:
        expected = 4
    elif ethertype == IPV6:
        expected = 6
    if version != expected or (ethertype == BY_VERSION and version not in (4, 6)):
        return -refuse(packet, p.IP_VERSION, version)
    packet[p.IP_AT] = packet[p.POS]
    packet[p.FRAGMENT] = p.NO_FRAGMENT
    packet[p.PAYLOAD_AT] = 0
    packet[p.SRC_PORT] = 0
    packet[p.DST_PORT] = 0
    packet[p.TCP_IS_READ] = 0
    packet[p.FLAGS] = 0
    verdict = read_ipv4(data, packet) if version == 4 else read_ipv6(data, packet)
    if verdict == p.METERED:
        read_transport(data, packet)
    return verdict


@step
def read_ipv4(data: Bytes, packet: Words) -> int:
    at = packet[p.POS]
    if not has(packet, 20):
        return -refuse(packet, p.TRUNCATED_IP, packet[p.END] - at)
    header = (u8(data, at) & 15) * 4
    if header < 20 or at + header > packet[p.WIRE_END]:
        return -refuse(packet, p.IPV4_HEADER, header)
    if not settle_length(packet, be16(data, at + 2), header):
        return -refuse(packet, p.IPV4_HEADER, be16(data, at + 2))
    packet[p.SRC_HI] = 0
    packet[p.DST_HI] = 0
    packet[p.SRC_LO] = V4_MAPPED | be32(data, at + 12)
    packet[p.DST_LO] = V4_MAPPED | be32(data, at + 16)
    packet[p.PROTO] = u8(data, at + 9)
    packet[p.HEADER_BYTES] = header
    packet[p.POS] = at + header
    flags = be16(data, at + 6)
    if flags & 0x3FFF:
        packet[p.FRAGMENT] = p.LATER_FRAGMENT if flags & 0x1FFF else p.FIRST_FRAGMENT
        packet[p.FRAGMENT_ID] = be16(data, at + 4)
    return p.METERED


@step
def settle_length(packet: Words, claimed: int, header: int) -> bool:
    """Set BYTES and the packet's end from what the header claims and what the wire holds; False: impossible inside."""
    at = packet[p.IP_AT]
    held = packet[p.WIRE_END] - at
    is_inside = packet[p.TUNNELS] != 0
    is_cut = packet[p.OUTER_FRAGMENT] == 1
    length = claimed
    if is_inside and not is_cut and (0 < claimed < header or claimed > held):
        return False
    if claimed < header or held > MAX_IP_BYTES or (is_inside and held - claimed > PADDING_BYTES):
        # 0: segmentation offload or BIG TCP; shorter than its own header, or bulk hidden behind it: the wire is right
        length = held
        packet[p.FROM_WIRE] = 1
    if length > held:
        length = held
        packet[p.FROM_WIRE] = 2
    packet[p.BYTES] = length
    packet[p.WIRE_END] = at + packet[p.BYTES]
    packet[p.END] = min(packet[p.END], packet[p.WIRE_END])
    return True


@step
def read_ipv6(data: Bytes, packet: Words) -> int:
    at = packet[p.POS]
    if not has(packet, 40):
        return -refuse(packet, p.TRUNCATED_IP, packet[p.END] - at)
    claimed = be16(data, at + 4)
    held = packet[p.WIRE_END] - at
    total = 40 + claimed
    if claimed == 0 and held - 40 > PADDING_BYTES:  # jumbogram (RFC 2675) or BIG TCP
        total = 0
    if not settle_length(packet, total, 40):
        return -refuse(packet, p.IPV6_HEADER, claimed)
    packet[p.SRC_HI] = be64(data, at + 8)
    packet[p.SRC_LO] = be64(data, at + 16)
    packet[p.DST_HI] = be64(data, at + 24)
    packet[p.DST_LO] = be64(data, at + 32)
    packet[p.PROTO] = u8(data, at + 6)
    packet[p.POS] = at + 40
    skip_extensions(data, packet)
    packet[p.HEADER_BYTES] = packet[p.POS] - at
    return p.METERED


@step
def skip_extensions(data: Bytes, packet: Words) -> None:
    """Walk hop-by-hop, routing, destination, fragment headers; stop where the next was not captured."""
    while packet[p.PROTO] in (HOP_BY_HOP, ROUTING, DESTINATION, FRAGMENT) and has(packet, 8):
        at = packet[p.POS]
        size = (u8(data, at + 1) + 1) * 8
        if packet[p.PROTO] == FRAGMENT:
            size = 8
            word = be16(data, at + 2)
            if word & 0xFFF9:
                packet[p.FRAGMENT] = p.LATER_FRAGMENT if word & 0xFFF8 else p.FIRST_FRAGMENT
                packet[p.FRAGMENT_ID] = be32(data, at + 4)
        if at + size > packet[p.WIRE_END]:
            return
        packet[p.PROTO] = u8(data, at)
        packet[p.POS] += size
        if packet[p.FRAGMENT] == p.LATER_FRAGMENT:
            return


@step
def read_transport(data: Bytes, packet: Words) -> None:
    """Ports and payload; a header that is cut or impossible leaves ports 0."""
    packet[p.PAYLOAD] = packet[p.WIRE_END] - packet[p.POS]
    if packet[p.FRAGMENT] == p.LATER_FRAGMENT:
        return
    if packet[p.PROTO] == AH and has(packet, 12):  # authentication header: what it guards is in the clear
        size = (u8(data, packet[p.POS] + 1) + 2) * 4
        if packet[p.POS] + size <= packet[p.WIRE_END]:
            packet[p.PROTO] = u8(data, packet[p.POS])
            packet[p.POS] += size
            packet[p.HEADER_BYTES] += size
            packet[p.PAYLOAD] -= size
    proto = packet[p.PROTO]
    if proto == TCP:
        read_tcp(data, packet)
    elif proto in (UDP, SCTP):
        read_datagram(data, packet, 8 if proto == UDP else 12)
    elif proto in (ICMP, ICMPV6):
        read_icmp(data, packet)


@step
def read_tcp(data: Bytes, packet: Words) -> None:
    at = packet[p.POS]
    held = packet[p.PAYLOAD]
    if not has(packet, 4):
        packet[p.PAYLOAD] = max(0, held - 20)
        return
    packet[p.SRC_PORT] = be16(data, at)
    packet[p.DST_PORT] = be16(data, at + 2)
    packet[p.PAYLOAD] = max(0, held - 20)
    if not has(packet, 14):
        return
    header = (u8(data, at + 12) >> 4) * 4
    if header < 20 or header > held:
        return
    packet[p.PAYLOAD] = held - header
    packet[p.FLAGS] = u8(data, at + 13)
    packet[p.SEQ] = be32(data, at + 4)
    packet[p.ACK] = be32(data, at + 8)
    packet[p.TCP_IS_READ] = 1
    packet[p.PAYLOAD_AT] = at + header


@step
def read_datagram(data: Bytes, packet: Words, header: int) -> None:
    at = packet[p.POS]
    packet[p.PAYLOAD] = max(0, packet[p.PAYLOAD] - header)
    if has(packet, 4):
        packet[p.SRC_PORT] = be16(data, at)
        packet[p.DST_PORT] = be16(data, at + 2)
        packet[p.PAYLOAD_AT] = at + header


@step
def read_icmp(data: Bytes, packet: Words) -> None:
    """Type and code as ports; a reply (RFC 792, 4443) takes its request's type, so that both are one conversation."""
    at = packet[p.POS]
    packet[p.PAYLOAD] = max(0, packet[p.PAYLOAD] - 8)
    if not has(packet, 2):
        return
    kind = u8(data, at)
    packet[p.DST_PORT] = u8(data, at + 1)
    if packet[p.PROTO] == ICMP:
        is_reply = kind in (0, 14, 16, 18)
        request = 8 if kind == 0 else kind - 1
    else:
        is_reply = kind == 129
        request = 128
    packet[p.SRC_PORT] = request if is_reply else kind
    packet[p.SEQ] = 1 if is_reply else 0
