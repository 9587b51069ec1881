"""Host names as text: lower case, printable, at most 253 bytes, whatever bytes were sent.

Bytes outside `!`..`~`, backslashes, and dots inside a DNS label become `\\ddd` (RFC 4343, 2.1), so that two different
names never read the same. Where the text is longer than 253 bytes its *tail* is kept: a cut at the end would let
`x.approved.example.<evil>` pass for a name below `approved.example`.
"""

from __future__ import annotations

import numpy as np

from collectors.kernels.compiled import kernel
from collectors.kernels.row_types import Bytes, Words

MAX_NAME = 253
"""Longest host name as text (RFC 1035, 2.3.4, without the root's dot)."""

MAX_RAW = 255
"""Longest host name on the wire; of anything longer the last 255 bytes are read."""

PLAIN, LABELS = 0, 1
"""How raw bytes spell a name: as text, or as DNS labels with their lengths."""


@kernel
def write_texts(raw: Bytes, start: Words, length: Words, form: int, out: Bytes, ends: Words) -> None:
    """Text of each raw name one after the other in `out`; `ends[i]` is where the i-th ends. Unusable names are empty.

    `out` needs min(253, 4 x (length + 1)) bytes a name. IP address literals are no names: they come out empty.
    """
    scratch = np.empty(4 * (MAX_RAW + 1), np.uint8)
    at = 0
    for i in range(start.size):
        if form == LABELS:
            size = _spell_labels(raw, start[i], start[i] + length[i], scratch)
        else:
            size = _spell_plain(raw, start[i], start[i] + length[i], scratch)
        if not _is_address(scratch, size):
            first = max(0, size - MAX_NAME)
            for k in range(first, size):
                out[at] = scratch[k]
                at += 1
        ends[i] = at


@kernel
def _spell_labels(raw: Bytes, at: int, end: int, out: Bytes) -> int:
    size = 0
    end = min(end, at + MAX_RAW + 1)
    while at < end:
        count = raw[at]
        if count == 0 or count > 63 or at + 1 + count > end:
            break
        if size > 0:
            out[size] = 46
            size += 1
        for k in range(at + 1, at + 1 + count):
            size = _put(raw[k], raw[k] == 46, out, size)
        at += 1 + count
    return size


@kernel
def _spell_plain(raw: Bytes, at: int, end: int, out: Bytes) -> int:
    if end > at and raw[end - 1] == 46:
        end -= 1
    size = 0
    for k in range(max(at, end - MAX_RAW), end):
        size = _put(raw[k], False, out, size)
    return size


@kernel
def _put(byte: int, is_special: bool, out: Bytes, size: int) -> int:
    if is_special or byte < 33 or byte > 126 or byte == 92:
        out[size] = 92
        out[size + 1] = 48 + byte // 100
        out[size + 2] = 48 + byte // 10 % 10
        out[size + 3] = 48 + byte % 10
        return size + 4
    out[size] = byte + 32 if 65 <= byte <= 90 else byte
    return size + 1


@kernel
def _is_address(text: Bytes, size: int) -> bool:
    """Digits and dots only, or bracketed: an address where a name should be."""
    if size == 0 or text[0] == 91:
        return True
    letters = 0
    for k in range(size):
        letters += text[k] != 46 and not 48 <= text[k] <= 57
    return letters == 0
