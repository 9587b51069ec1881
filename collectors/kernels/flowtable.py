"""The flow table: finding and making conversations, cutting their parts, retiring them."""

from __future__ import annotations

import numpy as np

from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.compiled import kernel, step
from collectors.kernels.entry import Output, Table, entry_at, open_output, open_table, tunnel_at
from collectors.kernels.octets import beyond, fold, is_below, mix, pointer, shift_right, touch
from collectors.kernels.row_types import Words

KEY_WORDS = 7
DIRECTION = 7
"""Place in the key scratch: 0 where A sent this packet."""
HASH = 8
TUNNEL_AT = 9
"""Places of the five tunnel words in the key scratch."""
TWIN = 14
"""Entry of the same conversation at another vantage point, -1 without."""
GUESS = 15
"""Entry that the index had under this hash a block ago, -1 without."""
KEY_SIZE = 16

ICMP, TCP, ICMPV6 = 1, 6, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16


@step
def make_key(packet: Words, key: Words, seeds: Words) -> None:
    """The key, its direction and its hash from all that was decoded."""
    src_hi, src_lo, dst_hi, dst_lo = packet[p.SRC_HI], packet[p.SRC_LO], packet[p.DST_HI], packet[p.DST_LO]
    src_port, dst_port, proto = packet[p.SRC_PORT], packet[p.DST_PORT], packet[p.PROTO]
    key[e.VANTAGE] = packet[p.VANTAGE]
    write_key(key, seeds, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, proto)
    if packet[p.TUNNELS]:
        make_tunnel_key(packet, key, seeds)
        key[HASH] = hash_key(key, seeds)


@step
def write_key(
    key: Words,
    seeds: Words,
    src_hi: int,
    src_lo: int,
    dst_hi: int,
    dst_lo: int,
    src_port: int,
    dst_port: int,
    proto: int,
) -> None:
    """Both directions of a conversation give the same key.

    Directions alternate without a pattern: nothing here branches on them, which the processor would guess wrong.
    """
    is_icmp = proto in (ICMP, ICMPV6)
    turned = is_after(src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, is_icmp)
    hi, lo = (src_hi ^ dst_hi) & -turned, (src_lo ^ dst_lo) & -turned
    a_hi, a_lo, b_hi, b_lo = src_hi ^ hi, src_lo ^ lo, dst_hi ^ hi, dst_lo ^ lo
    port = 0 if is_icmp else (src_port ^ dst_port) & -turned
    ports = (src_port ^ port) << 32 | (dst_port ^ port) << 16 | proto
    key[DIRECTION] = turned
    key[e.A_HI], key[e.A_LO], key[e.B_HI], key[e.B_LO] = a_hi, a_lo, b_hi, b_lo
    key[e.PORTS] = ports
    key[e.TUNNEL] = 0
    key[HASH] = hash_words(a_hi, a_lo, b_hi, b_lo, ports, seeds)


@step
def is_after(src_hi: int, src_lo: int, dst_hi: int, dst_lo: int, src_port: int, dst_port: int, is_icmp: bool) -> int:
    """1 where the sender's (address, port) is the higher one."""
    by_port = int(src_port > dst_port) & int(not is_icmp)
    by_lo = int(is_below(dst_lo, src_lo)) | int(src_lo == dst_lo) & by_port
    return int(is_below(dst_hi, src_hi)) | int(src_hi == dst_hi) & by_lo


@step
def make_tunnel_key(packet: Words, key: Words, seeds: Words) -> None:
    a = p.OUTER_DST_HI if key[DIRECTION] else p.OUTER_SRC_HI
    b = p.OUTER_SRC_HI if key[DIRECTION] else p.OUTER_DST_HI
    key[TUNNEL_AT] = packet[p.TUNNELS]
    key[TUNNEL_AT + 1] = packet[a]
    key[TUNNEL_AT + 2] = packet[a + 1]
    key[TUNNEL_AT + 3] = packet[b]
    key[TUNNEL_AT + 4] = packet[b + 1]
    word = fold(key[TUNNEL_AT + 1] ^ seeds[0], key[TUNNEL_AT + 2] ^ seeds[1])
    word = fold(key[TUNNEL_AT + 3] ^ seeds[2] ^ word, key[TUNNEL_AT + 4] ^ seeds[3])
    key[e.TUNNEL] = fold(word ^ seeds[0], key[TUNNEL_AT] ^ seeds[2]) | 1


@step
def hash_key(words: Words, seeds: Words) -> int:
    """Keyed, so that nobody outside can choose colliding addresses. Leaves out VANTAGE: twins share a chain."""
    ports = words[e.PORTS] ^ words[e.TUNNEL]
    return hash_words(words[e.A_HI], words[e.A_LO], words[e.B_HI], words[e.B_LO], ports, seeds)


