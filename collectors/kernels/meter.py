"""The compiled pass: every frame of a chunk is decoded and credited to its conversation."""

from __future__ import annotations

from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.compiled import kernel, part, step
from collectors.kernels.entry import (
    Frames,
    Output,
    Scratch,
    Table,
    entry_at,
    open_frames,
    open_output,
    open_scratch,
    open_table,
)
from collectors.kernels.flowtable import (
    DIRECTION,
    HASH,
    KEY_SIZE,
    TWIN,
    begin,
    cut,
    find,
    guess,
    hash_key,
    insert,
    make_key,
    open_part,
)
from collectors.kernels.fragments import recall, remember
from collectors.kernels.layers import decode
from collectors.kernels.octets import beyond, pointer, touch
from collectors.kernels.offers import offer_payload
from collectors.kernels.plain import ETHERNET_LINK, read_plain
from collectors.kernels.row_types import Words
from collectors.kernels.tcpstate import follow, starts_anew

# Why a call returned. Time-driven work happens between frames, at places that packet order alone decides.
DONE, OUTPUT_FULL, TABLE_FULL, SWEEP, NEW_EPOCH, NEEDS_TUNNELS = range(6)

ROW_RESERVE = 4
"""Rows that one frame can emit at most, and then some."""
OFFER_RESERVE = 2048
"""Bytes of one payload that are offered for names at most."""
EPOCH_FRAMES = 256
BLOCK = 16
"""Packets decoded before the first of them is looked up."""


@kernel
def meter(
    table: Table,
    out: Output,
    scratch: Scratch,
    frames: Frames,
    first: int,
    links: Words,
    vantages: Words,
    verdicts: Words,
) -> tuple[int, int]:
    """Meter frames from `first` on; (why it returned, the frame to go on with)."""
    count = frames.offset.size
    table, out, scratch, frames = open_table(table), open_output(out), open_scratch(scratch), open_frames(frames)
    state = table.state
    links, vantages, verdicts = pointer(links), pointer(vantages), pointer(verdicts)
    for i in range(first, min(first + BLOCK, count)):
        prepare(table, scratch, frames, i, links, vantages)
    for start in range(first, count, BLOCK):
        following = min(start + BLOCK, count)
        for i in range(start, following):
            prefetch(table, key_at(scratch, i))
            if i + BLOCK < count:
                prepare(table, scratch, frames, i + BLOCK, links, vantages)
        is_calm = is_block_calm(state)
        for i in range(start, following):
            packet, key = packet_at(scratch, i), key_at(scratch, i)
            if packet[p.ODD] or not is_calm:
                reason = must_return(state, frames.time[i])
                if reason == DONE and packet[p.TUNNELS] and state[e.HAS_TUNNELS] == 0:
                    reason = NEEDS_TUNNELS
                if reason != DONE:
                    return reason, i
            if packet[p.VERDICT] == p.METERED:
                verdicts[i] = 0
                slot = credit(table, out, packet, key, scratch.name, frames.time[i], frames.source[i])
                offer_payload(table, out, frames.data, packet, slot, key[DIRECTION])
                state[e.LOWEST] = min(state[e.LOWEST], frames.time[i])
            else:
                verdicts[i] = packet[p.VERDICT] | packet[p.DETAIL] << 8
                state[e.SKIPPED] += 1
            state[e.FRAME] += 1
            state[e.WIRE] += frames.wire[i]
    return DONE, count


@step
def packet_at(scratch: Scratch, i: int) -> Words:
    return beyond(scratch.packets, (i & 2 * BLOCK - 1) * p.SIZE)


@step
def key_at(scratch: Scratch, i: int) -> Words:
    return beyond(scratch.keys, (i & 2 * BLOCK - 1) * KEY_SIZE)


@step
def prepare(table: Table, scratch: Scratch, frames: Frames, i: int, links: Words, vantages: Words) -> None:
    """Decode a packet and ask for its place in the index: memory is slower than anything done here."""
    packet, key = packet_at(scratch, i), key_at(scratch, i)
    if not decode_plain(frames, i, packet, key, table.seeds, links, vantages):
        packet[p.VERDICT] = decode_any(frames, i, packet, scratch.backup, links, vantages)
        make_key(packet, key, table.seeds)
    touch(table.places, key[HASH] & table.state[e.INDEX_MASK])


@step
def prefetch(table: Table, key: Words) -> None:
    """Ask for a packet's entry, a block before it is needed."""
    slot = guess(table, key)
    if slot >= 0:
        entry = entry_at(table, slot)
        touch(entry, 0)
        touch(entry, e.BYTES)


@step
def is_block_calm(state: Words) -> bool:
    """True where nothing that a whole block can do makes `must_return` say anything but DONE."""
    return bool(
        state[e.FRAME] + BLOCK <= state[e.SWEEP_AT]
        and state[e.COUNT] + BLOCK <= state[e.CAPACITY]
        and state[e.ROWS] + BLOCK * ROW_RESERVE <= state[e.ROW_ROOM]
        and state[e.OFFERS] + BLOCK <= state[e.OFFER_ROOM]
        and state[e.ARENA] + BLOCK * OFFER_RESERVE <= state[e.ARENA_ROOM]
        and state[e.MULTIPLE] == 0
    )


@step
def must_return(state: Words, time: int) -> int:
    if state[e.FRAME] >= state[e.SWEEP_AT]:
        return SWEEP
    if state[e.COUNT] >= state[e.CAPACITY]:
        return TABLE_FULL
    if (
        state[e.ROWS] + ROW_RESERVE > state[e.ROW_ROOM]
        or state[e.OFFERS] >= state[e.OFFER_ROOM]
        or state[e.ARENA] + OFFER_RESERVE > state[e.ARENA_ROOM]
    ):
        return OUTPUT_FULL
    if state[e.MULTIPLE] and is_new_epoch(state, time):
        return NEW_EPOCH
    return DONE


