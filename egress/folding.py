"""Detectors' scores of a state that grows, without judging again what has not changed.

A memo, not a truth: `Fold.scores` gives exactly what `detect.scores_of` gives, whatever it was asked before. Windows
before the first one that changed keep their scores; detectors go back to the newest checkpoint before it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from itertools import accumulate, groupby, pairwise
from zlib import compress, decompress

import polars as pl

from egress import __version__
from egress.aside import Check, go_on
from egress.cells import DAY_US, HOUR_US
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
NOTHING = -(2**63)
"""Stands for the window before all windows."""

States = tuple[bytes, ...]
"""Saved detectors, in their order."""


class Fold:
    """Detectors, what they said of each window, and their state at a few moments.

    Memory is bounded by the state of detectors times `HOURS + DAYS + CHANGES`, and by the scores themselves.
    """

    def __init__(self, detectors: Detectors) -> None:
        self._make = detectors
        self._detectors = tuple(detectors())
        self._learned = NOTHING
        """The last window that the detectors at hand have learned."""
        self._blank = self._saved()
        self._checkpoints: dict[int, States] = {}
        """By the last window that they have learned."""
        self._changes: list[int] = []
        self._seen = SIGNALS.empty()
        self._said: dict[int, pl.DataFrame] = {}
        """By window, where anything was said."""
        self._restored: tuple[Mapping[int, str], Mapping[int, States], Mapping[int, pl.DataFrame]] | None = None
        self.scored = 0
        """Windows scored so far, each time that one was."""
        self.learned = 0

    def scores(self, signals: pl.DataFrame, check: Check = go_on) -> pl.DataFrame:
        """Columns of SCORES for SIGNALS in canonical order, in order of windows and then of detectors.

        `check` is called before each window; the fold is of no use any more once it raised.
        """
        self._recall(signals)
        changed = first_change(self._seen, signals, "window_start")
        if changed != UNCHANGED:
            self._judge(signals, changed, check)
        self._seen = signals
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
                str(after): [_digest(_until(self._seen, after)), *(_text(state) for state in self._checkpoints[after])]
                for after in kept
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
            digests = {int(after): str(saved[0]) for after, saved in value["checkpoints"].items()}
            states = {int(after): tuple(map(b64decode, saved[1:])) for after, saved in value["checkpoints"].items()}
            said = _divided(pl.read_ipc(BytesIO(b64decode(value["said"]))), value["rows"])
        except Exception as problem:  # zlib, JSON, Arrow and Polars have no common class
            raise UsageError(f"saved scores cannot be read ({problem}); start without them") from problem
        if found != self._version():
            raise UsageError(f"saved scores are of {found}, {self._version()} needed; start without them")
        self._restored = digests, states, said

    def _version(self) -> str:
        return f"{__version__} polars {pl.__version__} {' '.join(each.name for each in self._detectors)}"

    def _recall(self, signals: pl.DataFrame) -> None:
        """Takes up the newest restored checkpoint that rests on these very signals."""
        if self._restored is None:
            return
        (digests, states, said), self._restored = self._restored, None
        usable = [after for after, digest in digests.items() if _digest(_until(signals, after)) == digest]
        if not usable:
            return
        newest = max(usable)
        self._seen = _until(signals, newest)
        self._checkpoints = {after: states[after] for after in usable}
        self._said = {start: frame for start, frame in said.items() if start <= newest}
        self._go_to(newest)

    def _judge(self, signals: pl.DataFrame, changed: int, check: Check) -> None:
        """Everything from `changed` on, by detectors that have learned all before it and nothing else."""
        self._said = {start: said for start, said in self._said.items() if start < changed}
        self._checkpoints = {after: saved for after, saved in self._checkpoints.items() if after < changed}
        if self._learned >= changed:
            self._go_to(max(self._checkpoints, default=NOTHING))
        starts = signals["window_start"].unique(maintain_order=True).cast(pl.Int64).to_list()
        wanted = self._wanted(starts, changed)
        self._checkpoints = {after: saved for after, saved in self._checkpoints.items() if after in wanted}
        left = signals.filter(_start() > self._learned)
        for window in left.partition_by("window_start", maintain_order=True):
            check()
            start = int(window["window_start"].cast(pl.Int64)[0])
            if start >= changed:
                self._score(start, window)
            if start == starts[-1]:
                break  # nothing comes after the last, so it is not learned
            if self._learned in wanted and self._learned not in self._checkpoints:
                self._checkpoints[self._learned] = self._saved()
            self._learn(start, window)

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
        for detector, state in zip(self._detectors, self._checkpoints.get(after, self._blank), strict=True):
            detector.restore(state)
        self._learned = after

    def _saved(self) -> States:
        return tuple(detector.snapshot() for detector in self._detectors)

    def _wanted(self, starts: Sequence[int], changed: int) -> set[int]:
        """Windows after which a checkpoint is worth its room: before the last hours, days and changes."""
        before = {start: last for last, start in pairwise(starts)}
        begins = [*_begins(starts, HOUR_US, HOURS), *_begins(starts, DAY_US, DAYS)]
        self._changes = [*(each for each in self._changes if each < changed), before.get(changed, NOTHING)][-CHANGES:]
        return {before.get(start, NOTHING) for start in begins} | set(self._changes)


def _begins(starts: Sequence[int], span: int, most: int) -> list[int]:
    """The first window of each of the last spans that have any."""
    return [next(group) for _, group in groupby(starts, key=lambda start: start // span)][-most:]


def _start() -> pl.Expr:
    return pl.col("window_start").cast(pl.Int64)


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