@step
def hash_words(a_hi: int, a_lo: int, b_hi: int, b_lo: int, ports: int, seeds: Words) -> int:
    word = fold(a_hi ^ seeds[0], a_lo ^ seeds[1])
    word = fold(b_hi ^ seeds[2] ^ word, b_lo ^ seeds[3])
    return fold(ports ^ seeds[1] ^ word, seeds[0])


@step
def flow_id(key: Words, time: int) -> int:
    """Depends on the packets alone, never on seeds or chunks. Not 0, which stands for "no flow"."""
    word = mix(time)
    for i in range(5):
        word = mix(word ^ key[i])
    if key[e.TUNNEL]:
        for i in range(e.TUNNEL_WIDTH):
            word = mix(word ^ key[TUNNEL_AT + i])
    return word if word else 1


@step
def same_key(words: Words, key: Words) -> bool:
    return bool(
        words[e.A_LO] == key[e.A_LO]
        and words[e.B_LO] == key[e.B_LO]
        and words[e.PORTS] == key[e.PORTS]
        and words[e.A_HI] == key[e.A_HI]
        and words[e.B_HI] == key[e.B_HI]
        and words[e.TUNNEL] == key[e.TUNNEL]
    )


@step
def guess(table: Table, key: Words) -> int:
    """Entry that this key most likely has, -1 without; key[GUESS] gets it for `find`."""
    mask = table.state[e.INDEX_MASK]
    tag = shift_right(key[HASH], 32)
    place = key[HASH] & mask
    word = table.places[place]
    while word and shift_right(word, 32) != tag:
        place = (place + 1) & mask
        word = table.places[place]
    key[GUESS] = (word & 0xFFFFFFFF) - 1
    return int(key[GUESS])


@step
def find(table: Table, key: Words) -> int:
    """Entry of this key, or minus (1 + free place in the index); key[TWIN] gets its twin at another vantage point."""
    slot = key[GUESS]
    if slot >= 0 and table.state[e.MULTIPLE] == 0 and slot < table.state[e.COUNT]:
        words = entry_at(table, slot)
        if same_key(words, key) and words[e.VANTAGE] == key[e.VANTAGE]:
            key[TWIN] = -1
            return int(slot)
    return search(table, key)


@step
def search(table: Table, key: Words) -> int:
    """As `find`, without a guess."""
    mask = table.state[e.INDEX_MASK]
    tag = shift_right(key[HASH], 32)
    place = key[HASH] & mask
    key[TWIN] = -1
    while True:
        word = table.places[place]
        if word == 0:
            return int(-1 - place)
        if shift_right(word, 32) == tag:
            slot = (word & 0xFFFFFFFF) - 1
            words = entry_at(table, slot)
            if same_key(words, key):
                if words[e.VANTAGE] == key[e.VANTAGE]:
                    return int(slot)
                key[TWIN] = slot
        place = (place + 1) & mask


@step
def insert(table: Table, key: Words, place: int) -> int:
    slot = table.state[e.COUNT]
    table.state[e.COUNT] = slot + 1
    table.places[place] = (shift_right(key[HASH], 32) << 32) | (slot + 1)
    words = entry_at(table, slot)
    for i in range(KEY_WORDS):
        words[i] = key[i]
    if key[e.TUNNEL]:
        tunnel = tunnel_at(table, slot)
        for i in range(e.TUNNEL_WIDTH):
            tunnel[i] = key[TUNNEL_AT + i]
    return int(slot)


@step
def begin(words: Words, packet: Words, key: Words, time: int, frame: int) -> None:
    """A new conversation in this entry."""
    for i in range(KEY_WORDS, e.WIDTH):
        words[i] = 0
    words[e.LAST] = time
    words[e.FIRST_FRAME] = frame
    words[e.FLOW_ID] = flow_id(key, time)
    words[e.PART] = packet[p.VLAN] << 32
    if key[DIRECTION] ^ (0 if sender_began(packet) else 1):
        words[e.STATE] = e.INITIATOR_IS_B


@step
def sender_began(packet: Words) -> bool:
    """The initiator rule of docs/metering.md, for the first packet seen."""
    if packet[p.TCP_IS_READ] and packet[p.FLAGS] & SYN:
        return bool(packet[p.FLAGS] & ACK == 0)
    if packet[p.PROTO] in (ICMP, ICMPV6):
        return bool(packet[p.SEQ] == 0)
    return not packet[p.SRC_PORT] < 1024 <= packet[p.DST_PORT]


