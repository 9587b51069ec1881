"""What clients say whom they want: SNI of TLS and QUIC, Host of HTTP/1, by conversation.

A hello may take two segments or datagrams, and a chunk may end between them: what is cut short waits for its second
part. How long it waits is counted in candidates, so that where chunks end changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from collectors.candidates import (
    DNS,
    QUIC,
    TCP,
    Candidates,
    compact,
    concat,
    from_payloads,
    join_payloads,
)
from collectors.hostname import texts
from collectors.kernels.hello import Mask, read_hellos
from collectors.kernels.row_types import Bytes, Words
from collectors.kernels.spelling import PLAIN
from collectors.kernels.tls import CUT, FOUND

MAX_WAITING = 16_384
"""A second part further behind than this many candidates of its kind comes too late. 2 kB each: 32 MB at most."""

MAX_QUIC = 200_000
"""QUIC packets decrypted in one reading, about 60 us each; what comes after them is counted as `quic_unread`."""

NO_EVENTS = pl.DataFrame(schema={"frame": pl.Int64, "flow": pl.UInt64, "name": pl.String, "name_from": pl.String})


class HelloReader:
    """Reads the candidates of kinds TCP and QUIC, chunk after chunk."""

    def __init__(self) -> None:
        self._tcp = _Segments.none()
        self._tcp_seen = 0
        self._quic: dict[int, tuple[int, bytes]] = {}
        self._quic_seen = 0

    @property
    def quic_unread(self) -> int:
        return max(0, self._quic_seen - MAX_QUIC)

    def read(self, candidates: Candidates) -> pl.DataFrame:
        """Columns of `NO_EVENTS`, in order of frame."""
        if not (candidates.kind != DNS).any():
            return NO_EVENTS
        read = [*self._read_tcp(candidates.of_kind(TCP)), self._read_quic(candidates.of_kind(QUIC))]
        events = [each for each in read if each.height]
        if not events:
            return NO_EVENTS
        return pl.concat(events).filter(pl.col("name") != "").sort("frame", maintain_order=True)

    def _read_tcp(self, new: Candidates) -> list[pl.DataFrame]:
        """Each segment alone, then those that were cut short together with what followed them."""
        order = self._tcp_seen + np.arange(new.frame.size, dtype=np.int64)
        self._tcp_seen += new.frame.size
        state, alone = _read(new)
        is_open = state != FOUND
        if not is_open.any():
            return [alone]
        segments = self._tcp.followed_by(new.take(is_open), state[is_open] == CUT, order[is_open])
        together, is_used = segments.joined()
        is_waiting = segments.is_cut & ~is_used & (segments.order > self._tcp_seen - MAX_WAITING)
        self._tcp = segments.take(is_waiting)
        return [alone, _read(together)[1]]

    def _read_quic(self, new: Candidates) -> pl.DataFrame:
        if new.frame.size == 0:
            return NO_EVENTS
        # Imported here: cryptography takes 50 ms, and few captures need it.
        from collectors.quic import server_name

        names: list[bytes] = []
        taken: list[int] = []
        for i in range(new.frame.size):
            self._quic_seen += 1
            if self._quic_seen > MAX_QUIC:
                continue
            flow, datagram = int(new.flow[i]), new.payload(i)
            seen, before = self._quic.pop(flow, (0, b""))
            is_second = before != b"" and self._quic_seen - seen < MAX_WAITING
            state, name = server_name([before, datagram] if is_second else [datagram])
            if state == FOUND:
                names.append(name)
                taken.append(i)
            elif state == CUT and not is_second:
                self._quic[flow] = (self._quic_seen, datagram)
        self._forget_quic()
        length = np.array([len(name) for name in names], np.int64)
        raw = np.frombuffer(bytearray(b"".join(names)), np.uint8)
        text = texts(raw, length.cumsum() - length, length, PLAIN)
        return _events(new.frame[taken], new.flow[taken], text, np.ones(len(taken), np.bool_))

    def _forget_quic(self) -> None:
        while self._quic:
            flow, (seen, _) = next(iter(self._quic.items()))
            if self._quic_seen - seen < MAX_WAITING:
                return
            del self._quic[flow]


@dataclass(frozen=True, slots=True)
class _Segments:
    """TCP candidates that gave no name alone."""

    candidates: Candidates
    is_cut: Mask
    """True: what is there fits, so the next segment may complete it."""
    order: Words
    """Counts candidates of kind TCP over the whole reading."""

    @staticmethod
    def none() -> _Segments:
        return _Segments(from_payloads([]), np.empty(0, np.bool_), np.empty(0, np.int64))

    def take(self, mask: Mask) -> _Segments:
        return _Segments(compact(self.candidates.take(mask)), self.is_cut[mask], self.order[mask])

    def followed_by(self, new: Candidates, is_cut: Mask, order: Words) -> _Segments:
        if self.order.size == 0:
            return _Segments(new, is_cut, order)
        together = concat(self.candidates, new)
        return _Segments(together, np.concatenate([self.is_cut, is_cut]), np.concatenate([self.order, order]))

    def joined(self) -> tuple[Candidates, Mask]:
        """First and second segment as one payload at the second's frame, and which segments were a first one."""
        flow = self.candidates.flow
        by_flow = np.lexsort((self.order, flow))
        first, second = by_flow[:-1], by_flow[1:]
        is_pair = (flow[first] == flow[second]) & self.is_cut[first]
        is_pair &= self.order[second] - self.order[first] < MAX_WAITING
        first, second = first[is_pair], second[is_pair]
        is_used = np.zeros(flow.size, np.bool_)
        is_used[first] = True
        return join_payloads(self.candidates, first, second), is_used


def _read(candidates: Candidates) -> tuple[Bytes, pl.DataFrame]:
    """Per candidate `tls.ABSENT | FOUND | CUT`, and the events of those found."""
    count = candidates.frame.size
    state, is_sni = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
    start, length = np.zeros(count, np.int64), np.zeros(count, np.int64)
    raw = np.empty(int(candidates.length.sum()), np.uint8)
    if count:
        read_hellos(candidates.arena, candidates.offset, candidates.length, raw, state, is_sni, start, length)
    found = state == FOUND
    if not found.any():
        return state, NO_EVENTS
    names = texts(raw, start[found], length[found], PLAIN)
    return state, _events(candidates.frame[found], candidates.flow[found], names, is_sni[found])


def _events(frame: Words, flow: npt.NDArray[np.uint64], names: pl.Series, is_sni: Mask) -> pl.DataFrame:
    name_from = pl.when(pl.Series(is_sni)).then(pl.lit("sni")).otherwise(pl.lit("host")).alias("name_from")
    return pl.DataFrame([pl.Series("frame", frame), pl.Series("flow", flow), names]).with_columns(name_from)
