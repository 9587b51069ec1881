"""Picking packets out of captures: which frames belong to some conversations, and their pcapng blocks."""

from __future__ import annotations

import numpy as np

from collectors.kernels import packet as p
from collectors.kernels.compiled import kernel, step
from collectors.kernels.entry import Frames
from collectors.kernels.meter import decode_frame
from collectors.kernels.octets import be32, is_below, le32
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
    packet = np.zeros(p.SIZE, np.int64)
    backup = np.zeros(p.SIZE, np.int64)
    nowhere = np.zeros(links.size, np.int64)
    for i in range(frames.offset.size):
        if frames.time[i] < start or frames.time[i] > end:
            continue
        if decode_frame(frames, i, packet, backup, links, nowhere) != p.METERED:
            continue
        source_is_ours, target_is_ours = ends_in(packet, ours, p.SRC_HI), ends_in(packet, ours, p.DST_HI)
        if (source_is_ours and ends_in(packet, theirs, p.DST_HI)) or (
            target_is_ours and ends_in(packet, theirs, p.SRC_HI)
        ):
            chosen[i] = 1


@step
def ends_in(packet: Words, ranges: Words, end: int) -> bool:
    """Whether the packet's source (or destination) address, the inner or the outermost one, is in `ranges`."""
    if lies_in(packet[end], packet[end + 1], ranges):
        return True
    outer = p.OUTER_SRC_HI if end == p.SRC_HI else p.OUTER_DST_HI
    return packet[p.TUNNELS] != 0 and lies_in(packet[outer], packet[outer + 1], ranges)


@step
def lies_in(high: int, low: int, ranges: Words) -> bool:
    for k in range(ranges.shape[0]):
        is_before = is_lower(high, low, ranges[k, 0], ranges[k, 1])
        is_behind = is_lower(ranges[k, 2], ranges[k, 3], high, low)
        if not is_before and not is_behind:
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
    at = 0
    for i in chosen:
        known = interfaces[frames.interface[i]]
        captured = frames.captured[i]
        high, low, wire = stamp_of(frames, i, known)
        size = BLOCK_BYTES + ((captured + 3) & ~3)
        for place, word in enumerate((ENHANCED, size, known[NUMBER], high, low, captured, wire)):
            put32(out, at + 4 * place, word)
        data = at + BLOCK_BYTES - 4
        out[data : data + captured] = frames.data[frames.offset[i] : frames.offset[i] + captured]
        out[data + captured : at + size - 4] = 0
        put32(out, at + size - 4, size)
        at += size
    return at


@step
def stamp_of(frames: Frames, i: int, known: Words) -> tuple[int, int, int]:
    """Both halves of the time in the interface's unit, and the original length."""
    data, at, is_big = frames.data, frames.offset[i], known[IS_BIG]
    header = known[HEADER]
    if header:
        time = word32(data, at - header, is_big) * 10 ** known[EXPONENT] + word32(data, at - header + 4, is_big)
        return time >> 32, time & 0xFFFFFFFF, word32(data, at - header + 12, is_big)
    wire = word32(data, at - 4, is_big)
    kind = word32(data, at - 28, is_big) if at >= 28 else 0
    if kind in (ENHANCED, OBSOLETE) and word32(data, at - 8, is_big) == frames.captured[i]:
        return word32(data, at - 16, is_big), word32(data, at - 12, is_big), wire
    return 0, 0, wire  # a simple packet block has no time


@step
def word32(data: Bytes, at: int, is_big: int) -> int:
    return be32(data, at) if is_big else le32(data, at)


@step
def put32(out: Bytes, at: int, word: int) -> None:
    for place in range(4):
        out[at + place] = word >> (8 * place) & 0xFF
