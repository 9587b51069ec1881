"""Cuts a fresh capture down to what a sample needs: large frames to their headers, small ones (DNS, hellos) whole."""

from __future__ import annotations

import struct
from pathlib import Path

FILE_HEADER_BYTES = 24
RECORD = struct.Struct("<IIII")
LARGE_FRAME_BYTES = 1_000
KEPT_BYTES = 90
"""Ethernet, IPv6 and TCP with timestamps take 86."""


def trim(path: Path, kept_bytes: int) -> None:
    """In place; wire lengths and times stay. The input is what tcpdump writes: microseconds, this machine's order."""
    data = path.read_bytes()
    parts, at = [data[:FILE_HEADER_BYTES]], FILE_HEADER_BYTES
    while at < len(data):
        seconds, micros, captured, wire = RECORD.unpack_from(data, at)
        start = at + RECORD.size
        kept = min(captured, kept_bytes) if wire > LARGE_FRAME_BYTES else captured
        parts += [RECORD.pack(seconds, micros, kept, wire), data[start : start + kept]]
        at = start + captured
    path.write_bytes(b"".join(parts))
