"""Cutting the packets of some conversations out of captures, as they were recorded."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Network
from pathlib import Path
from typing import BinaryIO

import numpy as np

from collectors.capturefile import CaptureFile, Chunk, Interfaces, Stamp
from collectors.containers import files_of
from collectors.kernels import pick as k
from collectors.kernels.row_types import Bytes, Words
from egress.contracts import Count, ReadSettings, Selection
from egress.errors import InputError, UsageError

# pcapng, all little-endian: block types and options of draft-ietf-opsawg-pcapng.
SECTION, INTERFACE = 0x0A0D0D0A, 1
END_OF_OPTIONS, DESCRIPTION, UNIT, OFFSET = 0, 3, 9, 14
MAX_DESCRIPTION = 1024


def cut(paths: Sequence[Path], selection: Selection, out: Path) -> Count:
    """Write the selected packets to `out` as pcapng, file after file; frames and their wire bytes.

    Packets keep bytes, time, original length and link type. Standing at the end of an interrupted cut there is no file.
    Raises InputError where an input is no capture, UsageError where `out` is one of the inputs.
    """
    inputs = list(files_of(list(paths)))
    if any(path.exists() and out.exists() and path.samefile(out) for _, path in inputs):
        raise UsageError(f"{out}: is one of the captures to cut from; name another file")
    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("wb") as file:
            writer = _Writer(file)
            for number, (name, path) in enumerate(inputs):
                writer.copy(CaptureFile(name, path, number, 0, writer.interfaces), selection)
        partial.rename(out)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}; name another file") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return writer.count


class _Writer:
    """The pcapng file being written: which interfaces it has so far, and what was put into it."""

    def __init__(self, file: BinaryIO) -> None:
        self.interfaces = Interfaces()
        self.count = Count()
        self._file = file
        self._numbers: list[int] = []
        """The number in the written file of each of `interfaces`; -1 until it is needed."""
        self._written = 0
        file.write(_block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))

    def copy(self, capture: CaptureFile, selection: Selection) -> None:
        ours, theirs = _ranges(selection.ours), _ranges(selection.theirs)
        settings = ReadSettings()
        for chunk in capture.read(settings):
            links = np.array(self.interfaces.links, np.int64)
            chosen = np.zeros(chunk.frames.offset.size, np.uint8)
            k.pick(chunk.frames, links, ours, theirs, selection.start, selection.end, chosen)
            self._write(chunk, np.flatnonzero(chosen), capture.stored.path)
        for fault in capture.faults:
            if fault.reason == "unknown_format":
                raise InputError(f"{fault.where}: {fault.what}; packets can only be cut out of captures")

    def _write(self, chunk: Chunk, chosen: Words, path: str) -> None:
        if not chosen.size:
            return
        frames = chunk.frames
        for interface in np.unique(frames.interface[chosen]):
            self._describe(int(interface), path)
        out: Bytes = np.empty(int((frames.captured[chosen] + k.BLOCK_BYTES + 3).sum()), np.uint8)
        size = k.write_blocks(frames, chosen, self._known(), out)
        self._file.write(out[:size].tobytes())
        self.count += Count(chosen.size, int(frames.wire[chosen].sum()))

    def _describe(self, interface: int, path: str) -> None:
        """Write the description of an interface before its first packet."""
        self._numbers += [-1] * (interface + 1 - len(self._numbers))
        if self._numbers[interface] < 0:
            self._numbers[interface] = self._written
            self._written += 1
            stamp = self.interfaces.stamps[interface]
            self._file.write(_interface(self.interfaces.links[interface], stamp, path))

    def _known(self) -> Words:
        stamps = self.interfaces.stamps[: len(self._numbers)]
        rows = [
            (stamp.header, stamp.is_big, stamp.unit[1] if stamp.header else 0, number)
            for stamp, number in zip(stamps, self._numbers, strict=True)
        ]
        return np.array(rows, np.int64)


def _ranges(networks: Sequence[IPv6Network]) -> Words:
    """First and last address of each network, two words each."""
    octets = b"".join(net.network_address.packed + net.broadcast_address.packed for net in networks)
    return np.frombuffer(octets, ">i8").astype(np.int64).reshape(-1, 4)


def _interface(link: int, stamp: Stamp, path: str) -> bytes:
    base, exponent, offset = stamp.unit
    options = _option(DESCRIPTION, path.encode("utf-8", "replace")[:MAX_DESCRIPTION])
    options += _option(UNIT, bytes([exponent | (0x80 if base == 2 else 0)]))
    if offset:
        options += _option(OFFSET, struct.pack("<q", offset))
    return _block(INTERFACE, struct.pack("<HHI", link, 0, 0) + options + _option(END_OF_OPTIONS, b""))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size
