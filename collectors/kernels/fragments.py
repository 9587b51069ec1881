"""Which flow the first fragment of a packet belonged to, so that later fragments, which carry no ports, are credited.

A ring of the latest first fragments with an index over it: what is forgotten depends on packet order alone.
"""

from __future__ import annotations

from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.entry import Table
from collectors.kernels.flowtable import DIRECTION, KEY_WORDS, TUNNEL_AT
from collectors.kernels.octets import beyond, fold
from collectors.kernels.row_types import Words

RING = 32_768
"""First fragments remembered: 3 s of 10 Gbit/s in which every packet is fragmented in two."""
MAX_AGE_US = 60_000_000
"""Reassembly gives up after 60 s (RFC 8200, 4.5); identifications are used again later."""

NAME_WORDS = 7
"""Addresses (4), identification and protocol, vantage, tunnels removed outside."""
TIME = 7
FLOW = 8
"""The flow key (7 words), its tunnel words (5), then its direction."""
INNER = FLOW + KEY_WORDS + e.TUNNEL_WIDTH
IS_INSIDE = INNER + 1
"""1 where the fragmented packet was itself an encapsulation that is removed."""
WIDTH = IS_INSIDE + 1


@step
def fragment_at(table: Table, slot: int) -> Words:
    return beyond(table.fragments, slot * WIDTH)


@step
def name_fragment(packet: Words, name: Words, is_outer: bool) -> None:
    source = p.FRAGMENT_SRC_HI if is_outer else p.SRC_HI
    for i in range(4):
        name[i] = packet[source + i]
    number = packet[p.OUTER_ID] if is_outer else packet[p.FRAGMENT_ID]
    proto = packet[p.OUTER_PROTO] if is_outer else packet[p.PROTO]
    name[4] = number << 8 | proto
    name[5] = packet[p.VANTAGE]
    name[6] = packet[p.OUTER_TUNNELS] if is_outer else packet[p.TUNNELS]


@step
def hash_name(name: Words, seeds: Words) -> int:
    word = fold(name[0] ^ seeds[0], name[1] ^ seeds[1])
    word = fold(name[2] ^ seeds[2] ^ word, name[3] ^ seeds[3])
    return fold(name[4] ^ seeds[1] ^ word, name[5] ^ name[6] << 40 ^ seeds[0])


@step
def look_up(table: Table, name: Words) -> int:
    """Place in the index of this name, or of the free place where it would stand."""
    mask = 2 * RING - 1
    place = hash_name(name, table.seeds) & mask
    while table.fragment_index[place]:
        words = fragment_at(table, table.fragment_index[place] - 1)
        is_same = True
        for i in range(NAME_WORDS):
            is_same = is_same and words[i] == name[i]
        if is_same:
            return place
        place = (place + 1) & mask
    return place


@step
def remember(table: Table, packet: Words, key: Words, name: Words, time: int, is_outer: bool) -> None:
    """Note that later fragments of this packet belong to the flow in `key`."""
    name_fragment(packet, name, is_outer)
    place = look_up(table, name)
    slot = table.fragment_index[place] - 1
    if slot < 0:
        slot = table.state[e.FRAGMENTS] % RING
        if table.state[e.FRAGMENTS] >= RING:
            forget(table, slot)
            place = look_up(table, name)
        table.state[e.FRAGMENTS] += 1
        table.fragment_index[place] = slot + 1
    words = fragment_at(table, slot)
    for i in range(NAME_WORDS):
        words[i] = name[i]
    words[TIME] = time
    for i in range(KEY_WORDS):
        words[FLOW + i] = key[i]
    for i in range(e.TUNNEL_WIDTH):
        words[FLOW + KEY_WORDS + i] = key[TUNNEL_AT + i]
    words[INNER] = key[DIRECTION]
    words[IS_INSIDE] = 1 if is_outer else 0


@step
def forget(table: Table, slot: int) -> None:
    """Take the oldest out of the index; those behind it in its chain move up (linear probing)."""
    index = table.fragment_index
    mask = 2 * RING - 1
    hole = look_up(table, fragment_at(table, slot))
    index[hole] = 0
    place = (hole + 1) & mask
    while index[place]:
        home = hash_name(fragment_at(table, index[place] - 1), table.seeds) & mask
        if (place - home) & mask >= (place - hole) & mask:
            index[hole] = index[place]
            index[place] = 0
            hole = place
        place = (place + 1) & mask


@step
def recall(table: Table, packet: Words, key: Words, name: Words, time: int) -> None:
    """Key of the flow that a later fragment belongs to; `key` stays, with ports 0, where that is not known."""
    name_fragment(packet, name, False)
    slot = table.fragment_index[look_up(table, name)] - 1
    if slot < 0 or abs(time - fragment_at(table, slot)[TIME]) > MAX_AGE_US:
        table.state[e.FRAGMENTS_UNKNOWN] += 1
        return
    words = fragment_at(table, slot)
    for i in range(KEY_WORDS):
        key[i] = words[FLOW + i]
    for i in range(e.TUNNEL_WIDTH):
        key[TUNNEL_AT + i] = words[FLOW + KEY_WORDS + i]
    key[DIRECTION] = words[INNER]
    if words[IS_INSIDE]:  # the outer headers were removed
        packet[p.BYTES] = packet[p.PAYLOAD]
    table.state[e.FRAGMENTS_CREDITED] += 1
