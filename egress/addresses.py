"""Addresses as 16 bytes, IPv4 as v4-mapped (RFC 4291, 2.5.5.2), and as people write them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from egress.schema import ADDRESS_BYTES, NO_ADDRESS, V4_MAPPED_PREFIX


def bytes_of(text: str) -> bytes:
    """16 bytes of an address as people write it. Raises ValueError for anything else."""
    packed = ip_address(text).packed
    return packed if len(packed) == ADDRESS_BYTES else V4_MAPPED_PREFIX + packed


def text_of(address: bytes) -> str:
    """The usual text of a 16-byte address: dotted for v4-mapped ones, empty for `::`, which stands for none."""
    if address == NO_ADDRESS:
        return ""
    v6 = IPv6Address(address)
    return str(v6.ipv4_mapped or v6)
