"""An independent reader of capture containers: what frames a file holds, and how long they were on the wire.

Plain Python and `struct`, written from the format descriptions (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), so
that the product's reader is held against something that shares no line with it. It is slow and reads whole files.

Rules where the descriptions leave a choice:
- a record that the file ends in is not a frame (nor is it for libpcap and Wireshark);
- an original length below the captured one, or above 1 MiB, is not believed: the captured length counts;
- a record that cannot be (captured length above 1 MiB, block shorter than its fixed part, no such interface) ends the
  file: nothing after it can be trusted to be a record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

LONGEST_BELIEVED = 1 << 20
"""No segmentation offload makes frames above 512 KiB today; what claims more is damage or forgery."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PCAP_ORDERS = {
    b"\xa1\xb2\xc3\xd4": (">", 16),
    b"\xd4\xc3\xb2\xa1": ("<", 16),
    b"\xa1\xb2\x3c\x4d": (">", 16),
    b"\x4d\x3c\xb2\xa1": ("<", 16),
    b"\xa1\xb2\xcd\x34": (">", 24),  # Kuznetsov's modified libpcap: 8 more bytes a record
    b"\x34\xcd\xb2\xa1": ("<", 24),
}
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame; `wire` is the length that counts, `number` starts at 1."""

    number: int
    link: int
    wire: int
    data: bytes
    is_disbelieved: bool


def frames(path: Path) -> Iterator[Frame]:
    """All whole frames of a capture, plain, gzipped or zstandard; nothing for what is no capture."""
    yield from frames_of(plain(path.read_bytes()))


def is_capture(path: Path) -> bool:
    head = plain(path.read_bytes())[:4]
    return head in PCAP_ORDERS or head == struct.pack(">I", SECTION)


def frames_of(data: bytes) -> Iterator[Frame]:
    if data[:4] in PCAP_ORDERS:
        yield from _pcap(data)
    elif data[:4] == struct.pack(">I", SECTION):
        yield from _pcapng(data)


def plain(data: bytes) -> bytes:
    """What a compressed stream gives up to where it breaks."""
    if data[:2] == GZIP:
        return _gunzip(data)
    if data[:4] == ZSTD:
        return _unzstd(data)
    return data


def _gunzip(data: bytes) -> bytes:
    out = bytearray()
    while data[:2] == GZIP:
        member = zlib.decompressobj(31)
        try:
            out += member.decompress(data)
        except zlib.error:
            break
        if not member.eof:
            break
        data = member.unused_data
    return bytes(out)


def _unzstd(data: bytes) -> bytes:
    out = bytearray()
    while data[:4] == ZSTD:
        member = zstandard.ZstdDecompressor().decompressobj()
        try:
            out += member.decompress(data)
        except zstandard.ZstdError:
            break
        data = member.unused_data
    return bytes(out)


def _pcap(data: bytes) -> Iterator[Frame]:
    order, header_bytes = PCAP_ORDERS[data[:4]]
    if len(data) < 24:
        return
    major, minor = struct.unpack_from(f"{order}HH", data, 4)
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    at, number = 24, 0
    while at + header_bytes <= len(data):
        captured, original = struct.unpack_from(f"{order}II", data, at + 8)
        if (major == 2 and minor < 3) or major == 543 or ((major, minor) == (2, 3) and captured > original):
            captured, original = original, captured  # libpcap 0.4 and older wrote them the other way round
        start, at = at + header_bytes, at + header_bytes + captured
        if captured > LONGEST_BELIEVED or at > len(data):
            return
        number += 1
        yield _frame(number, link, original, data[start:at])


def _pcapng(data: bytes) -> Iterator[Frame]:
    order, at, number = "<", 0, 0
    links: list[tuple[int, int]] = []
    while at + 12 <= len(data):
        if data[at : at + 4] == struct.pack(">I", SECTION):
            order, links = ">" if data[at + 8 : at + 12] == b"\x1a\x2b\x3c\x4d" else "<", []
        kind, length = struct.unpack_from(f"{order}II", data, at)
        body = data[at + 8 : at + length - 4]
        if length < 12 or length % 4 or at + length > len(data):
            return
        at += length
        if kind == INTERFACE and len(body) >= 8:
            links.append(struct.unpack_from(f"{order}HxxI", body))
        if kind not in (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET):
            continue
        packet = _packet(order, kind, body, links)
        if packet is None:
            return
        number += 1
        yield _frame(number, *packet)


def _packet(order: str, kind: int, body: bytes, links: list[tuple[int, int]]) -> tuple[int, int, bytes] | None:
    """(link type, original length, captured bytes) of a packet block; None where it cannot be one."""
    fixed = 4 if kind == SIMPLE_PACKET else 20
    if len(body) < fixed:
        return None
    if kind == SIMPLE_PACKET:
        interface, (original,) = 0, struct.unpack_from(f"{order}I", body)
        snap = links[0][1] if links else 0
        captured = min(original, snap or original, len(body) - fixed)
    else:
        shape = f"{order}I8xII" if kind == ENHANCED_PACKET else f"{order}Hxx8xII"
        interface, captured, original = struct.unpack_from(shape, body)
    if interface >= len(links) or captured > len(body) - fixed:
        return None
    return links[interface][0], original, body[fixed : fixed + captured]


def _frame(number: int, link: int, original: int, data: bytes) -> Frame:
    is_disbelieved = not len(data) <= original <= LONGEST_BELIEVED
    return Frame(number, link, len(data) if is_disbelieved else original, data, is_disbelieved)
