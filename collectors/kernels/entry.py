"""A conversation in the flow table: 24 words, three cache lines, the key in the first.

Side A is the lower of both (address, port) pairs. In the flow key, ICMP's type and code stand as ports of both sides.
"""

from __future__ import annotations

from typing import NamedTuple

from collectors.kernels.compiled import step
from collectors.kernels.octets import beyond, pointer
from collectors.kernels.row_types import Bytes, Words

A_HI, A_LO, B_HI, B_LO = 0, 1, 2, 3
PORTS = 4
"""A's port << 32 | B's port << 16 | protocol."""
VANTAGE = 5
TUNNEL = 6
"""Keyed hash of the encapsulations and outer addresses; 0 without."""
LAST = 7
"""Last packet, microseconds; within a part the latest."""
BYTES = 8
"""A's here, B's in the next word; so with PAYLOAD and MISSED."""
PAYLOAD = 10
PACKETS = 12
"""A's | B's << 32; 0: no part is open."""
PART_END = 13
"""End of the 10 s bucket that the open part belongs to."""
STATE = 14
SEQUENCE = 15
"""Next sequence number expected from A | from B << 32. Up to here a packet touches the entry, seldom beyond."""
START = 16
MISSED = 17
RETRANSMITS = 19
FLOW_ID = 20
PART = 21
"""Part number | VLAN << 32."""
SOURCE = 22
"""File << 40 | packet number of the part's first packet."""
FIRST_FRAME = 23
"""Number, over the whole reading, of the conversation's first frame."""
WIDTH = 24

FINAL, EPOCH, CUT_FRAME, EVICTED = 24, 25, 26, 27
"""Four words more in an emitted row."""
ROW_WIDTH = 28
TUNNEL_WIDTH = 5
"""Encapsulations; outer address on A's side (2 words), on B's side."""

# Bits of STATE. Flags of the open part: A's in bits 0-7, B's in 8-15.
INITIATOR_IS_B = 1 << 16
SAW_SYN = 1 << 17
FIN_A = 1 << 18
FIN_B = 1 << 19
RESET = 1 << 20
KNOWS_A = 1 << 21
KNOWS_B = 1 << 22
OFFERED = 1 << 24
"""Two bits: payloads offered for names so far."""

PART_US = 10_000_000

# Places in Table.state.
COUNT = 0
FRAME = 1
"""Frames seen in the whole reading."""
SWEEP_AT = 2
LOWEST = 3
"""Lowest time since the last sweep; moves CLOCK, so that one packet from 2106 moves nothing."""
CLOCK = 4
MULTIPLE = 5
"""1 once a second vantage point occurred."""
FIRST_VANTAGE = 6
EPOCH_NUMBER = 7
EPOCH_BUCKET = 8
EPOCH_FRAME = 9
ROWS = 10
CURSOR = 11
OFFERS = 12
ARENA = 13
FRAGMENTS = 14
"""First fragments remembered so far; the ring's next place is this modulo its size."""
IDLE_US = 15
FRAGMENTS_CREDITED = 16
FRAGMENTS_UNKNOWN = 17
LENGTH_FROM_WIRE = 18
LENGTH_BEYOND_WIRE = 19
INDEX_MASK, CAPACITY, HAS_TUNNELS = 20, 21, 22
ROW_ROOM, OFFER_ROOM, ARENA_ROOM = 23, 24, 25
RETIRED = 26
"""Entries marked as gone since the table was last compacted."""
SKIPPED = 27
"""Frames that were not metered."""
WIRE = 28
"""Wire bytes of all frames."""
STATE_SIZE = 32

OFFER_FRAME, OFFER_FLOW, OFFER_KIND, OFFER_OFFSET, OFFER_LENGTH, OFFER_CLIENT, OFFER_RESOLVER = 0, 1, 2, 3, 4, 5, 7
OFFER_WIDTH = 9


class Table(NamedTuple):
    """Everything that metering remembers from one packet to the next.

    Arrays in Python; kernels make the same tuple of pointers from it (`open_table`).
    """

    entries: Words
    tunnels: Words
    places: Words
    """Open addressing: hash's upper half << 32 | entry + 1; 0 free."""
    state: Words
    seeds: Words
    fragments: Words
    fragment_index: Words


class Output(NamedTuple):
    """What metering gives back; a call returns before any of it is full."""

    rows: Words
    row_tunnels: Words
    offers: Words
    arena: Bytes


class Scratch(NamedTuple):
    """Room for a block of packets and their keys."""

    packets: Words
    keys: Words
    backup: Words
    name: Words


class Frames(NamedTuple):
    """Framed packets of one chunk, in the order in which they are metered."""

    data: Bytes
    offset: Words
    captured: Words
    wire: Words
    """Believed wire length."""
    time: Words
    interface: Words
    """Index into the reading's interfaces; -1: the file declared none."""
    source: Words
    """File << 40 | packet number from 1."""


@step
def open_table(table: Table) -> Table:
    return Table(
        pointer(table.entries),
        pointer(table.tunnels),
        pointer(table.places),
        pointer(table.state),
        pointer(table.seeds),
        pointer(table.fragments),
        pointer(table.fragment_index),
    )


@step
def open_output(out: Output) -> Output:
    return Output(pointer(out.rows), pointer(out.row_tunnels), pointer(out.offers), pointer(out.arena))


@step
def open_scratch(scratch: Scratch) -> Scratch:
    return Scratch(pointer(scratch.packets), pointer(scratch.keys), pointer(scratch.backup), pointer(scratch.name))


@step
def open_frames(frames: Frames) -> Frames:
    return Frames(
        pointer(frames.data),
        pointer(frames.offset),
        pointer(frames.captured),
        pointer(frames.wire),
        pointer(frames.time),
        pointer(frames.interface),
        pointer(frames.source),
    )


@step
def entry_at(table: Table, slot: int) -> Words:
    return beyond(table.entries, slot * WIDTH)


@step
def tunnel_at(table: Table, slot: int) -> Words:
    return beyond(table.tunnels, slot * TUNNEL_WIDTH)