@step
def is_new_epoch(state: Words, time: int) -> bool:
    """True at a frame of another 10 s bucket, but only where the epoch is long enough to pay for flushing the table."""
    bucket = time // e.PART_US
    if bucket == state[e.EPOCH_BUCKET]:
        return False
    state[e.EPOCH_BUCKET] = bucket
    return bool(state[e.FRAME] - state[e.EPOCH_FRAME] >= 4 * state[e.COUNT] + EPOCH_FRAMES)


@step
def decode_plain(
    frames: Frames, i: int, packet: Words, key: Words, seeds: Words, links: Words, vantages: Words
) -> bool:
    """Most packets, the short way, with their keys; False where a packet takes the long one."""
    interface = frames.interface[i]
    if interface < 0 or links[interface] != ETHERNET_LINK:
        return False
    packet[p.VERDICT] = p.METERED
    packet[p.VANTAGE] = key[e.VANTAGE] = vantages[interface]
    return read_plain(frames.data, packet, key, seeds, frames.offset[i], frames.captured[i], frames.wire[i])


@part
def decode_any(frames: Frames, i: int, packet: Words, backup: Words, links: Words, vantages: Words) -> int:
    """Any packet, the long way."""
    interface = frames.interface[i]
    packet[p.DETAIL] = 0
    if interface < 0:
        return p.UNKNOWN_INTERFACE
    if frames.captured[i] == 0:
        return p.EMPTY
    packet[p.POS] = frames.offset[i]
    packet[p.END] = frames.offset[i] + frames.captured[i]
    packet[p.WIRE_END] = frames.offset[i] + frames.wire[i]
    packet[p.VANTAGE] = vantages[interface]
    return decode(frames.data, packet, backup, links[interface])


@step
def credit(table: Table, out: Output, packet: Words, key: Words, name: Words, time: int, source: int) -> int:
    """Add one packet to its conversation and return its entry."""
    state = table.state
    if packet[p.ODD]:
        settle_oddities(table, packet, key, name, time)
    note_vantage(state, packet[p.VANTAGE], time)
    slot = find(table, key)
    if slot < 0:
        slot = insert(table, key, -1 - slot)
        begin(entry_at(table, slot), packet, key, time, state[e.FRAME])
        adopt_twin(table, slot, key[TWIN], time)
    elif time - entry_at(table, slot)[e.LAST] > state[e.IDLE_US] or (
        packet[p.TCP_IS_READ] and starts_anew(entry_at(table, slot), packet)
    ):
        cut(table, out, slot, True)
        begin(entry_at(table, slot), packet, key, time, state[e.FRAME])
        adopt_twin(table, slot, key[TWIN], time)
    count(table, out, slot, packet, key[DIRECTION], time, source)
    return slot


@part
def settle_oddities(table: Table, packet: Words, key: Words, name: Words, time: int) -> None:
    """Fragments find their conversation or are remembered for it; lengths taken from the wire are counted."""
    if packet[p.FRAGMENT] == p.LATER_FRAGMENT:
        recall(table, packet, key, name, time)
        key[HASH] = hash_key(key, table.seeds)
    if packet[p.FRAGMENT] == p.FIRST_FRAGMENT:
        remember(table, packet, key, name, time, False)
    if packet[p.OUTER_FRAGMENT]:
        remember(table, packet, key, name, time, True)
    if packet[p.FROM_WIRE]:
        table.state[e.LENGTH_FROM_WIRE + packet[p.FROM_WIRE] - 1] += 1


@step
def note_vantage(state: Words, vantage: int, time: int) -> None:
    if state[e.FIRST_VANTAGE] < 0:
        state[e.FIRST_VANTAGE] = vantage
    elif vantage != state[e.FIRST_VANTAGE] and state[e.MULTIPLE] == 0:
        state[e.MULTIPLE] = 1
        state[e.EPOCH_NUMBER] = 1
        state[e.EPOCH_BUCKET] = time // e.PART_US
        state[e.EPOCH_FRAME] = state[e.FRAME]


@step
def adopt_twin(table: Table, slot: int, twin: int, time: int) -> None:
    """A conversation seen at a second vantage point keeps the id and the initiator that it has at the first.

    Its name comes from the first one too: one segment offered by both would be joined as if it were two.
    """
    if twin < 0 or abs(time - entry_at(table, twin)[e.LAST]) > table.state[e.IDLE_US]:
        return
    words, first = entry_at(table, slot), entry_at(table, twin)
    words[e.FLOW_ID] = first[e.FLOW_ID]
    words[e.FIRST_FRAME] = first[e.FIRST_FRAME]
    words[e.STATE] = words[e.STATE] & ~e.INITIATOR_IS_B | first[e.STATE] & e.INITIATOR_IS_B | 2 * e.OFFERED


@step
def count(table: Table, out: Output, slot: int, packet: Words, side: int, time: int, source: int) -> None:
    words = entry_at(table, slot)
    if words[e.PACKETS] == 0:
        open_part(words, time, source)
    elif time >= words[e.PART_END] or time < words[e.PART_END] - 2 * e.PART_US:
        cut(table, out, slot, False)
        open_part(words, time, source)
    words[e.BYTES + side] += packet[p.BYTES]
    words[e.PAYLOAD + side] += packet[p.PAYLOAD]
    words[e.PACKETS] += 1 << (32 * side)
    if time >= words[e.LAST]:
        words[e.LAST] = time
    else:  # START is in a line that is not touched otherwise
        words[e.START] = min(words[e.START], time)
    if packet[p.TCP_IS_READ]:
        follow(words, packet, side)
