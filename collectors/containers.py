"""Opening captures as they are stored: plain, gzip or zstd, from a path or standard input, in constant memory."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import BinaryIO, Protocol, cast

import zstandard

from egress.errors import InputError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

BOMB_BYTES = 256 << 20
BOMB_RATIO = 250
"""Expansion beyond which a file is a bomb, once BOMB_BYTES came out. Captures of nothing but equal packets reach 100:1
with zstd; gzip itself cannot exceed 1,032:1."""

HEAD = 4096
STORED_STEP = 1 << 20
ZSTD_STEP = 2048
"""zstd gives no way to bound what one call returns; 2 kB of input unpack to 64 MB at most."""
AHEAD = 2
"""Chunks that the reading thread holds ready."""
READER = "egress-reader"
"""Name of that thread."""


@dataclass(slots=True)
class Stored:
    """What is known of one stored file, growing as it is read."""

    path: str
    bytes: int = 0
    sha256: str = ""
    """Empty until the end was reached."""
    fault: tuple[str, str] | None = None
    """(reason, what) where the content ended before it should."""
    unpacked: int = 0


class Unpacker(Protocol):
    """Turns stored bytes into content, a bounded piece at a time."""

    def unpack(self, stored: bytes) -> Iterator[bytes]: ...

    def fault(self) -> str:
        """What is wrong at the end of the file; empty if nothing."""
        ...


class Plain:
    def unpack(self, stored: bytes) -> Iterator[bytes]:
        yield stored

    def fault(self) -> str:
        return ""


class Gzip:
    """One or several gzip members; what follows the last, if it is no member, is ignored as gzip does."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = zlib.decompressobj(wbits=31)
        self._is_begun = False

    def unpack(self, stored: bytes) -> Iterator[bytes]:
        while stored and self._member is not None:
            piece = self._member.decompress(stored, STORED_STEP)
            self._is_begun = True
            stored = self._member.unconsumed_tail
            if self._member.eof:
                stored = self._member.unused_data.lstrip(b"\0")
                self._member = zlib.decompressobj(wbits=31) if stored[:2] in (GZIP, GZIP[:1], b"") else None
                self._is_begun = False
            yield piece

    def fault(self) -> str:
        return "the gzip data ends in the middle" if self._is_begun else ""


class Zstd:
    """One or several zstd frames."""

    def __init__(self) -> None:
        self._make: Callable[[], zstandard.ZstdDecompressionObj] = zstandard.ZstdDecompressor(
            max_window_size=1 << 27
        ).decompressobj
        self._frame = self._make()
        self._is_begun = False

    def unpack(self, stored: bytes) -> Iterator[bytes]:
        for start in range(0, len(stored), ZSTD_STEP):
            piece = stored[start : start + ZSTD_STEP]
            while piece:
                yield self._frame.decompress(piece)
                self._is_begun = True
                piece = b""
                if self._frame.eof:
                    piece = self._frame.unused_data
                    self._frame = self._make()
                    self._is_begun = False

    def fault(self) -> str:
        return "the zstd data ends in the middle" if self._is_begun else ""


def open_stored(path: Path) -> BinaryIO:
    """The file, or standard input for `-`; raises InputError with what to do."""
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}; check the path and its permissions") from error


def files_of(paths: list[Path]) -> Iterator[tuple[str, Path]]:
    """Each file with the path that stands for it in reports; a directory gives its files, sorted."""
    for path in paths:
        if str(path) != "-" and path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.is_file():
                    yield str(inner), inner
        else:
            yield str(path), path


def chunks(file: Stored, path: Path, chunk_bytes: int, is_hashed: bool = True) -> Iterator[bytes]:
    """Content in pieces of about `chunk_bytes`; `file` is filled as it goes, its hash at the end."""
    opened = Opened(file, path, is_hashed)
    is_whole = False
    try:
        yield from opened.unpacked(chunk_bytes)
        is_whole = True
    finally:
        opened.close(is_whole)


class Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Opened:
    """A stored file being read: counted and hashed as it is stored, given as it is unpacked."""

    def __init__(self, file: Stored, path: Path, is_hashed: bool) -> None:
        self._file = file
        self._stored = open_stored(path)
        self.digest: Digest | None = sha256() if is_hashed else None
        self._head = _read(self._stored, HEAD)
        self._unpacker = _unpacker(self._head)

    @property
    def is_packed(self) -> bool:
        return self._unpacker is not None

    def close(self, is_whole: bool) -> None:
        """Close the file; `is_whole`: its content was wanted to the end, so its size and hash are."""
        if is_whole:
            with suppress(OSError):  # a disk that fails has failed above, and was named there
                while rest := self._stored.read(STORED_STEP):  # after a fault: size and hash are of the whole file
                    self._note(rest)
        self._stored.close()
        if self.digest is not None:
            digest = self.digest.hexdigest()
            self._file.sha256 = digest if is_whole else ""

    def unpacked(self, size: int) -> Iterator[bytes]:
        """Pieces of `size` that stay as they are."""
        return _gathered(self._unpacked(min(size, STORED_STEP * 8)), size)

    def readinto(self, room: memoryview) -> int:
        """Plain content into `room`; how many bytes, 0 at the end. `room` must stay as it is until they are hashed."""
        head, self._head = self._head[: len(room)], self._head[len(room) :]
        room[: len(head)] = head
        count = len(head)
        try:
            count = count or cast(io.RawIOBase, self._stored).readinto(room) or 0
        except OSError as error:
            self._file.fault = _unreadable(error)
        self._note(room[:count])
        self._file.unpacked += count
        return count

    def _note(self, stored: bytes | memoryview) -> None:
        self._file.bytes += len(stored)
        if self.digest is not None:
            self.digest.update(stored)

    def _unpacked(self, step: int) -> Iterator[bytes]:
        file, unpacker = self._file, self._unpacker or Plain()
        block, self._head = self._head, b""
        try:
            while block:
                self._note(block)
                for piece in unpacker.unpack(block):
                    file.unpacked += len(piece)
                    yield piece
                    if self.is_packed and file.unpacked > BOMB_BYTES and file.unpacked > BOMB_RATIO * file.bytes:
                        what = f"{file.bytes} bytes unpack to more than {BOMB_RATIO} times as many"
                        file.fault = ("decompression_bomb", f"{what}; the rest was not read")
                        return
                block = self._stored.read(STORED_STEP if self.is_packed else step)
            if unpacker.fault():
                file.fault = ("truncated_compression", unpacker.fault())
        except (zlib.error, zstandard.ZstdError) as error:
            file.fault = ("damaged_compression", f"cannot be unpacked further: {error}")
        except OSError as error:
            file.fault = _unreadable(error)


def _unreadable(error: OSError) -> tuple[str, str]:
    return "unreadable", f"cannot be read further: {error.strerror}"


def _unpacker(head: bytes) -> Unpacker | None:
    """None: the file is plain."""
    return Gzip() if head[:2] == GZIP else Zstd() if head[:4] == ZSTD else None


def _read(stored: BinaryIO, count: int) -> bytes:
    """`count` bytes unless the file ends: pipes give less at a time."""
    parts = []
    while count > 0 and (part := stored.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _gathered(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces cut and joined to `size`, so that little ones do not cost a pass each."""
    waiting: list[bytes] = []
    held = 0
    for piece in pieces:
        waiting.append(piece)
        held += len(piece)
        if held >= size:
            joined = waiting[0] if len(waiting) == 1 else b"".join(waiting)
            step = size if held >= 2 * size else held
            yield from (joined[start : start + step] for start in range(0, held, step))
            waiting, held = [], 0
    if waiting:
        yield b"".join(waiting)


class ReadAhead:
    """Runs an iterator in a thread of its own, a few items ahead. Closing it ends the thread."""

    def __init__(self, items: Iterator[bytes]) -> None:
        self._queue: Queue[bytes | BaseException | None] = Queue(AHEAD)
        self._is_closed = Event()
        self._thread = Thread(target=self._run, args=(items,), name=READER, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.close()

    def close(self) -> None:
        self._is_closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except Empty:
                self._thread.join(0.01)

    def _run(self, items: Iterator[bytes]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            self._put(error)

    def _put(self, item: bytes | BaseException | None) -> bool:
        while not self._is_closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False
