"""What a single row of flows is worth to the sums that it adds to: here and nowhere else, before rows are added up.

Amounts are whole numbers from 0 to 2**63 - 1, one for each row.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

MOST = 2**63 - 1
"""Counters saturate here, far past anything a network carried; a wrap would hide what it counts."""

HEADERS_PER_PACKET = 80
"""A bare ACK is at most 80 bytes (IPv6 40, TCP 20, options 20): what a packet costs before it can carry anything."""

SMALL_MESSAGE = 96
"""Payload of a small message: a DNS query is header 12, type and class 4, EDNS 11, cookie 12 (RFC 1035, 6891, 7873)
and a name of up to 57; a ping is 64 with its header."""

FRAME = 26
"""Ethernet 14, two VLAN tags 8, check sequence 4."""
MTU = 1500
SEGMENT, SEGMENT_HEADERS = 1428, 72
"""What a segment of 1,500 bytes carries behind IPv6 (40) and TCP with timestamps (32); IPv4 carries more."""
LARGEST_ON_CARD = 2**52
"""Bytes of one row that are believed: 4 PB. What claims more would hide everything else."""

Longs: TypeAlias = npt.NDArray[np.int64]


def longs(column: pl.Series) -> Longs:
    """Numbers, or times as what they are counted in; what exceeds 2**63 - 1 saturates."""
    found = column.to_numpy()
    if found.dtype == np.uint64 and len(found) and found.max() > MOST:
        found = np.minimum(found, np.uint64(MOST))
    whole: Longs = found.view(np.int64) if found.itemsize == 8 else found.astype(np.int64)
    return whole


def charged(ip_bytes: Longs, packets: Longs, payload: Longs) -> Longs:
    """What a sender is charged with: max(payload, IP bytes - 80 x packets)."""
    headers = np.minimum(packets, MOST // HEADERS_PER_PACKET) * HEADERS_PER_PACKET
    found: Longs = np.maximum(payload, ip_bytes - headers)
    return found


def oversize(packets: Longs, payload: Longs) -> Longs:
    """Payload beyond what as many small messages carry."""
    small = np.minimum(packets, MOST // SMALL_MESSAGE) * SMALL_MESSAGE
    found: Longs = np.maximum(payload - small, 0)
    return found


def most_on_card(ip_bytes: Longs, packets: Longs, around: Longs) -> Longs:
    """The most that a network card counts for IP bytes, as far as these are believed.

    Flows count packets as they were metered: on the sending host before the card cuts them into segments. So each
    packet is allowed its frame, with what stands `around` it, and what is longer than a segment the headers of its
    segments.
    """
    believed, packets = np.minimum(ip_bytes, LARGEST_ON_CARD), np.minimum(packets, LARGEST_ON_CARD // MTU)
    most = believed + packets * (FRAME + around)
    longer = np.maximum(believed - MTU * packets, 0)
    if longer.any():  # on the wire no packet is
        segments = longer // SEGMENT
        most += segments * (FRAME + around + SEGMENT_HEADERS)
    return np.where(believed > 0, most, 0)
