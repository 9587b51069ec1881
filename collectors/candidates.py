"""The few payloads of a capture that can carry a name, copied out of it by the meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collectors.kernels.hello import Mask, copy_payloads
from collectors.kernels.row_types import Bytes, Words

DNS, TCP, QUIC = 1, 2, 3
"""`kind`: a DNS response over UDP; first payload that a TCP client sent; a long-header packet of a QUIC client."""

MAX_BYTES = 2048
"""Captured bytes copied of one payload."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Parallel arrays, in the order of `frame`; payload i is `arena[offset[i] : offset[i] + length[i]]`.

    At most two of kind TCP and two of kind QUIC a conversation. The first TCP one is left out where its first byte
    begins neither a ClientHello nor an HTTP request. The second is the segment that follows the first in sequence, and
    there is none where the first was cut by the snap length or by `MAX_BYTES`.
    """

    frame: Words
    """Number of the frame within the whole reading, all inputs counted through."""
    flow: npt.NDArray[np.uint64]
    """`flow_id` of the conversation; 0 for DNS."""
    kind: Bytes
    offset: Words
    length: Words
    resolver: Bytes
    """(n, 16): who sent the DNS response; zeros for the other kinds."""
    arena: Bytes

    def of_kind(self, kind: int) -> Candidates:
        return self.take(self.kind == kind)

    def take(self, which: Mask | Words) -> Candidates:
        return Candidates(
            self.frame[which],
            self.flow[which],
            self.kind[which],
            self.offset[which],
            self.length[which],
            self.resolver[which],
            self.arena,
        )

    def payload(self, i: int) -> bytes:
        return self.arena[self.offset[i] : self.offset[i] + self.length[i]].tobytes()


def from_payloads(payloads: Sequence[tuple[int, int, int, bytes, bytes]]) -> Candidates:
    """Candidates of (frame, flow, kind, payload, resolver) in order of frame; `resolver` is b"" for none."""
    length = np.array([len(payload) for _, _, _, payload, _ in payloads], np.int64)
    resolvers = b"".join(resolver.rjust(16, b"\0") for *_, resolver in payloads)
    return Candidates(
        np.array([frame for frame, *_ in payloads], np.int64),
        np.array([flow for _, flow, *_ in payloads], np.uint64),
        np.array([kind for _, _, kind, *_ in payloads], np.uint8),
        length.cumsum() - length,
        length,
        np.frombuffer(bytearray(resolvers), np.uint8).reshape(-1, 16),
        np.frombuffer(bytearray(b"".join(payload for *_, payload, _ in payloads)), np.uint8),
    )


def concat(a: Candidates, b: Candidates) -> Candidates:
    return Candidates(
        np.concatenate([a.frame, b.frame]),
        np.concatenate([a.flow, b.flow]),
        np.concatenate([a.kind, b.kind]),
        np.concatenate([a.offset, b.offset + a.arena.size]),
        np.concatenate([a.length, b.length]),
        np.concatenate([a.resolver, b.resolver]),
        np.concatenate([a.arena, b.arena]),
    )


def compact(candidates: Candidates) -> Candidates:
    """The same with an arena that holds nothing else, so that it can be kept without keeping a chunk's."""
    ends = candidates.length.cumsum()
    arena = np.empty(int(candidates.length.sum()), np.uint8)
    copy_payloads(candidates.arena, candidates.offset, candidates.length, arena, ends - candidates.length)
    return replace(candidates, offset=ends - candidates.length, arena=arena)


def join_payloads(candidates: Candidates, first: Words, second: Words) -> Candidates:
    """Candidates `second`, each with the payload of its `first` in front."""
    a, b = candidates.length[first], candidates.length[second]
    ends = (a + b).cumsum()
    arena = np.empty(int((a + b).sum()), np.uint8)
    copy_payloads(candidates.arena, candidates.offset[first], a, arena, ends - a - b)
    copy_payloads(candidates.arena, candidates.offset[second], b, arena, ends - b)
    return replace(candidates.take(second), offset=ends - a - b, length=a + b, arena=arena)
