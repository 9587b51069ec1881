"""One file of a spool: records one after the other, each with its number and checksum.

A record is `magic, length of its body, number, crc32 of number and body` (20 bytes, little-endian) and its body.
Whatever a crash or a bad disk made of a file, every record that is whole is found again: the magic is searched for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"\xe9SP1"
MOST_BODY_BYTES = 4 << 20
_HEAD = struct.Struct("<4sIQI")
_NUMBER = struct.Struct("<Q")
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message that waits to be sent."""

    topic: str
    """Its short name: `flows`."""
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def bytes(self) -> int:
        return len(self.key) + len(self.value) + sum(len(name) + len(text) for name, text in self.headers)

    @property
    def rows(self) -> int:
        """What its header says; 0 where it says nothing."""
        said = dict(self.headers).get("rows", b"")
        return int(said) if said.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Quantity:
    """So many messages, with so many rows and bytes."""

    messages: int = 0
    rows: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, parcel: Parcel) -> Quantity:
        return cls(1, parcel.rows, parcel.bytes)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.messages + other.messages, self.rows + other.rows, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Record:
    """A parcel where it lies."""

    number: int
    parcel: Parcel
    size: int
    end: int
    """Where the next record begins."""


def framed(number: int, parcel: Parcel) -> list[bytes]:
    """The record's bytes, in pieces. Raises ValueError for one that would not be read back."""
    fields = [parcel.topic.encode(), parcel.key, parcel.value]
    for name, text in parcel.headers:
        fields += [name.encode(), text]
    body = [piece for field in fields for piece in (_SIZE.pack(len(field)), field)]
    length = sum(map(len, body))
    if length > MOST_BODY_BYTES:
        raise ValueError(f"a record of {length:,} B, at most {MOST_BODY_BYTES:,} fit")
    return [_HEAD.pack(MAGIC, length, number, _checksum(number, body)), *body]


def records(data: bytes) -> list[Record]:
    """Every whole record in a file's bytes, in the order in which they lie; damage is passed over."""
    found, at = [], 0
    while at + _HEAD.size <= len(data):
        record = _record(data, at)
        if record is None:
            at = data.find(MAGIC, at + 1)
            if at < 0:
                break
            continue
        found.append(record)
        at = record.end
    return found


def _record(data: bytes, at: int) -> Record | None:
    magic, length, number, checksum = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + length
    if magic != MAGIC or length > MOST_BODY_BYTES or end > len(data):
        return None
    body = memoryview(data)[at + _HEAD.size : end]
    if _checksum(number, [body]) != checksum:
        return None
    try:
        return Record(number, _parcel(body), end - at, end)
    except (ValueError, struct.error):  # whole, and written by something else
        return None


def _parcel(body: memoryview) -> Parcel:
    fields, at = [], 0
    while at < len(body):
        (size,) = _SIZE.unpack_from(body, at)
        fields.append(bytes(body[at + _SIZE.size : at + _SIZE.size + size]))
        at += _SIZE.size + size
    topic, key, value, *rest = fields
    headers = tuple((name.decode(), text) for name, text in zip(rest[::2], rest[1::2], strict=True))
    return Parcel(topic.decode(), key, value, headers)


def _checksum(number: int, pieces: Sequence[bytes | memoryview]) -> int:
    checksum = crc32(_NUMBER.pack(number))
    for piece in pieces:
        checksum = crc32(piece, checksum)
    return checksum
