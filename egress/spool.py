"""What waits to be sent, on disk: in order, bounded, whole after a crash, and exact about what had to be dropped.

A folder of segments. Messages are appended to the last one; a segment whose messages have all arrived is deleted. When
there is no room (the cap, or the disk), the oldest segment that is not on its way is given up: it becomes tombstones.

After `kill -9` nothing that `append` took is lost. After a power failure at most the last segment's worth is (4 MiB): a
segment is flushed to the disk when it is full, and all of them by `close`. What was sent may be sent again after both;
its numbers say so downstream.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from egress import segments, tombstones
from egress.errors import StoreError
from egress.graves import Graves
from egress.segments import Parcel, Quantity
from egress.spoolfolder import LIVE, FolderLock
from egress.tombstones import Tombstone

SEGMENT_BYTES = 4 << 20
LEAST_SEGMENTS = 8
"""A smaller cap makes smaller segments: giving one up is to give up a part."""
LEAST_BYTES = 64 << 10
IDLE_BYTES = 64 << 10
"""A larger segment that has been delivered is deleted though it is in use: less is sent twice after a crash."""
WINDOW_BYTES = 64 << 10
OVERHEAD_BYTES = 200
"""What a record takes beside its message's bytes, at most, with our headers."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(slots=True)
class _Segment:
    """A file of records. Its name is the number of its first one."""

    path: Path
    size: int = 0
    count: int = 0
    read_to: int = 0
    """Bytes whose messages were handed out."""
    lent: set[int] = field(default_factory=set)
    """Numbers of the messages on their way."""
    arrived: set[int] = field(default_factory=set)

    @property
    def left(self) -> int:
        return self.count - len(self.arrived)


