"""The content of one stored file, in memory that is used again and again: fresh memory costs more than reading does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from collectors.containers import Opened, ReadAhead, Stored
from collectors.hashing import HashAside
from collectors.kernels.row_types import Bytes
from egress.contracts import ReadSettings

PIECE = 4 << 20
"""Bytes read at a time: smaller ones cost a pass through Python each, larger ones leave the processor's cache."""
ROOMS = 4
"""Pieces in memory at once where another thread hashes them: one is metered, one is hashed, two even out the pace."""


class Content:
    """Reads one file on, a piece at a time; `stored` is filled as it goes, its hash at the end.

    With two threads or more another one hashes what this one reads; packed files it reads, hashes and unpacks ahead.
    """

    def __init__(self, stored: Stored, path: Path, settings: ReadSettings) -> None:
        self._stored = stored
        self._step = min(settings.chunk_bytes, PIECE)
        self._opened = Opened(stored, path, settings.is_hashed)
        self._piece = memoryview(b"")
        """What was unpacked and not yet given."""
        self._ahead: ReadAhead | None = None
        self._pieces: Iterator[bytes] | None = None
        """None: the file is plain, and read into place."""
        rooms = 1
        if self._opened.is_packed:
            self._pieces = self._opened.unpacked(self._step)
            if settings.threads >= 2:
                self._ahead = ReadAhead(self._pieces)
                self._pieces = iter(self._ahead)
        elif settings.threads >= 2 and settings.is_hashed:
            self._opened.digest = HashAside(ROOMS - 1)
            rooms = ROOMS
        self._rooms: list[Bytes] = [np.empty(0, np.uint8) for _ in range(rooms)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._opened.close(is_whole=kind is None)

    def after(self, carried: Bytes) -> Bytes:
        """`carried` and what follows it, good until the next call; nothing follows at the end."""
        room = self._next_room(carried.size + self._step)
        room[: carried.size] = carried
        free = memoryview(room)[carried.size : carried.size + self._step]  # type: ignore[arg-type] # is a buffer
        count = self._fill(free)
        return room[: carried.size + count]

    def _next_room(self, size: int) -> Bytes:
        room = self._rooms.pop(0)
        if room.size < size:
            room = np.empty(size + size // 8, np.uint8)
        self._rooms.append(room)
        return room

    def _fill(self, free: memoryview) -> int:
        if self._pieces is None:
            return self._opened.readinto(free)
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        given, self._piece = self._piece[: len(free)], self._piece[len(free) :]
        free[: len(given)] = given
        return len(given)
