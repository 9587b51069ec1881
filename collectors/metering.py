"""The meter: the flow table with everything that happens between frames, driving the compiled pass."""

from __future__ import annotations

import mmap as mmap_module
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from collectors.capturefile import Interfaces
from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.entry import Frames, Output, Scratch, Table
from collectors.kernels.flowtable import GONE, KEY_SIZE, compact, cut_all, retire
from collectors.kernels.fragments import RING
from collectors.kernels.fragments import WIDTH as FRAGMENT_WIDTH
from collectors.kernels.meter import BLOCK, DONE, NEEDS_TUNNELS, NEW_EPOCH, OUTPUT_FULL, SWEEP, TABLE_FULL, meter
from collectors.kernels.row_types import Bytes, Words

FIRST_CAPACITY = 4_096
ROWS = 65_536
OFFERS = 4_096
ARENA_BYTES = 1 << 20
LARGE_PAGE = 2 << 20
SWEEP_FRAMES = 262_144
"""Frames between two looks for idle conversations, at least; four times as many as there are conversations."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """What some stretch of metering gave back; rows and tunnels are good until the next is asked for."""

    rows: Words
    tunnels: Words
    offers: Words
    arena: Bytes


class Meter:
    """Takes frames in order, gives rows. What it does depends on the order of the frames alone."""

    def __init__(self, max_flows: int, idle_timeout_s: int) -> None:
        self.max_flows = max(max_flows, 16)
        self.has_evicted = False
        self.state: Words = np.zeros(e.STATE_SIZE, np.int64)
        self.state[e.IDLE_US] = idle_timeout_s * 1_000_000
        self.state[e.FIRST_VANTAGE] = -1
        self.state[e.SWEEP_AT] = SWEEP_FRAMES
        self.state[e.LOWEST] = self.state[e.CLOCK] = np.iinfo(np.int64).max
        self.state[e.CLOCK] = np.iinfo(np.int64).min // 2
        self.state[[e.ROW_ROOM, e.OFFER_ROOM, e.ARENA_ROOM]] = ROWS, OFFERS, ARENA_BYTES
        seeds = np.frombuffer(secrets.token_bytes(32), np.int64).copy()
        capacity = min(FIRST_CAPACITY, self.max_flows)
        self._note_capacity(capacity)
        self._table = Table(
            _entries(capacity),
            np.zeros((0, e.TUNNEL_WIDTH), np.int64),
            _zeros(_index_size(capacity)),
            self.state,
            seeds,
            np.zeros((RING, FRAGMENT_WIDTH), np.int64),
            np.zeros(2 * RING, np.int64),
        )
        self._scratch = Scratch(
            *(np.zeros(size, np.int64) for size in (2 * BLOCK * p.SIZE, 2 * BLOCK * KEY_SIZE, p.SIZE, FRAGMENT_WIDTH))
        )
        self._out = Output(
            np.empty((ROWS, e.ROW_WIDTH), np.int64),
            np.zeros((ROWS, e.TUNNEL_WIDTH), np.int64),
            np.empty((OFFERS, e.OFFER_WIDTH), np.int64),
            np.empty(ARENA_BYTES, np.uint8),
        )

    def take(self, frames: Frames, interfaces: Interfaces, verdicts: Words) -> Iterator[Emitted]:
        """Meter a chunk; `verdicts` gets a word per frame, 0 where it was metered."""
        links = np.array(interfaces.links, np.int64)
        vantages = np.array(interfaces.vantages, np.int64)
        at, reason = 0, OUTPUT_FULL
        while reason != DONE:
            reason, at = meter(self._table, self._out, self._scratch, frames, at, links, vantages, verdicts)
            if reason == SWEEP:
                yield from self._sweep()
            elif reason == TABLE_FULL:
                yield from self._make_room()
            elif reason == NEW_EPOCH:
                yield from self._new_epoch(int(frames.time[at]))
            elif reason == NEEDS_TUNNELS:
                self._table = self._table._replace(tunnels=_tunnels(self._table.entries.shape[0]))
                self.state[e.HAS_TUNNELS] = 1
            elif reason == OUTPUT_FULL:
                yield from self.drain(is_full=True)

    def finish(self) -> Iterator[Emitted]:
        """Everything that is still open, as final parts."""
        yield from self._retire(everything=True)
        yield from self.drain()

    @property
    def waiting(self) -> int:
        """Rows that are ready to be drained."""
        return int(self.state[e.ROWS])

    def drain(self, is_full: bool = False) -> Iterator[Emitted]:
        """What is ready; where only the room for offers `is_full`, rows stay: a few large drains cost less."""
        rows, offers, arena = (int(self.state[place]) for place in (e.ROWS, e.OFFERS, e.ARENA))
        if is_full and rows <= ROWS // 2:
            rows = 0
        self.state[[e.OFFERS, e.ARENA]] = 0
        self.state[e.ROWS] -= rows
        if rows or offers:
            out = self._out
            yield Emitted(out.rows[:rows], out.row_tunnels[:rows], out.offers[:offers].copy(), out.arena[:arena].copy())

    def _sweep(self) -> Iterator[Emitted]:
        state = self.state
        clock = state[e.CLOCK]
        if state[e.LOWEST] != np.iinfo(np.int64).max:
            state[e.CLOCK] = max(clock, state[e.LOWEST])
        state[e.LOWEST] = np.iinfo(np.int64).max
        if state[e.CLOCK] - clock >= e.PART_US:  # nothing becomes idle sooner
            yield from self._retire(everything=False)
        else:
            state[e.CLOCK] = clock
        state[e.SWEEP_AT] = state[e.FRAME] + max(SWEEP_FRAMES, 4 * state[e.COUNT])

    def _retire(self, everything: bool) -> Iterator[Emitted]:
        while not retire(self._table, self._out, everything):
            yield from self.drain()
        if self.state[e.RETIRED]:
            compact(self._table)

    def _new_epoch(self, time: int) -> Iterator[Emitted]:
        while not cut_all(self._table, self._out):
            yield from self.drain()
        self.state[e.EPOCH_NUMBER] += 1
        self.state[e.EPOCH_BUCKET] = time // e.PART_US
        self.state[e.EPOCH_FRAME] = self.state[e.FRAME]

    def _make_room(self) -> Iterator[Emitted]:
        """Retire what is idle; then a larger table; at the limit, the smaller half goes."""
        yield from self._sweep()
        capacity = self._table.entries.shape[0]
        if self.state[e.COUNT] <= capacity * 3 // 4:
            return
        if capacity < self.max_flows:
            self._grow(min(2 * capacity, self.max_flows))
        elif self.state[e.COUNT] >= capacity:
            yield from self._evict()

    def _grow(self, capacity: int) -> None:
        old, count = self._table, int(self.state[e.COUNT])
        entries = _entries(capacity)
        entries[:count] = old.entries[:count]
        tunnels = old.tunnels
        if tunnels.shape[0]:
            tunnels = _tunnels(capacity)
            tunnels[:count] = old.tunnels[:count]
        self._table = old._replace(entries=entries, tunnels=tunnels, places=_zeros(_index_size(capacity)))
        self._note_capacity(capacity)
        compact(self._table)

    def _note_capacity(self, capacity: int) -> None:
        self.state[e.CAPACITY] = capacity
        self.state[e.INDEX_MASK] = _index_size(capacity) - 1

    def _evict(self) -> Iterator[Emitted]:
        """Emit the half of the conversations that carried least, a slice at a time; ties go by age in the table."""
        yield from self.drain()
        self.has_evicted = True
        entries = self._table.entries[: int(self.state[e.COUNT])]
        carried = entries[:, e.BYTES] + entries[:, e.BYTES + 1]
        chosen = np.sort(np.argsort(carried, kind="stable")[: max(1, len(entries) // 2)])
        open_parts = chosen[entries[chosen, e.PACKETS] != 0]
        for start in range(0, len(open_parts), ROWS):
            yield self._evicted(open_parts[start : start + ROWS])
        entries[chosen, e.FIRST_FRAME] = GONE
        compact(self._table)

    def _evicted(self, chosen: Words) -> Emitted:
        rows = np.zeros((len(chosen), e.ROW_WIDTH), np.int64)
        rows[:, : e.WIDTH] = self._table.entries[chosen]
        rows[:, [e.FINAL, e.EVICTED]] = 1
        rows[:, e.EPOCH] = self.state[e.EPOCH_NUMBER]
        rows[:, e.CUT_FRAME] = self.state[e.FRAME]
        tunnels = np.zeros((len(chosen), e.TUNNEL_WIDTH), np.int64)
        if self._table.tunnels.shape[0]:
            tunnels = np.where(rows[:, e.TUNNEL, None] != 0, self._table.tunnels[chosen], 0)
        return Emitted(rows, tunnels, np.empty((0, e.OFFER_WIDTH), np.int64), np.empty(0, np.uint8))


def _zeros(words: int) -> Words:
    """Zeroed memory on large pages where there are any: addresses of 60,000 conversations in 4 kB pages do not fit the
    processor's cache of them, which doubled the time per packet."""
    room = mmap(-1, max(words, 1) * 8, mmap_module.MAP_PRIVATE | mmap_module.MAP_ANONYMOUS)
    if words * 8 >= LARGE_PAGE and hasattr(mmap_module, "MADV_HUGEPAGE"):
        with suppress(OSError):
            room.madvise(mmap_module.MADV_HUGEPAGE)
    return np.frombuffer(room, np.int64, words)


def _entries(capacity: int) -> Words:
    return _zeros(capacity * e.WIDTH).reshape(capacity, e.WIDTH)


def _tunnels(capacity: int) -> Words:
    return np.zeros((capacity, e.TUNNEL_WIDTH), np.int64)


def _index_size(capacity: int) -> int:
    """Power of two, at most a quarter full: going on to the next place is what the processor guesses wrong."""
    return 1 << (4 * capacity - 1).bit_length()
