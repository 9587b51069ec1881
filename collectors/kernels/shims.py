"""Tunnel headers: what stands between an outer packet and the one inside.

`tunnel_inside` moves `packet[POS]` behind the header, appends to `packet[TUNNELS]` and returns the ethertype inside,
or 0 where it is no tunnel of a kind that is removed.
"""

from __future__ import annotations

from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.links import BY_VERSION, ETHERNET, IPV4, IPV6, PPP, has
from collectors.kernels.octets import be16, u8
from collectors.kernels.row_types import Bytes, Words

GPDU = 255
"""GTP-U message type that carries a user's packet (3GPP TS 29.281)."""


@step
def tunnel_inside(data: Bytes, packet: Words) -> int:
    proto = packet[p.PROTO]
    if proto == 4:
        is_v4 = packet[p.SRC_HI] == 0 and packet[p.SRC_LO] >> 32 == 0xFFFF
        return inside(packet, p.IPIP if is_v4 else p.FOUR_IN_SIX, IPV4)
    if proto == 41:
        is_v4 = packet[p.SRC_HI] == 0 and packet[p.SRC_LO] >> 32 == 0xFFFF
        return inside(packet, p.SIX_IN_FOUR if is_v4 else p.SIX_IN_SIX, IPV6)
    if proto == 47:
        return gre(data, packet)
    packet[p.POS] = packet[p.PAYLOAD_AT]
    port = packet[p.DST_PORT]
    if port in (4789, 8472):
        return vxlan(data, packet)
    if port == 6081:
        return geneve(data, packet)
    if port == 2152:
        return gtp(data, packet)
    return teredo(data, packet)


@step
def inside(packet: Words, tunnel: int, ethertype: int) -> int:
    packet[p.TUNNELS] = packet[p.TUNNELS] << 8 | tunnel
    return ethertype


@step
def gre(data: Bytes, packet: Words) -> int:
    """GRE (RFC 2784, 2890), ERSPAN types I to III inside it, and PPTP's version 1 (RFC 2637)."""
    if not has(packet, 4):
        return 0
    at = packet[p.POS]
    flags, carried = be16(data, at), be16(data, at + 2)
    has_sequence = flags >> 12 & 1
    size = 4 + 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + has_sequence)
    if flags & 7 == 1:
        size += 4 * (flags >> 7 & 1)
        packet[p.POS] += size
        return inside(packet, p.PPTP, PPP) if carried == PPP and flags >> 13 & 1 else 0
    if flags & 0x4007:  # routing (withdrawn by RFC 2784) or an unknown version
        return 0
    packet[p.POS] += size
    if carried == 0x88BE:
        packet[p.POS] += 8 * has_sequence  # type I has neither a sequence number nor a header of its own
        return inside(packet, p.ERSPAN, ETHERNET)
    if carried == 0x22EB:
        return erspan_iii(data, packet)
    return inside(packet, p.GRE, carried) if carried > 1500 else 0


@step
def erspan_iii(data: Bytes, packet: Words) -> int:
    if not has(packet, 12):
        return 0
    packet[p.POS] += 12 + 8 * (u8(data, packet[p.POS] + 11) & 1)
    return inside(packet, p.ERSPAN, ETHERNET)


@step
def vxlan(data: Bytes, packet: Words) -> int:
    """VXLAN (RFC 7348): the I flag must be set, the reserved last byte is zero."""
    if not has(packet, 8) or u8(data, packet[p.POS]) & 0x08 == 0 or u8(data, packet[p.POS] + 7) != 0:
        return 0
    packet[p.POS] += 8
    return inside(packet, p.VXLAN, ETHERNET)


@step
def geneve(data: Bytes, packet: Words) -> int:
    """Geneve (RFC 8926), version 0."""
    if not has(packet, 8) or u8(data, packet[p.POS]) >> 6 != 0:
        return 0
    at = packet[p.POS]
    packet[p.POS] += 8 + 4 * (u8(data, at) & 0x3F)
    carried = be16(data, at + 2)
    return inside(packet, p.GENEVE, carried) if carried in (ETHERNET, IPV4, IPV6) else 0


@step
def gtp(data: Bytes, packet: Words) -> int:
    """GTP-U version 1 with its chain of extension headers."""
    at = packet[p.POS]
    if not has(packet, 12) or u8(data, at) >> 4 != 3 or u8(data, at + 1) != GPDU:
        return 0
    packet[p.POS] += 8
    if u8(data, at) & 7 == 0:
        return inside(packet, p.GTP, BY_VERSION)
    packet[p.POS] += 4
    following = u8(data, at + 11) if u8(data, at) & 4 else 0
    while following and has(packet, 4):
        size = 4 * u8(data, packet[p.POS])
        if size == 0 or not has(packet, size):
            return 0
        packet[p.POS] += size
        following = u8(data, packet[p.POS] - 1)
    return 0 if following else inside(packet, p.GTP, BY_VERSION)


@step
def teredo(data: Bytes, packet: Words) -> int:
    """Teredo (RFC 4380): authentication and origin indications may come first."""
    if has(packet, 13) and be16(data, packet[p.POS]) == 1:
        packet[p.POS] += 13 + u8(data, packet[p.POS] + 2) + u8(data, packet[p.POS] + 3)
    if has(packet, 8) and be16(data, packet[p.POS]) == 0:
        packet[p.POS] += 8
    return inside(packet, p.TEREDO, IPV6)