@step
def open_part(words: Words, time: int, source: int) -> None:
    words[e.START] = time
    words[e.LAST] = time
    words[e.PART_END] = (time // e.PART_US + 1) * e.PART_US
    words[e.SOURCE] = source


@step
def cut(table: Table, out: Output, slot: int, is_final: bool) -> None:
    """Emit the open part; the next packet opens another."""
    words = entry_at(table, slot)
    if words[e.PACKETS] == 0:
        return
    number = table.state[e.ROWS]
    row = beyond(out.rows, number * e.ROW_WIDTH)
    for i in range(e.WIDTH):
        row[i] = words[i]
    row[e.FINAL] = 1 if is_final else 0
    row[e.EPOCH] = table.state[e.EPOCH_NUMBER]
    row[e.CUT_FRAME] = table.state[e.FRAME]
    row[e.EVICTED] = 0
    if table.state[e.HAS_TUNNELS]:  # until then they are 0
        row_tunnel = beyond(out.row_tunnels, number * e.TUNNEL_WIDTH)
        for i in range(e.TUNNEL_WIDTH):
            row_tunnel[i] = tunnel_at(table, slot)[i] if words[e.TUNNEL] else 0
    table.state[e.ROWS] = number + 1
    for i in range(e.BYTES, e.PART_END):
        words[i] = 0
    words[e.MISSED] = 0
    words[e.MISSED + 1] = 0
    words[e.RETRANSMITS] = 0
    words[e.STATE] &= ~0xFFFF
    words[e.PART] += 1


GONE = -1
"""In FIRST_FRAME: retired, to be compacted away."""
INDEXED_AT_ONCE = 64
"""Entries whose places in the index are asked for before the first of them is written."""


@kernel
def retire(table: Table, out: Output, everything: bool) -> bool:
    """Emit and mark idle conversations from CURSOR on; False when `out` is full and it must be called again."""
    table, out = open_table(table), open_output(out)
    state = table.state
    for slot in range(state[e.CURSOR], state[e.COUNT]):
        if state[e.ROWS] >= state[e.ROW_ROOM]:
            state[e.CURSOR] = slot
            return False
        words = entry_at(table, slot)
        if everything or is_idle(words, state):
            cut(table, out, slot, True)
            words[e.FIRST_FRAME] = GONE
            state[e.RETIRED] += 1
    state[e.CURSOR] = 0
    return True


@step
def is_idle(words: Words, state: Words) -> bool:
    """A closed conversation is kept for one part length, for its last acknowledgements."""
    limit = e.PART_US if is_closed(words[e.STATE]) else state[e.IDLE_US]
    return bool(state[e.CLOCK] - words[e.LAST] > limit)


@step
def is_closed(state: int) -> bool:
    return state & e.RESET != 0 or state & (e.FIN_A | e.FIN_B) == e.FIN_A | e.FIN_B


@kernel
def cut_all(table: Table, out: Output) -> bool:
    """Emit every open part from CURSOR on; False when `out` is full and it must be called again."""
    table, out = open_table(table), open_output(out)
    state = table.state
    for slot in range(state[e.CURSOR], state[e.COUNT]):
        if state[e.ROWS] >= state[e.ROW_ROOM]:
            state[e.CURSOR] = slot
            return False
        cut(table, out, slot, False)
    state[e.CURSOR] = 0
    return True


@kernel
def compact(table: Table) -> None:
    """Close the gaps that retiring left, keeping the order, and index what remains."""
    hashes = np.empty(INDEXED_AT_ONCE, np.int64)
    table = open_table(table)
    kept = 0
    for slot in range(table.state[e.COUNT]):
        words = entry_at(table, slot)
        if words[e.FIRST_FRAME] == GONE:
            continue
        if kept != slot:
            copy_words(words, entry_at(table, kept), e.WIDTH)
            if words[e.TUNNEL]:
                copy_words(tunnel_at(table, slot), tunnel_at(table, kept), e.TUNNEL_WIDTH)
        kept += 1
    table.state[e.COUNT] = kept
    table.state[e.RETIRED] = 0
    fill_index(table, pointer(hashes))


@step
def copy_words(source: Words, target: Words, count: int) -> None:
    for i in range(count):
        target[i] = source[i]


@step
def fill_index(table: Table, hashes: Words) -> None:
    mask, count = table.state[e.INDEX_MASK], table.state[e.COUNT]
    for place in range(mask + 1):
        table.places[place] = 0
    for start in range(0, count, INDEXED_AT_ONCE):
        stop = min(start + INDEXED_AT_ONCE, count)
        for slot in range(start, stop):
            hashes[slot - start] = hash_key(entry_at(table, slot), table.seeds)
            touch(table.places, hashes[slot - start] & mask)
        for slot in range(start, stop):
            word = hashes[slot - start]
            place = word & mask
            while table.places[place]:
                place = (place + 1) & mask
            table.places[place] = (shift_right(word, 32) << 32) | (slot + 1)
