"""Framing kernels: where each packet stands in a chunk of pcap or pcapng, how long it was, and when.

A kernel walks whole records and stops where the next is incomplete, impossible, or for Python to read (pcapng sections
and interfaces). Nothing here looks inside packets.
"""

from __future__ import annotations

import numpy as np

from collectors.kernels.compiled import kernel, step
from collectors.kernels.entry import Frames, open_frames
from collectors.kernels.octets import be16, be32, le16, le32, pointer, touch
from collectors.kernels.row_types import Bytes, Words

MAX_BYTES = 1 << 20
"""No record is longer: BIG TCP frames reach 512 kB. Longer original lengths are not believed."""

MIN_US, MAX_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Years 1 to 9999, what calendars can show; times beyond stop there."""

AHEAD = 1024
"""Bytes from which on memory is asked for: a record's header says where the next one is, so each would wait for it."""

JUMP_US = 3_600_000_000
"""A leap of more than an hour forward moves the file's clock only when the next packet confirms it."""

# Places in a framing state.
AT, COUNT, STATUS, LAST_TIME, BOGUS, NUMBER, CLOCK, LEAP, FIRST_BOGUS, HAS_CLOCK, INTERFACES, WIRE = range(12)
STATE_SIZE = 12
PACKET_MASK = (1 << 40) - 1
"""The part of NUMBER that counts this file's packets; above it stands the file's own number."""

INCOMPLETE, IMPOSSIBLE, FOR_PYTHON = 0, 1, 2

NANOSECONDS, IS_BIG, HEADER, INTERFACE, LENGTHS = 0, 1, 2, 3, 4
"""Places in the description of a pcap file."""

CAPTURED_FIRST, ORIGINAL_FIRST, SMALLER_IS_CAPTURED = 0, 1, 2
"""How a record's two lengths stand: pcap 2.4, before 2.3, and 2.3, which was written either way (libpcap reads so)."""


@step
def u32(data: Bytes, at: int, is_big: bool) -> int:
    return be32(data, at) if is_big else le32(data, at)


@step
def u16(data: Bytes, at: int, is_big: bool) -> int:
    return be16(data, at) if is_big else le16(data, at)


@step
def put(
    frames: Frames, clock: Words, state: Words, at: int, captured: int, wire: int, time: int, interface: int
) -> None:
    """Append one frame; an original length that cannot be is replaced by what was captured, and counted."""
    i = state[COUNT]
    if not is_believed(captured, wire):
        wire = disbelieve(state, i, captured)
    state[NUMBER] += 1
    state[WIRE] += wire
    write_frame(frames, i, at, captured, wire, time, interface, state[NUMBER])
    state[LAST_TIME] = time
    if state[HAS_CLOCK] == 0:
        state[HAS_CLOCK], state[CLOCK] = 1, time
    state[CLOCK], state[LEAP] = moved_clock(state[CLOCK], state[LEAP], time)
    clock[i] = state[CLOCK]
    state[COUNT] = i + 1


@step
def is_believed(captured: int, wire: int) -> bool:
    return captured <= wire <= MAX_BYTES


@step
def disbelieve(state: Words, i: int, captured: int) -> int:
    """Count the original length of frame `i` as bogus; what counts instead."""
    if state[BOGUS] == 0:
        state[FIRST_BOGUS] = i
    state[BOGUS] += 1
    return captured


@step
def write_frame(
    frames: Frames, i: int, at: int, captured: int, wire: int, time: int, interface: int, source: int
) -> None:
    frames.offset[i] = at
    frames.captured[i] = captured
    frames.wire[i] = wire
    frames.time[i] = time
    frames.interface[i] = interface
    frames.source[i] = source


@step
def moved_clock(clock: int, leap: int, time: int) -> tuple[int, int]:
    """Latest time so far, by which lanes are merged, and 1 after a leap: one packet from 2106 does not move it."""
    if time <= clock:
        return clock, 0
    if time - clock <= JUMP_US or leap:
        return time, 0
    return clock, 1


