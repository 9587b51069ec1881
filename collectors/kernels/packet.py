"""Where a kernel keeps what it knows of one packet: places in an int64 array, and the verdicts of decoding."""

from __future__ import annotations

POS = 0
"""The decoder's place in the buffer."""
END = 1
"""End of the captured bytes."""
WIRE_END = 2
"""End of the packet as it crossed the wire; beyond END where the snap length cut it."""
VANTAGE = 3
SRC_HI, SRC_LO, DST_HI, DST_LO = 4, 5, 6, 7
PROTO, SRC_PORT, DST_PORT = 8, 9, 10
BYTES = 11
"""IP bytes of the innermost packet, or what this fragment adds to it."""
PAYLOAD = 12
FLAGS, SEQ, ACK = 13, 14, 15
TCP_IS_READ = 16
"""1 where the TCP header was captured up to its flags."""
PAYLOAD_AT = 17
"""Where layer-4 payload starts in the buffer; 0 unknown."""
VERDICT = 18
"""METERED, or why not."""
DETAIL = 19
"""The value that a verdict is about."""

# What most packets have nothing of.
ODD = 20
"""0 where FRAGMENT, OUTER_FRAGMENT, FROM_WIRE and TUNNELS are."""
VLAN = 21
TUNNELS = 22
"""Encapsulations removed, a byte each, outermost in the highest."""
FRAGMENT = 23
"""0 whole, 1 first fragment, 2 later fragment."""
OUTER_FRAGMENT = 24
"""1 where a packet further out is the first of several fragments."""
FROM_WIRE = 25
"""1 where the wire, not the IP header, says how long the packet is; 2 where the header claims more than it holds."""
IS_MIRRORED = 26
"""1 where the link type separates directions into vantage points (SLL)."""
JUMP = 27
"""How far this TCP segment starts beyond what was expected, negative behind it."""
ODD_WORDS = 8

FRAGMENT_ID = 28
OUTER_SRC_HI, OUTER_SRC_LO, OUTER_DST_HI, OUTER_DST_LO = 29, 30, 31, 32
IP_AT = 33
HEADER_BYTES = 34
"""IP header with extension headers of the innermost packet."""
OUTER_ID = 35
OUTER_PROTO = 36
FRAGMENT_SRC_HI, FRAGMENT_SRC_LO, FRAGMENT_DST_HI, FRAGMENT_DST_LO = 37, 38, 39, 40
OUTER_TUNNELS = 41
"""What had been removed before the packet that was fragmented."""
SIZE = 48

NO_FRAGMENT, FIRST_FRAGMENT, LATER_FRAGMENT = 0, 1, 2

# Encapsulations; the places in TUNNEL_NAMES.
TUNNEL_NAMES = (
    "",
    "ipip",
    "6in4",
    "4in6",
    "6in6",
    "gre",
    "erspan",
    "pptp",
    "vxlan",
    "geneve",
    "gtp",
    "teredo",
)
IPIP, SIX_IN_FOUR, FOUR_IN_SIX, SIX_IN_SIX, GRE, ERSPAN, PPTP, VXLAN, GENEVE, GTP, TEREDO = range(1, 12)
MAX_TUNNELS = 4

# Verdicts: why a frame is not metered. The value that they are about stands in the upper 24 bits.
METERED = 0
TRUNCATED_LINK = 1
TRUNCATED_IP = 2
LINK_TYPE = 3
ETHERTYPE = 4
ARP = 5
LLC = 6
PPP = 7
MPLS = 8
NULL_FAMILY = 9
IP_VERSION = 10
IPV4_HEADER = 11
IPV6_HEADER = 12
UNKNOWN_INTERFACE = 13
EMPTY = 14
