"""Files of folders that a recorder goes on writing, each when it is finished: `collect file --follow`.

A file is finished once a later one stands beside it, or once it did not change for a while. Each is collected by
itself, so that what is sent follows from its content alone, however many there were and whenever this was restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from egress import inputs
from egress.collect import Outcome
from egress.errors import InputError
from egress.service import Service

LOOK_S = 2.0
SETTLED_S = 300.0
"""Longer than recorders keep one file open without writing to it: tcpdump -G 60 changes files with the next packet."""


class _Mark(NamedTuple):
    """What a file looked like."""

    changed_ns: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Seen:
    mark: _Mark
    since: float
    is_given: bool = False


class Follower:
    """Gives each finished file once; one that changes after that is given again."""

    def __init__(self, paths: Sequence[Path], clock: Callable[[], float], settled_s: float = SETTLED_S) -> None:
        self._paths = paths
        self._clock = clock
        self._settled_s = settled_s
        self._seen: dict[Path, _Seen] = {}

    def take(self) -> list[Path]:
        """Finished files that were not given yet, oldest first. Raises InputError for a path that is not there."""
        marks = {path: mark for path in inputs.expand(self._paths) if (mark := _mark(path)) is not None}
        self._seen = {path: self._looked_at(path, mark) for path, mark in marks.items()}
        latest: dict[Path, _Mark] = {}
        for path, mark in marks.items():
            latest[path.parent] = max(latest.get(path.parent, mark), mark)
        ready = [
            path
            for path, seen in self._seen.items()
            if not seen.is_given and (seen.mark < latest[path.parent] or self._clock() - seen.since >= self._settled_s)
        ]
        for path in ready:
            self._seen[path] = _Seen(self._seen[path].mark, self._seen[path].since, True)
        return sorted(ready, key=lambda path: (marks[path].changed_ns, path))

    def _looked_at(self, path: Path, mark: _Mark) -> _Seen:
        known = self._seen.get(path)
        return known if known is not None and known.mark == mark else _Seen(mark, self._clock())


def follow(
    paths: Sequence[Path],
    collect_one: Callable[[Path], Outcome],
    running: Service,
    is_removing: bool = False,
    settled_s: float = SETTLED_S,
) -> None:
    """Collects files as they are finished until asked to stop.

    With `is_removing` a file goes once all of it was sent or lies in the spool; one that holds nothing readable stays.
    """
    follower = Follower(paths, running.clock, settled_s)
    while not running.stop.is_set():
        for path in follower.take():
            if running.stop.is_set():
                break
            _collected(path, collect_one, running, is_removing)
        running.stop.wait(LOOK_S)


def _collected(path: Path, collect_one: Callable[[Path], Outcome], running: Service, is_removing: bool) -> None:
    try:
        outcome = collect_one(path)
    except InputError as problem:
        running.log.warning("not_collected", file=str(path), why=str(problem))
        return
    rows = {"rows": outcome.rows, "sent": outcome.sent.rows, "waiting": outcome.waiting.rows, "shed": outcome.shed.rows}
    running.log.info("collected", file=str(path), **rows, is_whole=not outcome.was_interrupted)
    is_kept_elsewhere = not (outcome.was_interrupted or outcome.shed.rows or outcome.refused)
    if is_removing and is_kept_elsewhere and outcome.tally.read.frames:
        path.unlink(missing_ok=True)


def _mark(path: Path) -> _Mark | None:
    """None where it was removed meanwhile."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _Mark(found.st_mtime_ns, found.st_size)