@kernel
def frame_pcap(frames: Frames, clock: Words, state: Words, kind: Words, stop: int) -> None:
    """Walk pcap records of `frames.data` from state[AT] up to `stop`.

    What changes with every record is kept out of memory: through `state` each would wait for the one before it.
    """
    frames, clock, state = open_frames(frames), pointer(clock), pointer(state)
    data = frames.data
    kind = pointer(kind)
    header, interface, lengths = kind[HEADER], kind[INTERFACE], kind[LENGTHS]
    is_big, tick = kind[IS_BIG] != 0, 1000 if kind[NANOSECONDS] else 1
    at, count, number, total = state[AT], state[COUNT], state[NUMBER], state[WIRE]
    time, latest, leap, has_clock = state[LAST_TIME], state[CLOCK], state[LEAP], state[HAS_CLOCK]
    status = INCOMPLETE
    while at + header <= stop:
        touch(data, at + AHEAD)
        turned = 4 if are_turned(data, at, is_big, lengths) else 0
        captured = u32(data, at + 8 + turned, is_big)
        if captured > MAX_BYTES:
            status = IMPOSSIBLE
            break
        if at + header + captured > stop:
            break
        fraction = u32(data, at + 4, is_big)
        time = u32(data, at, is_big) * 1_000_000 + (fraction // 1000 if tick == 1000 else fraction)
        wire = u32(data, at + 12 - turned, is_big)
        if not is_believed(captured, wire):
            wire = disbelieve(state, count, captured)
        number += 1
        total += wire
        write_frame(frames, count, at + header, captured, wire, time, interface, number)
        if has_clock == 0:
            has_clock, latest = 1, time
        latest, leap = moved_clock(latest, leap, time)
        clock[count] = latest
        count += 1
        at += header + captured
    state[AT], state[COUNT], state[NUMBER], state[WIRE], state[STATUS] = at, count, number, total, status
    state[LAST_TIME], state[CLOCK], state[LEAP], state[HAS_CLOCK] = time, latest, leap, has_clock


@step
def are_turned(data: Bytes, at: int, is_big: bool, lengths: int) -> bool:
    """Whether the record at `at` has its original length before its captured one."""
    is_smaller_second = lengths == SMALLER_IS_CAPTURED and u32(data, at + 8, is_big) > u32(data, at + 12, is_big)
    return bool(lengths == ORIGINAL_FIRST or is_smaller_second)


@step
def plausible_pcap(data: Bytes, at: int, stop: int, kind: Words, time: int) -> int:
    """Where the next record would start, or -1 where this cannot be a record's header."""
    is_big = kind[IS_BIG] != 0
    turned = 4 if are_turned(data, at, is_big, kind[LENGTHS]) else 0
    captured = u32(data, at + 8 + turned, is_big)
    wire = u32(data, at + 12 - turned, is_big)
    fraction = u32(data, at + 4, is_big)
    limit = 1_000_000_000 if kind[NANOSECONDS] else 1_000_000
    seconds = u32(data, at, is_big)
    if captured == 0 or captured > wire or wire > MAX_BYTES or fraction >= limit:
        return -1
    day = 86_400
    if time and abs(seconds - time // 1_000_000) > day:
        return -1
    return int(at + kind[HEADER] + captured)


@kernel
def resync_pcap(data: Bytes, state: Words, kind: Words, stop: int, is_last: bool) -> bool:
    """Move state[AT] to the next pair of plausible headers; False where more bytes are needed to tell."""
    data, state, kind = pointer(data), pointer(state), pointer(kind)
    header = kind[HEADER]
    at = state[AT] + 1
    while at + header <= stop:
        following = plausible_pcap(data, at, stop, kind, state[LAST_TIME])
        if following >= 0:
            if following + header > stop:
                if not is_last:
                    state[AT] = at - 1
                    return False
                if following == stop:
                    break
            elif plausible_pcap(data, following, stop, kind, state[LAST_TIME]) >= 0:
                break
        at += 1
    if at + header > stop:
        state[AT] = stop if is_last else at - 1
        return is_last
    state[AT] = at
    return True


@kernel
def frame_pcapng(
    frames: Frames, clock: Words, state: Words, is_big: bool, units: Words, numbers: Words, snaps: Words, stop: int
) -> None:
    """Walk pcapng blocks up to `stop`; section headers and interface descriptions are left for Python.

    `units` holds (base, exponent, offset in seconds) per interface of this section, `numbers` its place in the reading.
    """
    frames, clock, state = open_frames(frames), pointer(clock), pointer(state)
    data = frames.data
    at = state[AT]
    units, numbers, snaps = pointer(units), pointer(numbers), pointer(snaps)
    state[STATUS] = INCOMPLETE
    while at + 12 <= stop:
        kind = u32(data, at, is_big)
        size = u32(data, at + 4, is_big)
        if kind == 0x0A0D0D0A or kind == 1:
            state[STATUS] = FOR_PYTHON
            break
        padded = (size + 3) & ~3
        if size < 12 or size > MAX_BLOCK:
            state[STATUS] = IMPOSSIBLE
            break
        if at + padded > stop:
            break
        if kind in (2, 3, 6) and not packet_block(frames, clock, state, is_big, units, numbers, snaps, at, size):
            state[STATUS] = IMPOSSIBLE
            break
        at += padded
    state[AT] = at


MAX_BLOCK = 16 << 20
"""Larger blocks are taken for damage: the largest legitimate ones (embedded secrets, big frames) are far smaller."""


@step
def packet_block(
    frames: Frames,
    clock: Words,
    state: Words,
    is_big: bool,
    units: Words,
    numbers: Words,
    snaps: Words,
    at: int,
    size: int,
) -> bool:
    """Enhanced (6), obsolete (2) and simple (3) packet blocks; False where the lengths contradict each other."""
    data = frames.data
    kind = u32(data, at, is_big)
    if kind == 3:
        wire = u32(data, at + 8, is_big)
        captured = min(wire, size - 16)
        if state[INTERFACES] and snaps[0] > 0:
            captured = min(captured, snaps[0])
        if size < 16:
            return False
        put(frames, clock, state, at + 12, captured, wire, state[LAST_TIME], numbers[0] if state[INTERFACES] else -1)
        return True
    captured = u32(data, at + 20, is_big) if size >= 32 else MAX_BLOCK
    if captured > size - 32:
        return False
    interface = u32(data, at + 8, is_big) if kind == 6 else u16(data, at + 8, is_big)
    number, time = -1, state[LAST_TIME]
    if interface < state[INTERFACES]:
        number = numbers[interface]
        time = to_us(
            u32(data, at + 12, is_big),
            u32(data, at + 16, is_big),
            units[3 * interface],
            units[3 * interface + 1],
            units[3 * interface + 2],
        )
    put(frames, clock, state, at + 28, captured, u32(data, at + 24, is_big), time, number)
    return True


@step
def to_us(high: int, low: int, base: int, exponent: int, offset_s: int) -> int:
    """Microseconds since 1970 of a 64-bit count of base ** -exponent seconds; never overflows."""
    if high >= 0x80000000:
        return MAX_US
    word = high << 32 | low
    if base == 10:
        if exponent <= 6:
            scale = 10 ** (6 - exponent)
            time = MAX_US if word > MAX_US // scale else word * scale
        else:
            time = word // 10 ** (exponent - 6) if exponent <= 24 else 0
    else:
        time = binary_us(word, exponent)
    limit = MAX_US // 1_000_000
    offset_s = max(-limit, min(limit, offset_s))
    return max(MIN_US, min(MAX_US, min(time, MAX_US) + offset_s * 1_000_000))


@step
def binary_us(word: int, exponent: int) -> int:
    if exponent > 62:
        return 0
    seconds = word >> exponent
    rest = word & ((1 << exponent) - 1)
    if exponent > 40:  # a million times the rest must fit
        rest >>= exponent - 40
        exponent = 40
    if seconds > MAX_US // 1_000_000:
        return MAX_US
    return seconds * 1_000_000 + (rest * 1_000_000 >> exponent)


@kernel
def resync_pcapng(data: Bytes, state: Words, is_big: bool, stop: int, is_last: bool) -> bool:
    """Move state[AT] to the next block whose length stands at both of its ends; False where more bytes are needed."""
    data, state = pointer(data), pointer(state)
    at = state[AT] + 1
    while at + 12 <= stop:
        kind = u32(data, at, is_big)
        size = u32(data, at + 4, is_big)
        if kind <= 10 and 12 <= size <= 2 * MAX_BYTES and size & 3 == 0:
            if at + size > stop:
                if not is_last:
                    state[AT] = at - 1
                    return False
            elif u32(data, at + size - 4, is_big) == size:
                state[AT] = at
                return True
        at += 1
    state[AT] = stop if is_last else at - 1
    return is_last


def no_frames(data: Bytes, room: int) -> tuple[Frames, Words]:
    """Uninitialised space for `room` frames of `data`, and for their clock."""
    words = [np.empty(room, np.int64) for _ in range(7)]
    return Frames(data, *words[:6]), words[6]
