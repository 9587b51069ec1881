"""What a TCP client's first bytes say whom it wants, over many conversations at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from collectors.kernels.compiled import kernel
from collectors.kernels.http import read_host
from collectors.kernels.row_types import Bytes, Words
from collectors.kernels.tls import ABSENT, FOUND, read_sni

Mask: TypeAlias = NDArray[np.bool_]


@kernel
def read_hellos(
    arena: Bytes,
    offset: Words,
    size: Words,
    raw: Bytes,
    state: Bytes,
    is_sni: Mask,
    start: Words,
    length: Words,
) -> None:
    """Where each candidate's name is in `raw`, which needs as many bytes as all payloads have."""
    scratch = np.empty(max(1, size.max()), np.uint8)
    at = 0
    for i in range(offset.size):
        stop = offset[i] + size[i]
        source = scratch
        state[i], begin, end = read_sni(arena, offset[i], stop, scratch)
        is_sni[i] = state[i] == FOUND
        if state[i] == ABSENT:
            source = arena
            state[i], begin, end = read_host(arena, offset[i], stop)
        start[i], length[i] = at, end - begin
        for k in range(begin, end):
            raw[at] = source[k]
            at += 1


@kernel
def copy_payloads(source: Bytes, offset: Words, length: Words, target: Bytes, place: Words) -> None:
    """Payload i to `target[place[i]:]`."""
    for i in range(offset.size):
        for k in range(length[i]):
            target[place[i] + k] = source[offset[i] + k]
