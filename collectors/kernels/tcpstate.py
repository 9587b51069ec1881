"""What TCP headers tell beyond bytes: who began, what was sent again, what the capture misses, when it is over."""

from __future__ import annotations

from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.flowtable import ACK, FIN, RST, SYN, is_closed
from collectors.kernels.octets import shift_right
from collectors.kernels.row_types import Words

MAX_JUMP = 1 << 30
"""What a single forged sequence number may add to `missed`: half of what the number space can tell apart."""


@step
def starts_anew(words: Words, packet: Words) -> bool:
    """True for a SYN after both FINs or a reset: the ports are used again."""
    return packet[p.FLAGS] & (SYN | ACK) == SYN and is_closed(words[e.STATE])


@step
def follow(words: Words, packet: Words, side: int) -> None:
    """Take in one TCP header sent by `side` (0: A)."""
    flags = packet[p.FLAGS]
    state = words[e.STATE] | flags << (8 * side)
    if flags & (SYN | FIN | RST):
        state = transition(words, state, flags, side)
    if flags & RST == 0:
        sequence = words[e.SEQUENCE]
        length = packet[p.PAYLOAD] + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
        expected = half(sequence, side)
        if state & (e.KNOWS_A << side) == 0:
            expected = (packet[p.SEQ] + length) & 0xFFFFFFFF
            state |= e.KNOWS_A << side
        else:
            packet[p.JUMP] = ahead(packet[p.SEQ], expected)
            expected = advance(words, expected, packet[p.SEQ], length, side)
        sequence = with_half(sequence, expected, side)
        if flags & ACK:
            other = 1 - side
            if state & (e.KNOWS_A << other):
                sequence = with_half(sequence, acknowledged(words, half(sequence, other), packet[p.ACK], other), other)
            elif packet[p.IS_MIRRORED] == 0:
                sequence = with_half(sequence, packet[p.ACK], other)
                state |= e.KNOWS_A << other
        words[e.SEQUENCE] = sequence
    words[e.STATE] = state


@step
def transition(words: Words, state: int, flags: int, side: int) -> int:
    if flags & RST:
        state |= e.RESET
    if flags & FIN:
        state |= e.FIN_A << side
    if flags & SYN and state & e.SAW_SYN == 0:
        state |= e.SAW_SYN
        if words[e.PART] & 0xFFFFFFFF == 0:  # nothing was emitted yet: the SYN knows better than the ports
            began = side if flags & ACK == 0 else 1 - side
            state = state | e.INITIATOR_IS_B if began else state & ~e.INITIATOR_IS_B
    return state


@step
def half(word: int, side: int) -> int:
    return shift_right(word, 32 * side) & 0xFFFFFFFF


@step
def with_half(word: int, value: int, side: int) -> int:
    return (word & ~(0xFFFFFFFF << (32 * side))) | (value & 0xFFFFFFFF) << (32 * side)


@step
def ahead(number: int, expected: int) -> int:
    """How far `number` is beyond `expected` on the circle of sequence numbers, negative behind it."""
    return ((number - expected + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@step
def advance(words: Words, expected: int, sequence: int, length: int, side: int) -> int:
    """Count a gap before this segment, or what of it was seen before; a late filler takes its gap back."""
    jump = ahead(sequence, expected)
    if jump > 0:
        words[e.MISSED + side] += min(jump, MAX_JUMP)
    elif jump < 0 and length > 0:
        again = min(length, -jump)
        filled = min(again, words[e.MISSED + side])
        words[e.MISSED + side] -= filled
        words[e.RETRANSMITS] += again - filled
        if length <= -jump:
            return expected
    elif jump < 0:
        return expected
    return (sequence + length) & 0xFFFFFFFF


@step
def acknowledged(words: Words, expected: int, number: int, side: int) -> int:
    """`side`'s data up to `number` arrived at its peer: what of it was not seen here is missing."""
    jump = ahead(number, expected)
    if jump <= 0:
        return expected
    words[e.MISSED + side] += min(jump, MAX_JUMP)
    return number
