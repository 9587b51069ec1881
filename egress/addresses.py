"""Addresses as 16 bytes, IPv4 as v4-mapped (RFC 4291, 2.5.5.2), as networks, and as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

import polars as pl

from egress.schema import ADDRESS_BYTES, NO_ADDRESS, V4_MAPPED_PREFIX

V4_MAPPED_BITS = 96

MANY_NETWORKS = 8
"""Of 3 M addresses, asking for a range took 0.06 s, asking for prefixes of one length 0.1 s, however many."""


def bytes_of(text: str) -> bytes:
    """16 bytes of an address as people write it. Raises ValueError for anything else."""
    packed = ip_address(text).packed
    return packed if len(packed) == ADDRESS_BYTES else V4_MAPPED_PREFIX + packed


def text_of(address: bytes) -> str:
    """The usual text of a 16-byte address: dotted for v4-mapped ones, empty for `::`, which stands for none."""
    if address == NO_ADDRESS:
        return ""
    if address.startswith(V4_MAPPED_PREFIX):
        return ".".join(map(str, address[12:]))
    return str(IPv6Address(address))


def network_of(text: str) -> IPv6Network:
    """A network, or one address, as people write it. Raises ValueError, also where bits are set behind the prefix."""
    network = ip_network(text)
    if isinstance(network, IPv4Network):
        return IPv6Network((V4_MAPPED_PREFIX + network.network_address.packed, V4_MAPPED_BITS + network.prefixlen))
    return network


def network_text(network: IPv6Network) -> str:
    """The usual text of a network: dotted for a v4-mapped one."""
    first = network.network_address
    if first.ipv4_mapped is not None and network.prefixlen >= V4_MAPPED_BITS:
        return f"{first.ipv4_mapped}/{network.prefixlen - V4_MAPPED_BITS}"
    return str(network)


PRIVATE = tuple(map(network_of, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
"""RFC 1918, 6598 and 4193."""

NEVER_LEAVING = tuple(
    map(
        network_of,
        (
            "0.0.0.0/32",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "::/127",  # unspecified, which also stands for "none", and loopback
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
"""What no router passes on: unspecified, loopback, link-local, multicast, broadcast (RFC 1122, 3927, 4291)."""


def lies_in(column: pl.Expr, networks: Iterable[IPv6Network]) -> pl.Expr:
    """Whether the 16-byte addresses of `column` lie in any of the networks."""
    few = list(collapse_addresses(networks))
    if len(few) > MANY_NETWORKS:
        return _lies_in_many(column, few)
    spans = [_span(network) for network in few]
    return pl.any_horizontal([column.is_between(pl.lit(low), pl.lit(high)) for low, high in spans] or [pl.lit(False)])


def neighbourhood(address: bytes) -> bytes:
    """The bytes that an address shares with its neighbours: its /24 if it is v4-mapped, its /64 otherwise."""
    return address[:15] if address.startswith(V4_MAPPED_PREFIX) else address[:8]


def lies_near(column: pl.Expr, neighbourhoods: Sequence[bytes]) -> pl.Expr:
    """Whether the 16-byte addresses of `column` lie in any of these /24 (15 bytes) or /64 (8 bytes)."""
    is_v4 = column.bin.starts_with(V4_MAPPED_PREFIX)
    shared = pl.when(is_v4).then(column.bin.slice(0, 15)).otherwise(column.bin.slice(0, 8))
    return shared.is_in(pl.Series(neighbourhoods, dtype=pl.Binary).implode())


def _lies_in_many(column: pl.Expr, networks: Iterable[IPv6Network]) -> pl.Expr:
    """The same by hashed prefixes: each network as those, at most 128, that end on a whole byte."""
    prefixes: dict[int, list[bytes]] = {}
    for network in networks:
        length = -(-network.prefixlen // 8)
        whole = network.subnets(new_prefix=8 * length)
        prefixes.setdefault(length, []).extend(part.network_address.packed[:length] for part in whole)
    return pl.any_horizontal(
        column.bin.slice(0, length).is_in(pl.Series(known, dtype=pl.Binary).implode())
        for length, known in prefixes.items()
    )


def _span(network: IPv6Network) -> tuple[bytes, bytes]:
    # Byte strings of one length compare like the numbers they stand for, so a network is a range of them.
    return network.network_address.packed, network.broadcast_address.packed
