"""The server name that a TLS client asks for (SNI: RFC 6066, 3; ClientHello: RFC 8446, 4.1.2).

Where the hello is encrypted (ECH) this is the outer name. Nothing is verified: a client may write what it likes.
"""

from __future__ import annotations

from collectors.kernels.compiled import kernel
from collectors.kernels.row_types import Bytes

ABSENT, FOUND, CUT = 0, 1, 2
"""No name here; a name; what is here fits but ends too early."""

MAX_EXTENSIONS = 128
MAX_RECORDS = 16


@kernel
def read_sni(data: Bytes, start: int, end: int, scratch: Bytes) -> tuple[int, int, int]:
    """(ABSENT | FOUND | CUT, start, end) of the name in `scratch`, which holds the handshake put together from records.

    `scratch` needs `end - start` bytes.
    """
    at, size = start, 0
    for _ in range(MAX_RECORDS):
        if at >= end:
            break
        # Handshake record, version 3.x (RFC 8446, 5.1).
        if data[at] != 22 or (at + 1 < end and data[at + 1] != 3):
            return (ABSENT if at == start else CUT), 0, 0
        if at + 5 > end:
            return CUT, 0, 0
        length = (int(data[at + 3]) << 8) | int(data[at + 4])
        for k in range(at + 5, min(end, at + 5 + length)):
            scratch[size] = data[k]
            size += 1
        at += 5 + length
    return read_hello(scratch, 0, size)


@kernel
def read_hello(data: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """(ABSENT | FOUND | CUT, start, end) of the name in a handshake that begins with a ClientHello."""
    if end == start:
        return CUT, 0, 0
    if data[start] != 1:
        return ABSENT, 0, 0
    if end - start < 4:
        return CUT, 0, 0
    stop = start + 4 + (int(data[start + 1]) << 16 | _u16(data, start + 2))
    at = _skip(data, start + 38, 1, end)  # type, length, version, random; then the session id
    at = _skip(data, at, 2, end)  # cipher suites
    at = _skip(data, at, 1, end)  # compression methods
    if at < 0 or at + 2 > end:
        return (ABSENT if stop <= end else CUT), 0, 0
    at += 2
    for _ in range(MAX_EXTENSIONS):
        if at + 4 > min(stop, end):
            break
        kind, size = _u16(data, at), _u16(data, at + 2)
        at += 4
        if kind == 0:
            return _first_name(data, at, at + size, min(stop, end), stop <= end)
        at += size
    return (ABSENT if stop <= end else CUT), 0, 0


@kernel
def _first_name(data: Bytes, at: int, stop: int, end: int, is_whole: bool) -> tuple[int, int, int]:
    """The extension's first entry of type host_name."""
    if stop > end:
        return (ABSENT if is_whole else CUT), 0, 0
    if at + 5 > stop or data[at + 2] != 0:
        return ABSENT, 0, 0
    size = _u16(data, at + 3)
    if size == 0 or at + 5 + size > stop:
        return ABSENT, 0, 0
    return FOUND, at + 5, at + 5 + size


@kernel
def _skip(data: Bytes, at: int, width: int, end: int) -> int:
    """Past a vector whose length takes `width` bytes; -1 where that is outside."""
    if at < 0 or at + width > end:
        return -1
    size = int(data[at]) if width == 1 else _u16(data, at)
    return at + width + size


@kernel
def _u16(data: Bytes, at: int) -> int:
    return (int(data[at]) << 8) | int(data[at + 1])
