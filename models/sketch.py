"""Counters for any number of keys in fixed memory: a count-min sketch of what a key got of late, ever, and at most.

Cormode and Muthukrishnan, An improved data stream summary, J. Algorithms 55, 2005. Answers are never too small, and
too large only where a key shares all of its cells with others.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DEPTH, WIDTH = 3, 8_192
"""590 kB for all three tables: of 10,000 keys, 2 in 3 have a cell of their own in some row."""
SEED = b"egress edges 1"
"""Part of every hash, so that a run can be repeated."""
MOST = 1 << 62
"""Counters stop there."""

Longs = npt.NDArray[np.int64]


class Known(NamedTuple):
    """What keys got, one number for each."""

    late: Longs
    """In all ticks, each counting half of the next."""
    ever: Longs
    peak: Longs
    """Largest `late` that was learned."""


class Sketch:
    def __init__(self) -> None:
        self._tables = np.zeros((len(Known._fields), DEPTH, WIDTH), dtype=np.int64)

    def known(self, cells: Longs, ticks: int) -> Known:
        """Of keys at these cells, `ticks` after the latest one learned."""
        rows = self._tables[:, np.arange(DEPTH), cells]
        late, ever, peak = rows.min(axis=2)
        return Known(late >> min(ticks, 63), ever, peak)

    def learn(self, cells: Longs, ticks: int, sent: Longs, learned: Known) -> None:
        """Adds `sent` to what keys got of late, `learned.ever` to what they ever got, and lifts the peak."""
        late, ever, peak = self._tables
        late >>= min(ticks, 63)
        for row in range(DEPTH):
            np.add.at(late[row], cells[:, row], sent)
            np.add.at(ever[row], cells[:, row], learned.ever)
            np.maximum.at(peak[row], cells[:, row], learned.peak)
        np.minimum(self._tables, MOST, out=self._tables)

    def dump(self) -> str:
        """Base64 of little-endian counters, always of one length."""
        return b64encode(self._tables.astype("<i8").tobytes()).decode()

    def load(self, dumped: str) -> None:
        counters = np.frombuffer(b64decode(dumped), dtype="<i8").astype(np.int64)
        self._tables = counters.reshape(self._tables.shape).copy()


def cells_of(keys: Sequence[str]) -> Longs:
    """One line of cells for each key."""
    digests = b"".join(blake2b(key.encode(), digest_size=4 * DEPTH, key=SEED).digest() for key in keys)
    return (np.frombuffer(digests, dtype="<u4").reshape(-1, DEPTH) % WIDTH).astype(np.int64)