class Spool:
    """One process at a time, any of its threads. Raises StoreError where the folder cannot be used at all."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        if most_bytes < LEAST_BYTES:
            raise StoreError(f"spool {folder}: a cap of {most_bytes:,} B, at least {LEAST_BYTES:,} are needed")
        self.folder = folder
        self.most_bytes = most_bytes
        self.damaged_bytes = 0
        """Found when it was opened and no whole record: torn by a crash, or worse."""
        self.damaged_messages = 0
        """Written by this process, and not to be read any more."""
        self.why_full = ""
        """Why something was dropped the last time."""
        self.lost = Quantity()
        """Of what this process appended, what was dropped."""
        self._segment_bytes = min(SEGMENT_BYTES, most_bytes // LEAST_SEGMENTS)
        self._guard = threading.Lock()
        self._lock = FolderLock(folder)
        self._graves = Graves(folder)
        self._segments: list[_Segment] = []
        self._owners: dict[int, _Segment] = {}
        """The segment of each message that is on its way."""
        self._active = -1
        """Where the last segment is written, as a file descriptor; -1: the next message begins a segment."""
        self._size = 0
        self._next = 0
        self._recover()
        self.first = self._next
        """The number of the first message that this process appends."""

    @property
    def held_bytes(self) -> int:
        """What it takes on disk, without tombstones."""
        return self._size

    @property
    def waiting(self) -> int:
        """Messages that have not arrived."""
        with self._guard:
            return sum(segment.left for segment in self._segments)

    def has_room(self, size: int) -> bool:
        """Whether a message of so many bytes would push no other out."""
        return self._size + size + OVERHEAD_BYTES <= self.most_bytes

    def waiting_since(self, first: int) -> Quantity:
        """What has not arrived of the messages from this number on; reads all of it."""
        with self._guard:
            found = Quantity()
            for segment in self._segments:
                for record in segments.records(segment.path.read_bytes()):
                    if record.number >= first and record.number not in segment.arrived:
                        found += Quantity.of(record.parcel)
            return found

    def numbers_of(self, digest: str) -> dict[tuple[str, str], Collection[int]]:
        """Of the messages of an epoch whose name ends so, those that have not arrived, by topic and host; reads all."""
        with self._guard:
            found: dict[tuple[str, str], list[int]] = {}
            for segment in self._segments:
                for record in segments.records(segment.path.read_bytes()):
                    stone = tombstones.of(record.parcel)
                    if stone.epoch.endswith(f"-{digest}") and record.number not in segment.arrived:
                        found.setdefault((stone.topic, stone.host), []).append(stone.first_seq)
            return {stream: _compact(numbers) for stream, numbers in found.items()}

    @property
    def shed(self) -> list[Tombstone]:
        """What was dropped and not yet forgotten, one entry a stream."""
        with self._guard:
            return self._graves.stones()

    def append(self, parcel: Parcel) -> bool:
        """Takes a message; where there is no room, drops older ones for it. False: it was this one that was dropped."""
        with self._guard:
            pieces = segments.framed(self._next, parcel)
            size = sum(map(len, pieces))
            while self._size + size > self.most_bytes:
                self.why_full = f"the cap of {self.most_bytes:,} B is reached"
                if not self._give_up():
                    return self._drop(parcel)
            while (refusal := self._write(pieces, size)) is not None:
                if refusal.errno not in NO_ROOM:
                    raise StoreError(f"spool {self.folder}: {refusal.strerror}") from refusal
                self.why_full = refusal.strerror or "no room"
                if not self._give_up():
                    return self._drop(parcel)
            self._next += 1
            return True

    def take(self, most_bytes: int) -> list[tuple[int, Parcel]]:
        """The oldest messages that are not on their way yet, some of one segment's; from now on they are."""
        with self._guard:
            for segment in self._segments:
                if segment.read_to < segment.size and (found := self._lend(segment, most_bytes)):
                    return found
            return []

    def arrived(self, number: int) -> None:
        """The message with this number need not be kept any longer."""
        with self._guard:
            segment = self._owners.pop(number, None)
            if segment is None:
                return
            segment.lent.discard(number)
            segment.arrived.add(number)
            is_active = self._is_active(segment)
            if not segment.left and (not is_active or segment.size > IDLE_BYTES):
                self._delete(segment)

    def take_back(self) -> None:
        """What is on its way will not arrive: it is to be taken again."""
        with self._guard:
            self._owners.clear()
            for segment in self._segments:
                if segment.lent:
                    segment.lent.clear()
                    segment.read_to = 0

    def forget(self, told: list[Tombstone]) -> None:
        """These losses are known downstream. Does nothing where more was lost since: then all of it is to be told."""
        with self._guard:
            if told == self._graves.stones():
                self._graves.clear()

    def close(self) -> None:
        """Leaves on disk what has not arrived, and lets go of the folder."""
        with self._guard:
            self._seal()
            for segment in list(self._segments):
                if not segment.left:
                    self._delete(segment)
                elif segment.arrived:
                    self._rewrite(segment)
            self._graves.save()
            self._lock.release()

    def _write(self, pieces: list[bytes], size: int) -> OSError | None:
        """Appends a record whole or not at all, beginning a segment where one is due."""
        try:
            if self._active < 0 or self._segments[-1].size + size > self._segment_bytes:
                self._begin()
            self._write_whole(pieces)
        except OSError as error:
            if error.errno == errno.EFBIG and self._active >= 0 and self._segments[-1].size:
                self._seal()  # files may not be as large as that here
                return self._write(pieces, size)
            return error
        self._segments[-1].size += size
        self._segments[-1].count += 1
        self._size += size
        return None

    def _write_whole(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        try:
            while data:
                data = data[os.write(self._active, data) :]
        except OSError:
            size = self._segments[-1].size
            os.ftruncate(self._active, size)
            os.lseek(self._active, size, os.SEEK_SET)
            raise

    def _begin(self) -> None:
        self._seal()
        path = self.folder / f"{self._next:020d}{LIVE}"
        self._active = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path))

    def _seal(self) -> None:
        """The segment in use gets no more records."""
        if self._active < 0:
            return
        active, self._active = self._active, -1
        try:
            if self._segments[-1].left:
                os.fsync(active)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
        finally:
            os.close(active)
        if not self._segments[-1].left:
            self._delete(self._segments[-1])

    def _lend(self, segment: _Segment, most_bytes: int) -> list[tuple[int, Parcel]]:
        """Reads no more of the segment than is asked for, unless nothing in that part is whole."""
        part = min(segment.size - segment.read_to, most_bytes + WINDOW_BYTES)
        found = self._lend_part(segment, most_bytes, part)
        return found or self._lend_part(segment, most_bytes, segment.size - segment.read_to)

    def _lend_part(self, segment: _Segment, most_bytes: int, part: int) -> list[tuple[int, Parcel]]:
        found: list[tuple[int, Parcel]] = []
        with segment.path.open("rb") as file:
            file.seek(segment.read_to)
            data = file.read(part)
        begin, taken = segment.read_to, 0
        for record in segments.records(data):
            if taken and taken + record.parcel.bytes > most_bytes:
                return found
            segment.read_to = begin + record.end
            if record.number not in segment.arrived:
                found.append((record.number, record.parcel))
                taken += record.parcel.bytes
                segment.lent.add(record.number)
                self._owners[record.number] = segment
        if begin + part == segment.size:
            self._close_reading(segment)
        return found

    def _close_reading(self, segment: _Segment) -> None:
        """Everything in it was read; what was written and not found is lost."""
        segment.read_to = segment.size
        lost = segment.left - len(segment.lent)
        segment.count -= lost
        self.damaged_messages += lost

    def _give_up(self) -> bool:
        """Frees the oldest segment that is not on its way; False: there is none."""
        segment = next((each for each in self._segments if each.size and not each.lent), None)
        if segment is None:
            return False
        if self._is_active(segment):
            self._seal()
        if segment.left:
            for record in self._graves.bury(segment.path, segment.arrived):
                self._count_lost(record.number, record.parcel)
        self._forget_segment(segment)
        return True

    def _drop(self, parcel: Parcel) -> bool:
        self._graves.add([tombstones.of(parcel)])
        self._count_lost(self._next, parcel)
        self._next += 1
        return False

    def _count_lost(self, number: int, parcel: Parcel) -> None:
        if number >= self.first:
            self.lost += Quantity.of(parcel)

    def _is_active(self, segment: _Segment) -> bool:
        return self._active >= 0 and segment is self._segments[-1]

    def _delete(self, segment: _Segment) -> None:
        if self._is_active(segment):
            active, self._active = self._active, -1
            os.close(active)
        self._forget_segment(segment)

    def _forget_segment(self, segment: _Segment) -> None:
        with suppress(FileNotFoundError):  # buried, or sealed without anything in it
            segment.path.unlink()
        if segment in self._segments:
            self._segments.remove(segment)
            self._size -= segment.size

    def _rewrite(self, segment: _Segment) -> None:
        """Without what has arrived. Where there is no room for it, that is sent again."""
        unfinished = segment.path.with_suffix(".part")
        kept = [each for each in segments.records(segment.path.read_bytes()) if each.number not in segment.arrived]
        try:
            with unfinished.open("wb") as file:
                for record in kept:
                    file.writelines(segments.framed(record.number, record.parcel))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(segment.path)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            unfinished.unlink(missing_ok=True)

    def _recover(self) -> None:
        """Cuts what a crash tore off, and passes over what is damaged."""
        for path in sorted(self.folder.glob(f"*{LIVE}")):
            data = path.read_bytes()
            found = segments.records(data)
            end = found[-1].end if found else 0
            self.damaged_bytes += len(data) - sum(each.size for each in found)
            if not found:
                path.unlink()
                continue
            os.truncate(path, end)
            self._segments.append(_Segment(path, end, len(found)))
            self._size += end
            self._next = max(self._next, *(each.number + 1 for each in found))


def _compact(numbers: list[int]) -> Collection[int]:
    """Nearly always a range without holes."""
    first, last = min(numbers), max(numbers)
    every = set(numbers)
    return range(first, last + 1) if len(every) == last - first + 1 else every
