"""The short way through most packets: Ethernet, IPv4 without options or IPv6 without extension headers, TCP or UDP.

It reads what `layers.decode` would read, and says no to whatever is out of the ordinary: that goes the long way.
"""

from __future__ import annotations

from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.flowtable import write_key
from collectors.kernels.layers import MAX_IP_BYTES, TCP, UDP, V4_MAPPED, is_tunnel_port
from collectors.kernels.links import IPV4, IPV6
from collectors.kernels.octets import be16, be32, be64, u8
from collectors.kernels.row_types import Bytes, Words

ETHERNET_LINK = 1
ETHERNET_BYTES, V4_BYTES, V6_BYTES = 14, 20, 40
UDP_BYTES, TCP_BYTES = 8, 20


@step
def read_plain(data: Bytes, packet: Words, key: Words, seeds: Words, at: int, captured: int, wire: int) -> bool:
    """Fill `packet` and `key` from an Ethernet frame; False, with both half filled, where it takes the long way."""
    at += ETHERNET_BYTES
    captured -= ETHERNET_BYTES
    held = wire - ETHERNET_BYTES
    if captured < V4_BYTES + UDP_BYTES or held > MAX_IP_BYTES:
        return False
    for place in range(p.ODD, p.ODD + p.ODD_WORDS):
        packet[place] = 0
    ethertype = be16(data, at - 2)
    if ethertype == IPV4:
        return read_plain_v4(data, packet, key, seeds, at, captured, held)
    return ethertype == IPV6 and read_plain_v6(data, packet, key, seeds, at, captured, held)


@step
def read_plain_v4(data: Bytes, packet: Words, key: Words, seeds: Words, at: int, captured: int, held: int) -> bool:
    word = be64(data, at)  # version, header length, service, length, identification, fragment
    length = word >> 32 & 0xFFFF
    if word >> 56 != 0x45 or word & 0x3FFF or length > held:
        return False
    proto, captured = u8(data, at + 9), min(captured, length)
    src, dst = V4_MAPPED | be32(data, at + 12), V4_MAPPED | be32(data, at + 16)
    packet[p.BYTES] = length
    packet[p.END] = at + captured
    at += V4_BYTES
    if not read_plain_transport(data, packet, at, proto, captured - V4_BYTES, length - V4_BYTES):
        return False
    write_plain(data, packet, key, seeds, at, proto, 0, src, 0, dst)
    return True


@step
def read_plain_v6(data: Bytes, packet: Words, key: Words, seeds: Words, at: int, captured: int, held: int) -> bool:
    length = V6_BYTES + be16(data, at + 4)
    if u8(data, at) >> 4 != 6 or captured < V6_BYTES or length > held:
        return False
    proto, captured = u8(data, at + 6), min(captured, length)
    src_hi, src_lo = be64(data, at + 8), be64(data, at + 16)
    dst_hi, dst_lo = be64(data, at + 24), be64(data, at + 32)
    packet[p.BYTES] = length
    packet[p.END] = at + captured
    at += V6_BYTES
    if not read_plain_transport(data, packet, at, proto, captured - V6_BYTES, length - V6_BYTES):
        return False
    write_plain(data, packet, key, seeds, at, proto, src_hi, src_lo, dst_hi, dst_lo)
    return True


@step
def read_plain_transport(data: Bytes, packet: Words, at: int, proto: int, captured: int, held: int) -> bool:
    header = UDP_BYTES
    packet[p.TCP_IS_READ] = 1
    if proto == TCP:
        if captured < TCP_BYTES:
            return False
        header = (u8(data, at + 12) >> 4) * 4
        if header < TCP_BYTES:
            return False
        numbers = be64(data, at + 4)
        packet[p.SEQ] = numbers >> 32 & 0xFFFFFFFF
        packet[p.ACK] = numbers & 0xFFFFFFFF
        packet[p.FLAGS] = u8(data, at + 13)
    elif proto != UDP or captured < UDP_BYTES or is_tunnel_port(be16(data, at), be16(data, at + 2)):
        return False
    else:
        packet[p.TCP_IS_READ] = 0
    packet[p.PAYLOAD] = held - header
    packet[p.PAYLOAD_AT] = at + header
    return header <= held


@step
def write_plain(
    data: Bytes,
    packet: Words,
    key: Words,
    seeds: Words,
    at: int,
    proto: int,
    src_hi: int,
    src_lo: int,
    dst_hi: int,
    dst_lo: int,
) -> None:
    """Addresses and ports, and the key made of them: from registers, for reading them back would double the wait."""
    ports = be32(data, at)
    src_port, dst_port = ports >> 16, ports & 0xFFFF
    packet[p.PROTO] = proto
    packet[p.SRC_HI], packet[p.SRC_LO], packet[p.DST_HI], packet[p.DST_LO] = src_hi, src_lo, dst_hi, dst_lo
    packet[p.SRC_PORT], packet[p.DST_PORT] = src_port, dst_port
    write_key(key, seeds, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, proto)
