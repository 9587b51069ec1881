"""Kinds of traffic that should be small or should not leave, how each is counted, and how much a day is ordinary.

Every limit is absolute and explained here, so there is nothing to train and nothing to poison.
"""

from __future__ import annotations

import polars as pl

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
USUAL_PROTOCOLS = [1, 6, 17, 58]
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


def counted(signals: pl.DataFrame) -> pl.DataFrame:
    """Rows of SIGNALS that are of some kind, with `what` (as a title begins), `counted` (what the limit is about) and
    `sent`: payload of small messages, charged bytes of all else."""
    return signals.filter(_IS_ANY).with_columns(_WHAT, _COUNTED, _SENT).filter(pl.col("sent") > 0)


_IS_OUTSIDE = pl.col("is_outside")
_PORT, _PROTO, _PAYLOAD = pl.col("port"), pl.col("proto"), pl.col("sent_payload")
_IS_WRAPPED = pl.col("is_encapsulated")
_IS_DNS = _PROTO.is_in([6, 17]) & (_PORT == 53) & ~pl.col("served")
_IS_ICMP = _PROTO.is_in([1, 58]) & _IS_OUTSIDE
_IS_NTP = (_PROTO == 17) & (_PORT == 123) & ~pl.col("served") & _IS_OUTSIDE
_IS_PORT_OF_TUNNEL = (_PROTO == 17) & _PORT.is_in(list(ENCAPSULATION_PORTS)) & _IS_OUTSIDE
_IS_UNUSUAL = ~_PROTO.is_in(USUAL_PROTOCOLS) & _IS_OUTSIDE
_IS_ANY = _IS_WRAPPED | _IS_DNS | _IS_ICMP | _IS_NTP | _IS_PORT_OF_TUNNEL | _IS_UNUSUAL

_OUTERMOST = pl.col("tunnel").str.split("/").list.first().str.to_uppercase()
_BY_PORT = _PORT.replace_strict(ENCAPSULATION_PORTS, default="", return_dtype=pl.String)
_BY_PROTOCOL = _PROTO.replace_strict(ENCAPSULATION_PROTOCOLS, default=None, return_dtype=pl.String)
_WHAT = (
    # What is wrapped is judged as such, whatever is inside: only the outside says where it goes.
    pl.when(_IS_WRAPPED)
    .then(pl.format("{} tunnel to", _OUTERMOST))
    .when(_IS_DNS & _IS_OUTSIDE)
    .then(pl.lit("DNS tunnel to"))
    .when(_IS_DNS)
    .then(pl.lit("DNS tunnel through"))
    .when(_IS_ICMP)
    .then(pl.lit("ICMP tunnel to"))
    .when(_IS_NTP)
    .then(pl.lit("NTP tunnel to"))
    .when(_IS_PORT_OF_TUNNEL)
    .then(pl.format("{} tunnel to", _BY_PORT))
    .when(_BY_PROTOCOL.is_not_null())
    .then(pl.format("{} tunnel to", _BY_PROTOCOL))
    .otherwise(pl.format("IP protocol {} traffic to", _PROTO))
    .alias("what")
)
_COUNTED = (
    pl.when(_IS_WRAPPED)
    .then("sent")
    .when(_IS_DNS)
    .then("oversize")
    .when(_IS_ICMP)
    .then(pl.col("oversize") + _PAYLOAD // ECHO_SHARE)
    .when(_IS_NTP)
    .then(_PAYLOAD - pl.min_horizontal(_PAYLOAD, NTP_MESSAGE * pl.col("sent_packets")))
    .otherwise("sent")
    .alias("counted")
)
_SENT = pl.when(~_IS_WRAPPED & (_IS_DNS | _IS_ICMP | _IS_NTP)).then("sent_payload").otherwise("sent").alias("sent")
