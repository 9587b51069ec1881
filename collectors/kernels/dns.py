"""Addresses that DNS answers give for a name (RFC 1035; AAAA: RFC 3596).

The name is always that of the question, so an answer that goes through aliases (CNAME) gives the name that was asked
for. Responses with an error, with another number of questions than one, or that are not what their length fields say
give what was read up to there. Nothing follows compression pointers: the question comes first and needs none, other
names are only stepped over.
"""

from __future__ import annotations

from collectors.kernels.compiled import kernel
from collectors.kernels.row_types import Bytes, Words

HEADER = 12
MAX_ANSWERS = 128
"""More do not fit into the bytes that a candidate carries."""

A, AAAA, IN = 1, 28, 1


@kernel
def read_answers(arena: Bytes, offset: Words, length: Words, which: Words, address: Bytes) -> int:
    """For each address in each response its candidate's index in `which` and 16 bytes in `address`; gives their number.

    `which` and `address` need `capacity(length)` places.
    """
    found = 0
    for i in range(offset.size):
        end = offset[i] + length[i]
        question = skip_question(arena, offset[i], end)
        if question < 0:
            continue
        at = question
        answers = min(_u16(arena, offset[i] + 6), MAX_ANSWERS)
        for _ in range(answers):
            at = _skip_name(arena, at, end)
            if at < 0 or at + 10 > end:
                break
            kind, klass, size = _u16(arena, at), _u16(arena, at + 2), _u16(arena, at + 8)
            at += 10
            if at + size > end:
                break
            if klass == IN and ((kind == A and size == 4) or (kind == AAAA and size == 16)):
                which[found] = i
                _copy_address(arena, at, size, address, found)
                found += 1
            at += size
    return found


@kernel
def capacity(length: Words) -> int:
    """How many addresses these responses can hold at most: an answer takes at least 15 bytes."""
    total = 0
    for i in range(length.size):
        total += min(length[i] // 15, MAX_ANSWERS)
    return total


@kernel
def skip_question(arena: Bytes, start: int, end: int) -> int:
    """Where the answers begin; -1 if this is no good response to one question for an Internet address."""
    if end - start < HEADER or _u16(arena, start + 4) != 1:
        return -1
    # A response (QR), a standard query (opcode 0), not truncated to nothing useful, no error (RCODE 0).
    if arena[start + 2] & 0xF8 != 0x80 or arena[start + 3] & 0x0F != 0:
        return -1
    at = start + HEADER
    while at < end and arena[at] != 0:
        if arena[at] > 63 or at - start - HEADER > 255:
            return -1
        at += 1 + arena[at]
    if at + 5 > end or at == start + HEADER:
        return -1
    return at + 5


@kernel
def _skip_name(arena: Bytes, at: int, end: int) -> int:
    begin = at
    while at < end and at - begin <= 255:
        count = arena[at]
        if count == 0:
            return at + 1
        if count >= 0xC0:
            return at + 2
        if count > 63:
            return -1
        at += 1 + count
    return -1


@kernel
def _copy_address(arena: Bytes, at: int, size: int, address: Bytes, row: int) -> None:
    for k in range(16):
        address[row, k] = 0
    if size == 4:
        address[row, 10] = 0xFF
        address[row, 11] = 0xFF
    for k in range(size):
        address[row, 16 - size + k] = arena[at + k]


@kernel
def _u16(arena: Bytes, at: int) -> int:
    return (int(arena[at]) << 8) | int(arena[at + 1])
