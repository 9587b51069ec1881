"""Picking packets out of captures: which frames belong to some conversations, and their pcapng blocks."""

from __future__ import annotations

import numpy as np

from collectors.kernels import packet as p
from collectors.kernels.compiled import kernel, step
from collectors.kernels.entry import Frames, open_frames
from collectors.kernels.layers import decode
from collectors.kernels.octets import be32, beyond, is_below, le32, pointer
from collectors.kernels.row_types import Bytes, Words

HEADER, IS_BIG, EXPONENT, NUMBER = range(4)
"""What is known of an interface: bytes of a pcap record's header (0: pcapng), byte order, digits of a second's
fraction (pcap only), its number in the file that is written."""

BLOCK_BYTES = 32
"""An enhanced packet block around its data: type, length, interface, time (2), both lengths, length."""
ENHANCED, OBSOLETE = 6, 2


@kernel
def pick(frames: Frames, links: Words, ours: Words, theirs: Words, start: int, end: int, chosen: Bytes) -> None:
    """Set `chosen` where a frame of [start, end] runs between `ours` and `theirs`, either way, in- or outside a tunnel.

    Address ranges are rows of four words: first address, last address.
    """
    count, our_count, their_count = frames.offset.size, ours.shape[0], theirs.shape[0]
    rooms = np.zeros(p.SIZE, np.int64), np.zeros(p.SIZE, np.int64)
    packet, backup = pointer(rooms[0]), pointer(rooms[1])
    frames, links, ours, theirs, chosen = (
        open_frames(frames),
        pointer(links),
        pointer(ours),
        pointer(theirs),
        pointer(chosen),
    )
    for i in range(count):
        if frames.time[i] < start or frames.time[i] > end or frames.interface[i] < 0 or frames.captured[i] == 0:
            continue
        packet[p.POS] = frames.offset[i]
        packet[p.END] = frames.offset[i] + frames.captured[i]
        packet[p.WIRE_END] = frames.offset[i] + frames.wire[i]
        packet[p.VANTAGE] = 0
        if decode(frames.data, packet, backup, links[frames.interface[i]]) != p.METERED:
            continue
        if runs(packet, ours, our_count, theirs, their_count) or runs(packet, theirs, their_count, ours, our_count):
            chosen[i] = 1


@step
def runs(packet: Words, sources: Words, source_count: int, targets: Words, target_count: int) -> bool:
    """Whether the packet goes from one of `sources` to one of `targets`, by its inner or its outermost addresses."""
    return ends_in(packet, p.SRC_HI, p.OUTER_SRC_HI, sources, source_count) and ends_in(
        packet, p.DST_HI, p.OUTER_DST_HI, targets, target_count
    )


@step
def ends_in(packet: Words, inner: int, outer: int, ranges: Words, count: int) -> bool:
    if lies_in(packet[inner], packet[inner + 1], ranges, count):
        return True
    return packet[p.TUNNELS] != 0 and lies_in(packet[outer], packet[outer + 1], ranges, count)


@step
def lies_in(high: int, low: int, ranges: Words, count: int) -> bool:
    for k in range(count):
        limits = beyond(ranges, 4 * k)
        if not is_lower(high, low, limits[0], limits[1]) and not is_lower(limits[2], limits[3], high, low):
            return True
    return False


@step
def is_lower(high: int, low: int, other_high: int, other_low: int) -> bool:
    return is_below(high, other_high) or (high == other_high and is_below(low, other_low))


@kernel
def write_blocks(frames: Frames, chosen: Words, interfaces: Words, out: Bytes) -> int:
    """Write an enhanced packet block for each of `chosen`, time and lengths as they stand in the input; bytes written.

    Comments and other options of the input's blocks are left out.
    """
    at, count, width = 0, chosen.size, interfaces.shape[1]
    frames, chosen, interfaces, out = open_frames(frames), pointer(chosen), pointer(interfaces), pointer(out)
    for k in range(count):
        i = chosen[k]
        known = beyond(interfaces, width * frames.interface[i])
        captured = frames.captured[i]
        high, low, wire = stamp_of(frames, i, known)
        size = BLOCK_BYTES + ((captured + 3) & ~3)
        at = put32(out, at, ENHANCED)
        at = put32(out, at, size)
        at = put32(out, at, known[NUMBER])
        at = put32(out, at, high)
        at = put32(out, at, low)
        at = put32(out, at, captured)
        at = put32(out, at, wire)
        for place in range(size - BLOCK_BYTES):
            out[at + place] = frames.data[frames.offset[i] + place] if place < captured else 0
        at = put32(out, at + size - BLOCK_BYTES, size)
    return at


@step
def stamp_of(frames: Frames, i: int, known: Words) -> tuple[int, int, int]:
    """Both halves of the time in the interface's unit, and the original length."""
    data, at, is_big = frames.data, frames.offset[i], known[IS_BIG]
    header = known[HEADER]
    if header:
        time = word32(data, at - header, is_big) * 10 ** known[EXPONENT] + word32(data, at - header + 4, is_big)
        length, other = word32(data, at - header + 8, is_big), word32(data, at - header + 12, is_big)
        # before version 2.4 the original length may stand first
        return time >> 32, time & 0xFFFFFFFF, other if length == frames.captured[i] else length
    wire = word32(data, at - 4, is_big)
    kind = word32(data, at - 28, is_big) if at >= 28 else 0
    if kind in (ENHANCED, OBSOLETE) and word32(data, at - 8, is_big) == frames.captured[i]:
        return word32(data, at - 16, is_big), word32(data, at - 12, is_big), wire
    return 0, 0, wire  # a simple packet block has no time


@step
def word32(data: Bytes, at: int, is_big: int) -> int:
    return int(be32(data, at) if is_big else le32(data, at))


@step
def put32(out: Bytes, at: int, word: int) -> int:
    """Write four bytes, little-endian; where the next go."""
    for place in range(4):
        out[at + place] = word >> (8 * place) & 0xFF
    return at + 4
