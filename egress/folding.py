"""Detectors' scores of a state that grows, without judging again what has not changed.

A memo, not a truth: `Fold.scores` gives exactly what `detect.scores_of` gives, whatever it was asked before. Windows
before the first one that changed keep their scores; detectors go back to the newest checkpoint before it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple
from zlib import compress, decompress

import polars as pl

from egress import __version__
from egress.aside import Check, go_on
from egress.cells import DAY_US, HOUR_US
from egress.days import Answers, Day, Frames
from egress.detect import Detectors
from egress.errors import UsageError
from egress.memo import UNCHANGED, first_change
from egress.signals import SCORES, SIGNALS

HOURS, DAYS = 2, 2
"""Checkpoints are kept at the start of so many hours and days of event time, the latest ones."""
CHANGES = 2
"""... and before the first windows that changed of late: the next change is likely to be near the last."""
KEPT = 2
"""Checkpoints in a snapshot: the newest, and the oldest for when something late had come meanwhile."""
LATEST = 2
"""Days whose signals are kept, to see in which window they change; any other is judged again from its midnight."""
NOTHING = -(2**63)
"""Stands for the window before all windows."""

States = tuple[bytes, ...]
"""Saved detectors, in their order."""


class Checkpoint(NamedTuple):
    digest: str
    """Of all signals that they have learned."""
    states: States


class Fold:
    """Detectors, what they said of each window, and their state at a few moments.

    Memory is bounded by the state of detectors times `HOURS + DAYS + CHANGES`, the signals of `LATEST` days, and by the
    scores themselves.
    """

    def __init__(self, detectors: Detectors) -> None:
        self._make = detectors
        self._detectors = tuple(detectors())
        self._learned = NOTHING
        """The last window that the detectors at hand have learned."""
        self._blank = self._saved()
        self._checkpoints: dict[int, Checkpoint] = {}
        """By the last window that they have learned."""
        self._changes: list[int] = []
        self._seen: dict[int, Hashable] = {}
        """By day, the version that was judged."""
        self._rows: dict[int, tuple[Hashable, pl.DataFrame]] = {}
        """Signals of the latest days, with their version."""
        self._starts = Answers()
        self._digests = Answers()
        self._said: dict[int, pl.DataFrame] = {}
        """By window, where anything was said."""
        self._restored: tuple[Mapping[int, Checkpoint], Mapping[int, pl.DataFrame]] | None = None
        self.scored = 0
        """Windows scored so far, each time that one was."""
        self.learned = 0

    def scores(self, days: Sequence[Day], check: Check = go_on) -> pl.DataFrame:
        """Columns of SCORES for days of SIGNALS, each in canonical order; in order of windows and then of detectors.

        `check` is called before each window; the fold is of no use any more once it raised.
        """
        latest = {day.number for day in days[-LATEST:]}
        days = [replace(day, opened=partial(self._opened, day)) if day.number in latest else day for day in days]
        self._recall(days)
        changed = self._first_change(days)
        if changed != UNCHANGED:
            self._judge(days, changed, check)
        self._seen = {day.number: day.version for day in days}
        self._rows = {number: rows for number, rows in self._rows.items() if number in latest}
        return pl.concat([SCORES.empty(), *(self._said[start] for start in sorted(self._said))])

    def snapshot(self) -> bytes:
        """What `restore` takes: a few checkpoints, each with the digest of the signals that it rests on."""
        kept = sorted(self._checkpoints)
        kept = kept[-1:] + kept[: KEPT - 1] if len(kept) > 1 else kept
        newest = max(kept, default=NOTHING)
        said = {start: self._said[start] for start in sorted(self._said) if start <= newest}
        value = {
            "version": self._version(),
            "checkpoints": {
                str(after): [checkpoint.digest, *map(_text, checkpoint.states)]
                for after, checkpoint in ((after, self._checkpoints[after]) for after in kept)
            },
            "said": _text(_bytes(pl.concat([SCORES.empty(), *said.values()]))),
            "rows": [[start, frame.height] for start, frame in said.items()],
        }
        return compress(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), 1)

    def restore(self, state: bytes) -> None:
        """Takes what it can use: signals that differ from those of the snapshot are judged anew, from where they do.

        Raises UsageError for another version's state, or for none.
        """
        try:
            value = json.loads(decompress(state))
            found = value["version"]
            checkpoints = {
                int(after): Checkpoint(str(digest), tuple(map(b64decode, states)))
                for after, (digest, *states) in value["checkpoints"].items()
            }
            said = _divided(pl.read_ipc(BytesIO(b64decode(value["said"]))), value["rows"])
        except Exception as problem:  # zlib, JSON, Arrow and Polars have no common class
            raise UsageError(f"saved scores cannot be read ({problem}); start without them") from problem
        if found != self._version():
            raise UsageError(f"saved scores are of {found}, {self._version()} needed; start without them")
        self._restored = checkpoints, said

    def _version(self) -> str:
        return f"{__version__} polars {pl.__version__} {' '.join(each.name for each in self._detectors)}"

    def _opened(self, day: Day) -> pl.DataFrame:
        if day.number not in self._rows or self._rows[day.number][0] != day.version:
            self._rows[day.number] = day.version, day.opened()
        return self._rows[day.number][1]

    def _recall(self, days: Sequence[Day]) -> None:
        """Takes up the newest restored checkpoint that rests on these very signals."""
        if self._restored is None:
            return
        (checkpoints, said), self._restored = self._restored, None
        self._checkpoints = {
            after: checkpoint
            for after, checkpoint in checkpoints.items()
            if self._digest(days, after) == checkpoint.digest
        }
        if not self._checkpoints:
            return
        newest = max(self._checkpoints)
        self._seen = {day.number: day.version for day in days if day.number < newest // DAY_US}
        self._said = {start: frame for start, frame in said.items() if start <= newest}
        for day in days:
            if day.number == newest // DAY_US:
                self._seen[day.number], self._rows[day.number] = None, (None, _until(day.opened(), newest))
        self._go_to(newest)

    def _digest(self, days: Sequence[Day], after: int) -> str:
        """Of all signals until the window `after`."""
        number = after // DAY_US
        before = self._digests.of([day for day in days if day.number < number], _digests, None)
        last = [_until(day.opened(), after) for day in days if day.number == number]
        return _digest(pl.concat([found for (found,) in [_digests(SIGNALS.empty()), *before, *map(_digests, last)]]))

    def _first_change(self, days: Sequence[Day]) -> int:
        now = {day.number: day for day in days}
        for number in sorted(now.keys() | self._seen.keys()):
            if number not in now or number not in self._seen or now[number].version != self._seen[number]:
                changed = self._change_of(number, now.get(number))
                if changed != UNCHANGED:
                    return changed
        return UNCHANGED

    def _change_of(self, number: int, day: Day | None) -> int:
        before = SIGNALS.empty()
        if number in self._seen:
            if number not in self._rows:
                return number * DAY_US
            _, before = self._rows[number]
        after = SIGNALS.empty() if day is None else day.opened()
        return first_change(before, after, "window_start")

    def _judge(self, days: Sequence[Day], changed: int, check: Check) -> None:
        """Everything from `changed` on, by detectors that have learned all before it and nothing else."""
        self._said = {start: said for start, said in self._said.items() if start < changed}
        self._checkpoints = {after: saved for after, saved in self._checkpoints.items() if after < changed}
        if self._learned >= changed:
            self._go_to(max(self._checkpoints, default=NOTHING))
        starts = [start for (found,) in self._starts.of(days, _starts, None) for start in found["window_start"]]
        wanted = self._wanted(starts, changed)
        self._checkpoints = {after: saved for after, saved in self._checkpoints.items() if after in wanted}
        for start, window in self._left(days):
            check()
            if start >= changed:
                self._score(start, window)
            if start == starts[-1]:
                break  # nothing comes after the last, so it is not learned
            if self._learned in wanted and self._learned not in self._checkpoints:
                self._checkpoints[self._learned] = Checkpoint(self._digest(days, self._learned), self._saved())
            self._learn(start, window)

    def _left(self, days: Sequence[Day]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Windows that are not learned yet, day by day."""
        learned = self._learned
        for day in days:
            if (day.number + 1) * DAY_US > learned:
                left = day.opened().filter(_start() > learned)
                for window in left.partition_by("window_start", maintain_order=True):
                    yield int(window["window_start"].cast(pl.Int64)[0]), window

    def _score(self, start: int, window: pl.DataFrame) -> None:
        said = [detector.score(window) for detector in self._detectors]
        self.scored += 1
        if any(each.height for each in said):
            self._said[start] = pl.concat(said)

    def _learn(self, start: int, window: pl.DataFrame) -> None:
        for detector in self._detectors:
            detector.learn(window)
        self.learned += 1
        self._learned = start

    def _go_to(self, after: int) -> None:
        states = self._checkpoints[after].states if after in self._checkpoints else self._blank
        for detector, state in zip(self._detectors, states, strict=True):
            detector.restore(state)
        self._learned = after

    def _saved(self) -> States:
        return tuple(detector.snapshot() for detector in self._detectors)

    def _wanted(self, starts: Sequence[int], changed: int) -> set[int]:
        """Windows after which a checkpoint is worth its room: before the last hours, days and changes."""
        before = {start: last for last, start in pairwise(starts)}
        begins = [*_begins(starts, HOUR_US, HOURS), *_begins(starts, DAY_US, DAYS)]
        last = max((start for start in starts if start < changed), default=NOTHING)
        self._changes = [*(each for each in self._changes if each < changed), last][-CHANGES:]
        return {before.get(start, NOTHING) for start in begins} | set(self._changes)


