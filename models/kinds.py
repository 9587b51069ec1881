"""Kinds of traffic that should be small or should not leave, how each is counted, and how much a day is ordinary.

Every limit is absolute and explained here, so there is nothing to train and nothing to poison.
"""

from __future__ import annotations

from typing import NamedTuple

from models.reading import UDP, Line

SMALL_LIMIT = 256 * 1024
"""Bytes of large messages a day and group in protocols of small ones. A client that asks a resolver 100,000 times a
day, one in a hundred with a name near the longest allowed (query of 282 B, RFC 1035), sends 186 kB beyond 96 B each."""
WRAPPED_LIMIT = 1024 * 1024
"""Bytes a day and group inside tunnels that leave. Keepalives of a tunnel that nobody uses stay far below: WireGuard's
32 B and IPsec's 1 B every 20-25 s are 0.1 MB a day."""

ECHO_SHARE = 128
"""Small ICMP messages count a 128th: a steady ping of 56 B each second (4.8 MB a day) counts 38 kB of the limit."""
NTP_MESSAGE = 320
"""NTP asks with 48 B (RFC 5905), with network time security about 230 B (RFC 8915)."""

DNS, NTP = 53, 123
ENCAPSULATION_PORTS = {
    500: "IPsec",
    1194: "OpenVPN",
    1701: "L2TP",
    2152: "GTP-U",
    3544: "Teredo",
    4500: "IPsec",
    4789: "VXLAN",
    6081: "Geneve",
    8472: "VXLAN",
    51820: "WireGuard",
}
"""UDP ports (IANA; WireGuard's and Linux VXLAN's by custom) of tunnels whose inside is not decoded."""
SPECIAL_PORTS = frozenset({DNS, NTP, *ENCAPSULATION_PORTS})
ENCAPSULATION_PROTOCOLS = {
    4: "IPIP",
    41: "6in4",
    47: "GRE",
    50: "ESP",
    51: "AH",
    94: "IPIP",
    97: "EtherIP",
    115: "L2TP",
}
"""IP protocols (IANA) of tunnels whose inside is not decoded."""
ICMP, TCP = (1, 58), 6
USUAL_PROTOCOLS = (*ICMP, TCP, UDP)
"""ICMP, TCP, UDP, ICMPv6: everything else that leaves an AI host is unusual in itself."""

ORDINARY = {
    "DNS": "ordinary queries have 40-60 B and larger answers",
    "ICMP": "ordinary pings have 64 B",
    "NTP": "ordinary requests have 48 B",
}
"""Protocols of small messages, by the first word of what a title says."""


def limit_of(what: str) -> int:
    """Counted bytes a UTC day and group from which `what` is told."""
    return SMALL_LIMIT if what.split()[0] in ORDINARY else WRAPPED_LIMIT


class Counted(NamedTuple):
    """What one row is of some kind."""

    what: str
    """As a title begins."""
    counted: int
    """What the limit is about."""
    sent: int
    """Payload of small messages, charged bytes of all else; never 0."""


def may_count(proto: int, port: int, is_encapsulated: bool) -> bool:
    """False: nothing that `counted` knows, as nearly all rows are."""
    return is_encapsulated or port in SPECIAL_PORTS or proto not in (TCP, UDP)


def counted(line: Line) -> Counted | None:
    """What a row of signals is and counts, or None where it is nothing unusual or sent nothing."""
    # What is wrapped is judged as such, whatever is inside: only the outside says where it goes.
    if line.is_encapsulated:
        return _bulk(f"{line.tunnel.split('/')[0].upper()} tunnel to", line)
    if line.port == DNS and line.proto in (TCP, UDP) and not line.served:
        return _small(f"DNS tunnel {'to' if line.is_outside else 'through'}", line, line.oversize)
    if not line.is_outside:
        return None
    if line.proto in ICMP:
        return _small("ICMP tunnel to", line, line.oversize + line.sent_payload // ECHO_SHARE)
    if line.proto == UDP and line.port == NTP and not line.served:
        return _small("NTP tunnel to", line, max(0, line.sent_payload - NTP_MESSAGE * line.sent_packets))
    if line.proto == UDP and line.port in ENCAPSULATION_PORTS:
        return _bulk(f"{ENCAPSULATION_PORTS[line.port]} tunnel to", line)
    if line.proto in ENCAPSULATION_PROTOCOLS:
        return _bulk(f"{ENCAPSULATION_PROTOCOLS[line.proto]} tunnel to", line)
    return None if line.proto in USUAL_PROTOCOLS else _bulk(f"IP protocol {line.proto} traffic to", line)


def _small(what: str, line: Line, counted: int) -> Counted | None:
    return Counted(what, counted, line.sent_payload) if line.sent_payload else None


def _bulk(what: str, line: Line) -> Counted | None:
    return Counted(what, line.sent, line.sent) if line.sent else None
