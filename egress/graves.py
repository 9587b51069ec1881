"""Where a spool keeps its tombstones: on a disk that may be full, so that giving up never needs room."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from egress import segments, tombstones
from egress.segments import Record
from egress.spoolfolder import SHED, SHED_SUM
from egress.tombstones import Tombstone

MOST_FILES = 32
"""Above it their content is summed in one."""


class Graves:
    """Tombstones of a spool's folder, those of earlier processes included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stones: list[Tombstone] = []
        self._unwritten: list[Tombstone] = []
        """Of them, those for which the disk had no room yet."""
        self._next = 0
        self._load()

    def stones(self) -> list[Tombstone]:
        """One for each stream."""
        return tombstones.merged(self._stones)

    def add(self, stones: Collection[Tombstone]) -> None:
        """Kept in memory until `save`."""
        self._stones = tombstones.merged([*self._stones, *stones])
        self._unwritten = tombstones.merged([*self._unwritten, *stones])

    def bury(self, segment: Path, arrived: Collection[int]) -> list[Record]:
        """Turns a segment into its tombstones, in place: the room that it took is enough, whatever else is full.

        A crash on the way leaves the segment under its new name, which is read as what it says.
        """
        lost = [each for each in segments.records(segment.read_bytes()) if each.number not in arrived]
        stones = tombstones.merged(tombstones.of(each.parcel) for each in lost)
        grave = self._name(SHED)
        segment.rename(grave)
        self._stones = tombstones.merged([*self._stones, *stones])
        if not _overwrite(grave, tombstones.dumped(stones)):
            self._unwritten = tombstones.merged([*self._unwritten, *stones])
            grave.unlink()
        if len(self._files()) > MOST_FILES:
            self.save()
        return lost

    def save(self) -> None:
        """Everything known in one file, if there is room."""
        files = self._files()
        if len(files) <= 1 and not self._unwritten:
            return
        whole = self._name(SHED_SUM)
        unfinished = whole.with_suffix(".part")
        try:
            unfinished.write_bytes(tombstones.dumped(self.stones()))
            unfinished.replace(whole)
        except OSError:  # no room: they stay where they are
            unfinished.unlink(missing_ok=True)
            return
        self._unwritten = []
        for path in files:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        for path in self._files():
            path.unlink(missing_ok=True)
        self._stones, self._unwritten = [], []

    def _load(self) -> None:
        files = self._files()
        sums = [path for path in files if path.suffix == SHED_SUM]
        for path in files:
            self._next = max(self._next, int(path.stem) + 1)
            if sums and path.stem < sums[-1].stem:
                path.unlink()
                continue
            data = path.read_bytes()
            stones = tombstones.loaded(data)
            if stones is None:
                stones = tombstones.merged(tombstones.of(each.parcel) for each in segments.records(data))
                _overwrite(path, tombstones.dumped(stones))
            self._stones += stones
        self._stones = tombstones.merged(self._stones)

    def _files(self) -> list[Path]:
        found = [*self._folder.glob(f"*{SHED}"), *self._folder.glob(f"*{SHED_SUM}")]
        return sorted(path for path in found if path.stem.isdecimal())

    def _name(self, suffix: str) -> Path:
        self._next += 1
        return self._folder / f"{self._next:020d}{suffix}"


def _overwrite(path: Path, content: bytes) -> bool:
    """Puts content at the beginning of a file and cuts the rest off; False where even that found no room."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            written = os.pwrite(file, content, 0)
            os.ftruncate(file, written)
            return written == len(content)
        return False
    finally:
        os.close(file)
