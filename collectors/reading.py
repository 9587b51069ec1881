"""One reading of captures: frames to the meter, its rows to batches, with all that was counted on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from collectors.candidates import Candidates
from collectors.capturefile import CaptureFile, Chunk, Interfaces
from collectors.containers import files_of
from collectors.evicted import merge
from collectors.kernels import entry as e
from collectors.kernels.row_types import Words
from collectors.lanes import Span, lanes, merged, spans
from collectors.metering import Emitted, Meter
from collectors.names import NameBook
from collectors.rows import CUT_FRAME, FIRST_FRAME, to_frame
from collectors.vantage import Views
from collectors.verdicts import SkipCounter
from egress.contracts import Batch, Count, InputTally, ReadSettings, Skipped, Tally
from egress.schema import FLOWS

BATCH_ROWS = 65_536
BATCH_BYTES = 256 << 20
"""A batch is handed on after this much input even if it holds few rows, so that nothing after metering falls behind."""
PROGRESS_BYTES = 8 << 20
"""How much input may pass without a word, or a chunk if that is less: some 10 ms, so that reading can be watched and
stopped."""

OFFERS_AT_ONCE = 16_384

NOTES = {
    "fragments_credited": e.FRAGMENTS_CREDITED,
    "fragments_unknown": e.FRAGMENTS_UNKNOWN,
    "ip_length_from_wire": e.LENGTH_FROM_WIRE,
    "ip_length_beyond_wire": e.LENGTH_BEYOND_WIRE,
}


class Reading:
    """Captures read once: the meter, and what was counted since the last batch."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._step = min(settings.chunk_bytes, PROGRESS_BYTES)
        self._interfaces = Interfaces()
        self._meter = Meter(settings.max_flows, settings.idle_timeout_s)
        self._views = Views()
        self._names = NameBook(settings.resolvers)
        self._skips = SkipCounter()
        self._files: list[CaptureFile] = []
        self._given: list[int] = []
        """The place of each file in what the caller gave."""
        self._merged = {"merged_flows": 0, "merged_rows": 0}
        self._noted: dict[str, int] = {}
        self._faults_given: list[int] = []
        self._offered: list[Emitted] = []
        """Payloads not yet searched for names: a few large searches cost a tenth of a hundred small ones."""
        self._rows: list[pl.DataFrame] = []
        self._nothing = FLOWS.empty()
        """Made once: making it for each chunk cost as much as half of the metering."""
        self._tally = Tally()
        self._whole = Count()
        """Frames of chunks in which none was skipped, not yet in the tally: adding tallies costs ten times as much."""
        self._pending_bytes = 0
        self._unshown_bytes = 0
        self._verdicts: Words = np.empty(0, np.int64)

    def read(self, paths: Sequence[Path]) -> Iterator[Batch]:
        """Flows of all captures in event-time order, in batches of some ten thousand rows."""
        found = lanes(spans(list(files_of(list(paths))), self._settings))
        yield Batch(self._nothing, Tally(inputs=_unread(found)))
        for chunk in merged([self._lane(lane, number) for number, lane in enumerate(found)]):
            self._take(chunk)
            if self._is_batch_due():
                yield self._batch()
            elif self._unshown_bytes >= self._step:
                yield self._progress()
        for emitted in self._meter.finish():
            self._emit(emitted)
            if self._is_batch_due():
                yield self._batch()
        self._pass_on(self._views.settle())
        yield self._batch()

    def _lane(self, inputs: Sequence[Span], lane: int) -> Iterator[Chunk]:
        """One lane's files, one after the other."""
        vantage = 0 if self._settings.is_disjoint else lane
        for span in inputs:
            file = CaptureFile(span.name, span.path, len(self._files), vantage, self._interfaces)
            self._files.append(file)
            self._given.append(span.given)
            self._faults_given.append(0)
            yield from file.read(self._settings)

    def _take(self, chunk: Chunk) -> None:
        frames = chunk.frames
        if self._verdicts.size < frames.offset.size:
            self._verdicts = np.empty(frames.offset.size + frames.offset.size // 8, np.int64)
        verdicts = self._verdicts[: frames.offset.size]
        state = self._meter.state
        skipped_before, wire_before = int(state[e.SKIPPED]), int(state[e.WIRE])
        for emitted in self._meter.take(frames, self._interfaces, verdicts):
            self._emit(emitted)
        read = Count(frames.offset.size, int(state[e.WIRE]) - wire_before)
        if state[e.SKIPPED] != skipped_before:
            skipped, examples = self._skips.count(verdicts, frames, lambda i: self._where(chunk, i))
            lost = sum(skipped.values(), Count())
            metered = Count(read.frames - lost.frames, read.bytes - lost.bytes)
            self._tally += Tally(read, metered, skipped, {}, tuple(examples))
        else:
            self._whole += read
        self._pending_bytes += frames.data.size
        self._unshown_bytes += frames.data.size

    def _where(self, chunk: Chunk, i: int) -> str:
        source = int(chunk.frames.source[i])
        file = self._files[source >> 40].stored.path
        return f"{file}, packet {source & (1 << 40) - 1}, byte {chunk.file_position(i)}"

    def _emit(self, emitted: Emitted) -> None:
        if len(emitted.offers):
            self._offered.append(emitted)
            if sum(len(each.offers) for each in self._offered) >= OFFERS_AT_ONCE:
                self._learn()
        if len(emitted.rows):
            self._pass_on(self._views.add(emitted.rows, emitted.tunnels))

    def _pass_on(self, settled: Sequence[tuple[Words, Words]]) -> None:
        """Settled rows, merged where they were evicted, with their names."""
        for rows, tunnels in settled:
            is_merged = self._meter.has_evicted and bool((rows[:, e.EVICTED] != 0).any())
            frame = self._with_merged(rows, tunnels) if is_merged else to_frame(rows, tunnels, self._paths())
            self._rows.append(self._named(frame))

    def _with_merged(self, rows: Words, tunnels: Words) -> pl.DataFrame:
        is_evicted = rows[:, e.EVICTED] != 0
        small = merge(to_frame(rows[is_evicted], tunnels[is_evicted], self._paths()))
        self._merged["merged_flows"] += int(is_evicted.sum())
        self._merged["merged_rows"] += small.height
        return pl.concat([to_frame(rows[~is_evicted], tunnels[~is_evicted], self._paths()), small])

    def _paths(self) -> list[str]:
        return [file.stored.path for file in self._files]

    def _learn(self) -> None:
        if self._offered:
            self._names.learn(_candidates(self._offered))
            self._offered = []

    def _named(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Columns stay in their order: rows with and without names go into one batch."""
        self._learn()
        return self._names.apply(rows).select(rows.columns)

    def _is_batch_due(self) -> bool:
        waiting = sum(rows.height for rows in self._rows) + self._meter.waiting
        return waiting >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES

    def _progress(self) -> Batch:
        """How far reading has come, without rows."""
        tally = replace(self._counted(), inputs=(_input(self._files[-1]),))
        self._unshown_bytes = 0
        return Batch(self._nothing, tally)

    def _batch(self) -> Batch:
        """What was gathered since the last one."""
        for emitted in self._meter.drain():
            self._emit(emitted)
        flows = pl.concat(self._rows).drop(FIRST_FRAME, CUT_FRAME) if self._rows else self._nothing
        tally = self._counted() + Tally(notes=self._new_notes(), examples=self._new_faults(), inputs=self._inputs())
        self._rows, self._pending_bytes, self._unshown_bytes = [], 0, 0
        return Batch(flows, tally)

    def _counted(self) -> Tally:
        """What was counted since the last time."""
        tally = self._tally + Tally(self._whole, self._whole)
        self._tally, self._whole = Tally(), Count()
        return tally

    def _new_notes(self) -> dict[str, int]:
        totals = {name: int(self._meter.state[place]) for name, place in NOTES.items()}
        totals |= self._merged | dict(self._names.notes)
        totals |= {"seen_again_frames": self._views.seen_frames, "seen_again_bytes": self._views.seen_bytes}
        for file in self._files:
            for name, number in file.notes.items():
                totals[name] = totals.get(name, 0) + number
        new = {name: number - self._noted.get(name, 0) for name, number in totals.items()}
        self._noted = totals
        return {name: number for name, number in new.items() if number}

    def _new_faults(self) -> tuple[Skipped, ...]:
        new = [
            fault for file, given in zip(self._files, self._faults_given, strict=True) for fault in file.faults[given:]
        ]
        self._faults_given = [len(file.faults) for file in self._files]
        return tuple(new)

    def _inputs(self) -> tuple[InputTally, ...]:
        files = sorted(zip(self._given, self._files, strict=True), key=lambda pair: pair[0])
        return tuple(_input(file) for _, file in files)


def _unread(found: Sequence[Sequence[Span]]) -> tuple[InputTally, ...]:
    """Every input in the order in which it was given."""
    every = sorted((span for lane in found for span in lane), key=lambda span: span.given)
    return tuple(InputTally(span.name, "", 0, 0, 0) for span in every)


def _input(file: CaptureFile) -> InputTally:
    return InputTally(file.stored.path, file.stored.sha256, file.stored.bytes, file.frame_count, file.wire_bytes)


def _candidates(offered: Sequence[Emitted]) -> Candidates:
    offers = np.concatenate([each.offers for each in offered])
    sizes = np.array([each.arena.size for each in offered])
    offers[:, e.OFFER_OFFSET] += np.repeat(sizes.cumsum() - sizes, [len(each.offers) for each in offered])
    resolver = offers[:, e.OFFER_RESOLVER : e.OFFER_RESOLVER + 2].astype(">i8").view(np.uint8)
    return Candidates(
        offers[:, e.OFFER_FRAME].copy(),
        offers[:, e.OFFER_FLOW].astype(np.uint64),
        offers[:, e.OFFER_KIND].astype(np.uint8),
        offers[:, e.OFFER_OFFSET].copy(),
        offers[:, e.OFFER_LENGTH].copy(),
        np.ascontiguousarray(resolver),
        np.concatenate([each.arena for each in offered]),
    )
