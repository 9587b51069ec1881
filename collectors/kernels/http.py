"""The host that an HTTP/1 request is for (RFC 9112, 3.2): absolute target, CONNECT target, else the Host header."""

from __future__ import annotations

import numpy as np

from collectors.kernels.compiled import kernel
from collectors.kernels.row_types import Bytes
from collectors.kernels.tls import ABSENT, CUT, FOUND

MAX_METHOD = 20
MAX_HEADERS = 64

_VERSION = np.frombuffer(b" http/1.", np.uint8)
_HOST = np.frombuffer(b"host:", np.uint8)


@kernel
def read_host(data: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """(ABSENT | FOUND | CUT, start, end) of the host in `data`, without port and user."""
    target = _target(data, start, end)
    if target < 0:
        return ABSENT, 0, 0
    line_end = _line_end(data, target, end)
    if line_end < 0:
        return CUT, 0, 0
    if not _is_http(data, target, line_end):
        return ABSENT, 0, 0
    state, begin, stop = _authority(data, start, target, line_end)
    if state == FOUND:
        return _host_of(data, begin, stop)
    at = line_end + 1
    for _ in range(MAX_HEADERS):
        line_end = _line_end(data, at, end)
        if line_end < 0:
            return CUT, 0, 0
        if line_end - at <= 1:
            return ABSENT, 0, 0
        if _is_host_header(data, at, line_end):
            return _host_of(data, at + 5, line_end)
        at = line_end + 1
    return ABSENT, 0, 0


@kernel
def _target(data: Bytes, start: int, end: int) -> int:
    """Where the request target begins: after a method in capitals and one blank; -1 if there is none."""
    for at in range(start, min(end, start + MAX_METHOD)):
        if data[at] == 32:
            return at + 1 if at > start else -1
        if not 65 <= data[at] <= 90:
            return -1
    return -1


@kernel
def _line_end(data: Bytes, at: int, end: int) -> int:
    """Where the next line feed is; -1 if there is none."""
    for k in range(at, end):
        if data[k] == 10:
            return k
    return -1


@kernel
def _is_http(data: Bytes, target: int, line_end: int) -> bool:
    """The line ends with ` HTTP/1.x`, with or without a carriage return."""
    stop = line_end - 1 if data[line_end - 1] == 13 else line_end
    at = stop - 9
    if at < target:
        return False
    return _reads(data, at, _VERSION)


@kernel
def _authority(data: Bytes, start: int, target: int, line_end: int) -> tuple[int, int, int]:
    """The authority of an absolute target (after `://`) or of CONNECT."""
    begin = -1
    if target - start == 8 and data[start] == 67 and data[start + 3] == 78 and data[start + 6] == 84:
        begin = target
    for at in range(target, min(target + 12, line_end - 3)):
        if data[at] == 58 and data[at + 1] == 47 and data[at + 2] == 47:
            begin = at + 3
            break
        if data[at] == 47:
            break
    if begin < 0:
        return ABSENT, 0, 0
    stop = begin
    while stop < line_end and data[stop] != 32 and data[stop] != 47 and data[stop] != 63:
        stop += 1
    return FOUND, begin, stop


@kernel
def _is_host_header(data: Bytes, at: int, line_end: int) -> bool:
    return line_end - at > 5 and _reads(data, at, _HOST)


@kernel
def _reads(data: Bytes, at: int, word: Bytes) -> bool:
    """`word`, in lower case, stands there in either case."""
    differing = 0
    for k in range(word.size):
        differing += data[at + k] | 32 != word[k]
    return differing == 0


@kernel
def _host_of(data: Bytes, begin: int, stop: int) -> tuple[int, int, int]:
    """Without blanks around it, without `user@` and `:port`. A bracketed address keeps its bracket."""
    while begin < stop and _is_blank(data[begin]):
        begin += 1
    while stop > begin and _is_blank(data[stop - 1]):
        stop -= 1
    for k in range(begin, stop):
        if data[k] == 64:
            begin = k + 1
    for k in range(begin, stop):
        if data[k] == 91:
            break
        if data[k] == 58:
            stop = k
            break
    return (FOUND if stop > begin else ABSENT), begin, stop


@kernel
def _is_blank(byte: int) -> bool:
    return byte == 32 or byte == 9 or byte == 13
