"""Several captures as one: files that continue each other form a lane, lanes that overlap are merged by time.

A lane is a vantage point. Lanes are merged by their running latest time, stable and with the lane's number for ties,
so that the order of frames does not depend on where chunks end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from collectors.capturefile import CaptureFile, Chunk, Interfaces, Stretch
from collectors.kernels.entry import Frames
from collectors.kernels.row_types import Words
from egress.contracts import ReadSettings

OVERLAP_US = 1_000_000
"""A file that begins up to a second before another ended still continues it: writers buffer, clocks are stepped.

Never by more than half of the shorter one, though: two captures of one short transfer are two views of it.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """One input and when it was captured; `first` None: no packets, or a stream that cannot be read twice."""

    name: str
    path: Path
    given: int
    first: int | None = None
    last: int | None = None


def spans(files: Sequence[tuple[str, Path]], settings: ReadSettings) -> list[Span]:
    """When each file begins and ends; read in advance only where there are several."""
    if len(files) == 1:
        return [Span(files[0][0], files[0][1], 0)]
    return [_span(name, path, given, settings) for given, (name, path) in enumerate(files)]


def _span(name: str, path: Path, given: int, settings: ReadSettings) -> Span:
    if not path.is_file():  # standard input and pipes
        return Span(name, path, given)
    first = last = None
    settings = replace(settings, is_hashed=False)
    for chunk in CaptureFile(name, path, 0, 0, Interfaces()).read(settings):
        first = int(chunk.frames.time[0]) if first is None else first
        last = int(chunk.clock[-1])
    return Span(name, path, given, first, last)


def lanes(inputs: Sequence[Span]) -> list[list[Span]]:
    """Inputs in order of their first packet, each appended to the lane that it continues."""
    ordered = sorted(inputs, key=lambda span: (span.first is None, span.first or 0, span.given))
    found: list[list[Span]] = []
    for span in ordered:
        fitting = [lane for lane in found if _continues(lane[-1], span)]
        if fitting:
            max(fitting, key=lambda lane: (_likeness(lane[-1].name, span.name), lane[-1].last or 0)).append(span)
        else:
            found.append([span])
    return found


def _continues(earlier: Span, later: Span) -> bool:
    if later.first is None:  # an empty file disturbs no one; a stream may overlap anything
        return later.path.is_file()
    if earlier.first is None or earlier.last is None or later.last is None:
        return False
    shorter = min(earlier.last - earlier.first, later.last - later.first)
    return earlier.last - later.first <= min(OVERLAP_US, shorter // 2)


def _likeness(a: str, b: str) -> int:
    """Letters that two names share at their beginning: rotated files of one tap differ only at the end."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass(slots=True)
class _Ahead:
    """A lane's chunk in hand, used up to `used`."""

    chunks: Iterator[Chunk]
    chunk: Chunk | None = None
    used: int = 0

    def is_ready(self) -> bool:
        """True with frames in hand, fetching the next chunk if need be; False at the end."""
        if self.chunk is None or self.used >= self.chunk.clock.size:
            self.chunk, self.used = next(self.chunks, None), 0
        return self.chunk is not None


def merged(sources: Sequence[Iterator[Chunk]]) -> Iterator[Chunk]:
    """Chunks of all lanes as chunks in time order."""
    if len(sources) == 1:
        yield from sources[0]
        return
    waiting = [_Ahead(source) for source in sources]
    while True:
        ready = [(number, ahead) for number, ahead in enumerate(waiting) if ahead.is_ready()]
        if not ready:
            return
        bound = min((int(ahead.chunk.clock[-1]), number) for number, ahead in ready if ahead.chunk is not None)
        taken = [(number, ahead, _until(ahead, number, bound)) for number, ahead in ready]
        yield _interleaved([(ahead, until) for _, ahead, until in taken])
        for _, ahead, until in taken:
            ahead.used = until


def _until(ahead: _Ahead, number: int, bound: tuple[int, int]) -> int:
    """How far this lane may go: nothing later in any lane sorts before."""
    assert ahead.chunk is not None
    time, lane = bound
    if number <= lane:
        return int(np.searchsorted(ahead.chunk.clock, time, "right"))
    return int(np.searchsorted(ahead.chunk.clock, time, "left"))


def _interleaved(parts: Sequence[tuple[_Ahead, int]]) -> Chunk:
    """The chosen frames of each lane's chunk, one buffer, sorted by clock."""
    pieces = [(ahead.chunk, ahead.used, until) for ahead, until in parts if ahead.chunk is not None]
    pieces = [piece for piece in pieces if piece[1] < piece[2]]
    if len(pieces) == 1:
        chunk, start, stop = pieces[0]
        frames = Frames(chunk.frames.data, *(words[start:stop] for words in chunk.frames[1:]))
        return Chunk(frames, chunk.clock[start:stop], chunk.stretches)
    clock = np.concatenate([chunk.clock[start:stop] for chunk, start, stop in pieces])
    order = np.argsort(clock, kind="stable")
    data, offsets, stretches, filled = [], [], [], 0
    for chunk, start, stop in pieces:
        offset, captured = chunk.frames.offset[start:stop], chunk.frames.captured[start:stop]
        low, high = int(offset[0]), int(offset[-1] + captured[-1])
        data.append(chunk.frames.data[low:high])
        offsets.append(offset - low + filled)
        stretches += [Stretch(s.begin - low + filled, s.file_at) for s in chunk.stretches]
        filled += high - low
    others = [_joined(pieces, place, order) for place in range(2, len(Frames._fields))]
    return Chunk(Frames(np.concatenate(data), np.concatenate(offsets)[order], *others), clock[order], tuple(stretches))


def _joined(pieces: Sequence[tuple[Chunk, int, int]], place: int, order: Words) -> Words:
    return np.concatenate([chunk.frames[place][start:stop] for chunk, start, stop in pieces])[order]
