"""One capture as frames: pcap and pcapng structure around the framing kernels, with what had to be skipped."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from collectors.containers import Stored
from collectors.content import Content
from collectors.kernels import frames as f
from collectors.kernels.entry import Frames
from collectors.kernels.frames import no_frames
from collectors.kernels.row_types import Bytes, Words
from egress.contracts import ReadSettings, Skipped

PCAP = {0xA1B2C3D4: (0, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (0, 24)}
"""Magic number -> (nanoseconds?, bytes of a record header): microseconds, nanoseconds, Kuznetzov's patched libpcap."""
SECTION = 0x0A0D0D0A
BYTE_ORDER = 0x1A2B3C4D

MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Stamp:
    """How an interface's records say when: what cutting packets out needs to leave them as they were."""

    is_big: bool
    header: int
    """Bytes of a pcap record's header; 0: pcapng blocks."""
    unit: tuple[int, int, int]
    """(base, exponent, offset in seconds): 10, 6, 0 is microseconds since 1970."""


@dataclass(slots=True)
class Interfaces:
    """Every interface of the whole reading: its link type, and its part of the vantage id."""

    links: list[int] = field(default_factory=list)
    vantages: list[int] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)

    def add(self, link: int, lane: int, number: int, stamp: Stamp) -> int:
        self.links.append(link)
        self.stamps.append(stamp)
        self.vantages.append((lane & 0x7F) << 56 | (number & 0xFFFF) << 40)
        return len(self.links) - 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """What stands in a chunk's data from `begin` on was in the (unpacked) file from `file_at` on."""

    begin: int
    file_at: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some frames, of one file or of several that overlap. Good until the next chunk is asked for: memory is reused."""

    frames: Frames
    clock: Words
    """Latest time so far at each frame, by which lanes are merged."""
    stretches: tuple[Stretch, ...]

    def file_position(self, i: int) -> int:
        """Byte of the file at which frame i stands."""
        offset = int(self.frames.offset[i])
        stretch = max((s for s in self.stretches if s.begin <= offset), key=lambda s: s.begin)
        return stretch.file_at + offset - stretch.begin


@dataclass(slots=True)
class _Section:
    """The pcapng section being read: byte order and interfaces."""

    is_big: bool = False
    numbers: list[int] = field(default_factory=list)
    units: list[tuple[int, int, int]] = field(default_factory=list)
    snaps: list[int] = field(default_factory=list)


class CaptureFile:
    """Reads one file; `stored`, `notes` and `faults` say afterwards what it was and what was wrong with it."""

    def __init__(self, name: str, path: Path, number: int, lane: int, interfaces: Interfaces) -> None:
        self.stored = Stored(name)
        self.path = path
        self.frame_count = 0
        self.wire_bytes = 0
        self.notes: dict[str, int] = {}
        self.faults: list[Skipped] = []
        self._lane = lane
        self._interfaces = interfaces
        self._state: Words = np.zeros(f.STATE_SIZE, np.int64)
        self._state[f.NUMBER] = number << 40
        self._kind: Words = np.zeros(5, np.int64)
        self._section: _Section | None = None
        self._space = no_frames(np.empty(0, np.uint8), 0)
        self._base = 0
        self._is_open = False
        self._lost_at: int | None = None
        """Where damage began, while the next good record is looked for; that may take several chunks."""

    def read(self, settings: ReadSettings) -> Iterator[Chunk]:
        """The file's frames, a chunk at a time; never raises for what is in it."""
        carried: Bytes = np.empty(0, np.uint8)
        is_last = False
        with Content(self.stored, self.path, settings) as content:
            while not is_last:
                data = content.after(carried)
                is_last = data.size == carried.size
                carried = yield from self._frame(data, is_last)
        if self.stored.fault is not None:
            reason, what = self.stored.fault
            self._fault(reason, what, 1)

    def _frame(self, data: Bytes, is_last: bool) -> Generator[Chunk, None, Bytes]:
        """The frames of `data`, which begins with what was left before; gives what is left now."""
        if not self._is_open and not self._open(data, is_last):
            return data
        room = data.size // 12 + 1
        if self._space[1].size < room:
            self._space = no_frames(data, room)
        frames, clock = self._space[0]._replace(data=data), self._space[1]
        self._state[f.COUNT] = 0
        self._walk(frames, clock, is_last)
        at, count = int(self._state[f.AT]), int(self._state[f.COUNT])
        base = self._base
        if is_last and at < data.size:
            self._fault("cut_record", f"byte {base + at}: the file ends in the middle of a record", data.size - at)
        self._base += at
        self._state[f.AT] = 0
        if count:
            yield Chunk(self._cut(frames, count), clock[:count], (Stretch(0, base),))
        return data[at:]

    def _cut(self, frames: Frames, count: int) -> Frames:
        cut = Frames(frames.data, *(words[:count] for words in frames[1:]))
        self.frame_count += count
        self.wire_bytes = int(self._state[f.WIRE])
        if self._state[f.BOGUS]:
            first = int(self._state[f.FIRST_BOGUS])
            packet = self.frame_count - count + first + 1
            self._fault(
                "bogus_length",
                f"packet {packet}: an original length below the captured one or above {f.MAX_BYTES} bytes "
                f"is not believed; {int(cut.captured[first])} captured bytes count",
                int(self._state[f.BOGUS]),
            )
            self._state[f.BOGUS] = 0
        return cut

    def _fault(self, reason: str, what: str, count: int) -> None:
        name = reason if reason not in ("cut_record", "unreadable_record") else f"{reason}_bytes"
        self.notes[name] = self.notes.get(name, 0) + count
        if sum(fault.reason == reason for fault in self.faults) < MAX_EXAMPLES:
            self.faults.append(Skipped(reason, self.stored.path, what))

    def _open(self, data: Bytes, is_last: bool) -> bool:
        """Read the file header; False where more bytes are needed or there is nothing to read."""
        if data.size < 24 and not is_last:
            return False
        head = data[:24].tobytes()
        magic = [struct.unpack(order + "I", head[:4])[0] for order in "<>"] if len(head) >= 4 else [0, 0]
        self._is_open = True
        if magic[0] == SECTION:
            self._section = _Section()
            return True
        is_big = magic[1] in PCAP
        if (magic[0] in PCAP or is_big) and len(head) == 24:
            nanoseconds, header = PCAP[magic[is_big]]
            link = struct.unpack(">I" if is_big else "<I", head[20:])[0] & 0xFFFF
            stamp = Stamp(is_big, header, (10, 9 if nanoseconds else 6, 0))
            interface = self._interfaces.add(link, self._lane, 0, stamp)
            self._kind[:] = nanoseconds, is_big, header, interface, _lengths(head, is_big)
            self._state[f.AT] = 24
            return True
        what = "is empty" if not len(head) else f"starts with {head[:4].hex(' ')}, which is neither pcap nor pcapng"
        self._fault("unknown_format", what, 1)
        self._kind[f.HEADER] = -1
        return True

    def _walk(self, frames: Frames, clock: Words, is_last: bool) -> None:
        """Frame all of the data, mending what is damaged."""
        state, stop = self._state, frames.data.size
        if self._kind[f.HEADER] < 0:  # not a capture: read on for its hash
            state[f.AT] = stop
            return
        while self._lost_at is not None or not self._read_on(frames, clock, stop):
            if not self._resync(frames.data, stop, is_last):
                return

    def _read_on(self, frames: Frames, clock: Words, stop: int) -> bool:
        """Frame what is complete; False where what stands next is damaged."""
        while True:
            if self._section is None:
                f.frame_pcap(frames, clock, self._state, self._kind, stop)
            else:
                self._frame_section(frames, clock, stop)
            if self._state[f.STATUS] != f.FOR_PYTHON:
                return bool(self._state[f.STATUS] == f.INCOMPLETE)
            done = self._describe(frames.data)
            if not done:
                return done is None

    def _frame_section(self, frames: Frames, clock: Words, stop: int) -> None:
        section = self._section or _Section()
        self._state[f.INTERFACES] = len(section.numbers)
        numbers = np.array(section.numbers, np.int64)
        units = np.array(section.units, np.int64).reshape(-1, 3)
        snaps = np.array(section.snaps, np.int64)
        f.frame_pcapng(frames, clock, self._state, section.is_big, units, numbers, snaps, stop)

    def _resync(self, data: Bytes, stop: int, is_last: bool) -> bool:
        """Move on to the next good record; False while it may stand beyond what was read so far."""
        begin = self._base + int(self._state[f.AT]) if self._lost_at is None else self._lost_at
        if self._section is None:
            is_found = f.resync_pcap(data, self._state, self._kind, stop, is_last)
        else:
            is_found = f.resync_pcapng(data, self._state, self._section.is_big, stop, is_last)
        self._lost_at = None if is_found else begin
        jumped = self._base + int(self._state[f.AT]) - begin
        if is_found and jumped:
            where = f"byte {begin}, after packet {int(self._state[f.NUMBER]) & f.PACKET_MASK}"
            self._fault("unreadable_record", f"{where}: impossible record; {jumped} bytes jumped over", jumped)
        return bool(is_found)

    def _describe(self, data: Bytes) -> bool | None:
        """Take in a section header or interface description; None: incomplete, False: damaged."""
        section = self._section or _Section()
        at = int(self._state[f.AT])
        head = data[at : at + 12].tobytes()
        is_header = struct.unpack("<I", head[:4])[0] == SECTION
        if is_header:
            magic = [struct.unpack(order + "I", head[8:])[0] for order in "<>"]
            if BYTE_ORDER not in magic:
                return False
            section = _Section(is_big=magic[1] == BYTE_ORDER)
        order = ">" if section.is_big else "<"
        size = struct.unpack(order + "I", head[4:8])[0]
        if not (28 if is_header else 20) <= size <= f.MAX_BLOCK:
            return False
        if at + size > data.size:
            return None
        if is_header:
            self._section = section
        else:
            self._add_interface(section, data[at + 8 : at + size - 4].tobytes(), order)
        self._state[f.AT] = at + (size + 3 & ~3)
        return True

    def _add_interface(self, section: _Section, body: bytes, order: str) -> None:
        link, _, snap = struct.unpack_from(order + "HHI", body)
        base, exponent, offset = 10, 6, 0
        at = 8
        while at + 4 <= len(body):
            code, length = struct.unpack_from(order + "HH", body, at)
            value = body[at + 4 : at + 4 + length]
            at += 4 + (length + 3 & ~3)
            if code == 0:
                break
            if code == 9 and len(value) == 1:
                base, exponent = (2, value[0] & 0x7F) if value[0] & 0x80 else (10, value[0])
            elif code == 14 and len(value) == 8:
                offset = struct.unpack(order + "q", value)[0]
        unit = (base, exponent, offset)
        stamp = Stamp(section.is_big, 0, unit)
        section.numbers.append(self._interfaces.add(link, self._lane, len(section.numbers), stamp))
        section.units.append(unit)
        section.snaps.append(snap)


def _lengths(head: bytes, is_big: bool) -> int:
    """How this file's records write their lengths: its version says so; 543 is what DG/UX wrote for 2.2."""
    major, minor = struct.unpack(">HH" if is_big else "<HH", head[4:8])
    if major == 543 or (major == 2 and minor < 3):
        return f.ORIGINAL_FIRST
    return f.SMALLER_IS_CAPTURED if (major, minor) == (2, 3) else f.CAPTURED_FIRST
