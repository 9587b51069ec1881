"""Emitted rows, words of the flow table, turned into columns in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collectors.kernels import entry as e
from collectors.kernels.compiled import kernel, step
from collectors.kernels.octets import beyond, le32, pointer, put64
from collectors.kernels.row_types import Bytes, Words

COUNTS = (
    "flow_id",
    "src_bytes",
    "dst_bytes",
    "src_packets",
    "dst_packets",
    "src_payload",
    "dst_payload",
    "retransmits",
    "missed",
    "position",
)
PLACES = ("start", "end", "first_frame", "cut_frame", "file", "tunnels")
PORTS = ("src_port", "dst_port", "vlan")
FLAGS = ("proto", "src_flags", "dst_flags", "final")
ADDRESSES = ("src_ip", "dst_ip", "outer_src_ip", "outer_dst_ip")
"""The columns of each table below, in order."""

INNER = 2
"""So many of ADDRESSES are there without a tunnel."""

ADDRESS_BYTES = 16
ICMP, ICMPV6 = 1, 58


class Columns(NamedTuple):
    """Tables of columns, one after the other, each `rows` long; addresses 16 bytes each."""

    counts: NDArray[np.uint64]
    places: Words
    parts: NDArray[np.uint32]
    ports: NDArray[np.uint16]
    flags: Bytes
    addresses: Bytes
    views: Words
    """How Arrow's binary view finds each of `addresses`: length and first bytes, then where it stands in its column."""


def no_columns(rows: int) -> Columns:
    """Room for so many rows."""
    return Columns(
        np.empty((len(COUNTS), rows), np.uint64),
        np.empty((len(PLACES), rows), np.int64),
        np.empty(rows, np.uint32),
        np.empty((len(PORTS), rows), np.uint16),
        np.empty((len(FLAGS), rows), np.uint8),
        np.empty((len(ADDRESSES), rows, ADDRESS_BYTES), np.uint8),
        np.empty((len(ADDRESSES), rows, 2), np.int64),
    )


@kernel
def turn(rows: Words, tunnels: Words, columns: Columns, has_tunnels: bool) -> None:
    """Fill `columns`; what side A and B did becomes what the initiator (src) and the responder (dst) did.

    Without tunnels, what stands in `tunnels` is not read and the outer addresses stay as they are.
    """
    count = rows.shape[0]
    words, tunnel = pointer(rows), pointer(tunnels)
    counts, places, parts = pointer(columns.counts), pointer(columns.places), pointer(columns.parts)
    ports, flags = pointer(columns.ports), pointer(columns.flags)
    addresses, views = pointer(columns.addresses), pointer(columns.views)
    for i in range(count):
        row = beyond(words, i * e.ROW_WIDTH)
        state = row[e.STATE]
        src = 1 if state & e.INITIATOR_IS_B else 0
        dst = 1 - src
        counts[i] = row[e.FLOW_ID]
        counts[count + i] = row[e.BYTES + src]
        counts[2 * count + i] = row[e.BYTES + dst]
        counts[3 * count + i] = row[e.PACKETS] >> (32 * src) & 0xFFFFFFFF
        counts[4 * count + i] = row[e.PACKETS] >> (32 * dst) & 0xFFFFFFFF
        counts[5 * count + i] = row[e.PAYLOAD + src]
        counts[6 * count + i] = row[e.PAYLOAD + dst]
        counts[7 * count + i] = row[e.RETRANSMITS]
        counts[8 * count + i] = row[e.MISSED] + row[e.MISSED + 1]
        counts[9 * count + i] = row[e.SOURCE] & ((1 << 40) - 1)
        places[i] = row[e.START]
        places[count + i] = row[e.LAST]
        places[2 * count + i] = row[e.FIRST_FRAME]
        places[3 * count + i] = row[e.CUT_FRAME]
        places[4 * count + i] = row[e.SOURCE] >> 40
        parts[i] = row[e.PART] & 0xFFFFFFFF
        proto = row[e.PORTS] & 0xFF
        turns = src if proto not in (ICMP, ICMPV6) else 0  # type and code stand as they are
        ports[i] = row[e.PORTS] >> (16 if turns else 32) & 0xFFFF
        ports[count + i] = row[e.PORTS] >> (32 if turns else 16) & 0xFFFF
        ports[2 * count + i] = row[e.PART] >> 32
        flags[i] = proto
        flags[count + i] = state >> (8 * src) & 0xFF
        flags[2 * count + i] = state >> (8 * dst) & 0xFF
        flags[3 * count + i] = row[e.FINAL]
        put_address(addresses, views, i, i, beyond(row, e.A_HI + 2 * src))
        put_address(addresses, views, count + i, i, beyond(row, e.A_HI + 2 * dst))
        if has_tunnels:
            outer = beyond(tunnel, i * e.TUNNEL_WIDTH)
            places[5 * count + i] = outer[0]
            put_address(addresses, views, 2 * count + i, i, beyond(outer, 1 + 2 * src))
            put_address(addresses, views, 3 * count + i, i, beyond(outer, 3 - 2 * src))


@step
def put_address(addresses: Bytes, views: Words, place: int, row: int, address: Words) -> None:
    """Two words as the address of a row; `place` counts through all columns of them."""
    at = place * ADDRESS_BYTES
    put64(addresses, at, address[0])
    put64(addresses, at + 8, address[1])
    views[2 * place] = le32(addresses, at) << 32 | ADDRESS_BYTES
    views[2 * place + 1] = row * ADDRESS_BYTES << 32