def _begins(starts: Sequence[int], span: int, most: int) -> list[int]:
    """The first window of each of the last spans that have any."""
    return [next(group) for _, group in groupby(starts, key=lambda start: start // span)][-most:]


def _start() -> pl.Expr:
    return pl.col("window_start").cast(pl.Int64)


def _starts(rows: pl.DataFrame) -> Frames:
    return (rows.select(_start().unique(maintain_order=True)),)


def _digests(rows: pl.DataFrame) -> Frames:
    return (pl.DataFrame({"digest": [_digest(rows)]}),)


def _until(signals: pl.DataFrame, last: int) -> pl.DataFrame:
    return signals.filter(_start() <= last)


def _divided(said: pl.DataFrame, rows: Sequence[tuple[int, int]]) -> dict[int, pl.DataFrame]:
    """By window again: a score's own `window_start` may be that of a longer window."""
    ends = accumulate(height for _, height in rows)
    return {start: said[end - height : end] for (start, height), end in zip(rows, ends, strict=True)}


def _digest(frame: pl.DataFrame) -> str:
    return sha256(_bytes(frame)).hexdigest()


def _bytes(frame: pl.DataFrame) -> bytes:
    kept = BytesIO()
    frame.rechunk().write_ipc(kept)
    return kept.getvalue()


def _text(state: bytes) -> str:
    return b64encode(state).decode()
