"""The same packets in other clothes: other links, containers and tunnels around a capture's Ethernet frames.

Nothing about who sent what to whom changes, so neither may a finding (but for where a tunnel ends).
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import zstandard

from tests.corpus.oracle_reader import Frame

ETHERNET, NULL, PPP, RAW, LOOP, SLL, SLL2 = 1, 0, 9, 101, 108, 113, 276
HOST = bytes([10, 77, 1, 10])
HOST6 = bytes.fromhex("fd770001") + bytes(11) + b"\x10"
OUTSIDE = bytes([203, 0, 113, 77])
OUTSIDE6 = bytes.fromhex("20010db8") + bytes(10) + b"\x77\x77"
INNER6, REMOTE6 = bytes.fromhex("fd99") + bytes(13) + b"\x01", bytes.fromhex("fd99") + bytes(13) + b"\x02"
MACS = bytes.fromhex("020000000001020000000002")
ETHERNET_BYTES = 14


@dataclass(frozen=True, slots=True)
class Timed:
    """A frame with its time in microseconds."""

    time_us: int
    frame: Frame


Dress = Callable[[Frame], Frame]
"""A frame in other clothes; non-IPv4 frames come back as they are."""


def timed(data: bytes, frames: Iterable[Frame]) -> list[Timed]:
    """Frames of a little-endian microsecond pcap with their times."""
    out, at = [], 24
    for frame in frames:
        seconds, micros = struct.unpack_from("<II", data, at)
        out.append(Timed(seconds * 1_000_000 + micros, frame))
        at += 16 + len(frame.data)
    return out


def stretched(capture: list[Timed], duration_us: int) -> list[Timed]:
    """The same frames in the same order, evenly slower."""
    first, last = capture[0].time_us, capture[-1].time_us
    return [replace(one, time_us=first + (one.time_us - first) * duration_us // (last - first)) for one in capture]


def pcap(capture: Iterable[Timed], *, order: str = "<", nanoseconds: bool = False) -> bytes:
    frames = list(capture)
    link = frames[0].frame.link
    magic, per_micro = (0xA1B23C4D, 1000) if nanoseconds else (0xA1B2C3D4, 1)
    out = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262_144, link)]
    for one in frames:
        seconds, micros = divmod(one.time_us, 1_000_000)
        data, wire = one.frame.data, one.frame.wire
        out += [struct.pack(f"{order}IIII", seconds, micros * per_micro, len(data), wire), data]
    return b"".join(out)


def pcapng(capture: Iterable[Timed], *, order: str = "<", offset_s: int = 0) -> bytes:
    """Enhanced packet blocks in nanoseconds, an unknown block between them, times less `offset_s` (if_tsoffset)."""
    frames = list(capture)
    resolution = struct.pack(f"{order}HHB3x", 9, 1, 9) + struct.pack(f"{order}HHq", 14, 8, offset_s)
    interface = struct.pack(f"{order}HHI", frames[0].frame.link, 0, 262_144) + resolution + bytes(4)
    out = [
        _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)),
        _block(order, 1, interface),
        _block(order, 0x0BAD0BAD, b"what nobody knows"),
    ]
    for one in frames:
        nanos = (one.time_us - offset_s * 1_000_000) * 1000
        data, wire = one.frame.data, one.frame.wire
        head = struct.pack(f"{order}IIIII", 0, nanos >> 32, nanos & 0xFFFFFFFF, len(data), wire)
        out.append(_block(order, 6, head + data))
    return b"".join(out)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def _put_between(before: bytes, *, drop: int = ETHERNET_BYTES, link: int = ETHERNET) -> Dress:
    """`before` in place of the first `drop` bytes."""

    def dress(frame: Frame) -> Frame:
        data = before + frame.data[drop:]
        return replace(frame, link=link, data=data, wire=frame.wire - drop + len(before))

    return dress


def _tagged(tag: bytes) -> Dress:
    def dress(frame: Frame) -> Frame:
        return replace(frame, data=frame.data[:12] + tag + frame.data[12:], wire=frame.wire + len(tag))

    return dress


def _sll(frame: Frame) -> Frame:
    way = 4 if _is_from_host(frame) else 0
    return _put_between(struct.pack(">HHH8sH", way, 1, 6, MACS[:8], 0x0800), link=SLL)(frame)


def _sll2(frame: Frame) -> Frame:
    way = 4 if _is_from_host(frame) else 0
    return _put_between(struct.pack(">HHIHBB8s", 0x0800, 0, 2, 1, way, 6, MACS[:8]), link=SLL2)(frame)


def _pppoe(frame: Frame) -> Frame:
    length = struct.pack(">H", _or_zero(frame.wire - ETHERNET_BYTES + 2))
    return _put_between(MACS + bytes.fromhex("886411000001") + length + b"\x00\x21")(frame)


LINKS: dict[str, Dress] = {
    "802.1Q": _tagged(bytes.fromhex("81000064")),
    "QinQ 0x88a8": _tagged(bytes.fromhex("88a8000a81000064")),
    "QinQ 0x9100": _tagged(bytes.fromhex("9100000a81000064")),
    "MPLS": _put_between(MACS + bytes.fromhex("8847000640ff000651ff")),
    "PPPoE": _pppoe,
    "raw IP": _put_between(b"", link=RAW),
    "null": _put_between(bytes.fromhex("02000000"), link=NULL),
    "loop": _put_between(bytes.fromhex("00000002"), link=LOOP),
    "PPP": _put_between(bytes.fromhex("ff030021"), link=PPP),
    "SLL": _sll,
    "SLL2": _sll2,
}

CONTAINERS: dict[str, Callable[[list[Timed]], bytes]] = {
    "big-endian pcap": lambda capture: pcap(capture, order=">"),
    "nanosecond pcap": lambda capture: pcap(capture, nanoseconds=True),
    "pcapng": pcapng,
    "big-endian pcapng": lambda capture: pcapng(capture, order=">"),
    "pcapng with a time offset": lambda capture: pcapng(capture, offset_s=1_000_000_000),
    "gzip": lambda capture: gzip.compress(pcap(capture), mtime=0),
    "gzip of pcapng": lambda capture: gzip.compress(pcapng(capture), mtime=0),
    "zstandard": lambda capture: zstandard.ZstdCompressor().compress(pcap(capture)),
}


def _through(proto: int, before: bytes, *, keep_ethernet: bool = False, is_v6: bool = False) -> Dress:
    """Between our host and an address outside, `before` ahead of the inner packet."""
    drop = 0 if keep_ethernet else ETHERNET_BYTES

    def dress(frame: Frame) -> Frame:
        if frame.data[12:14] != b"\x08\x00":
            return frame
        body, wire = before + frame.data[drop:], len(before) + frame.wire - drop
        if proto == 17:
            body, wire = before[:4] + struct.pack(">HH", _or_zero(wire), 0) + body[8:], wire
        outer = _outer6(proto, wire, _is_from_host(frame)) if is_v6 else _outer4(proto, wire, _is_from_host(frame))
        kind = b"\x86\xdd" if is_v6 else b"\x08\x00"
        return replace(frame, data=MACS + kind + outer + body, wire=14 + len(outer) + wire)

    return dress


def _outer4(proto: int, wire: int, is_outbound: bool) -> bytes:
    ends = HOST + OUTSIDE if is_outbound else OUTSIDE + HOST
    return struct.pack(">BBHHHBBH", 0x45, 0, _or_zero(wire + 20), 0, 0, 64, proto, 0) + ends


def _outer6(proto: int, wire: int, is_outbound: bool) -> bytes:
    ends = HOST6 + OUTSIDE6 if is_outbound else OUTSIDE6 + HOST6
    return struct.pack(">IHBB", 6 << 28, _or_zero(wire), proto, 64) + ends


def _or_zero(length: int) -> int:
    """What the kernel writes where a segment to be cut later does not fit the field."""
    return length if length < 1 << 16 else 0


def _is_from_host(frame: Frame) -> bool:
    return frame.data[26:30] == HOST


def _udp(port: int, header: str) -> bytes:
    return struct.pack(">HHHH", 50_000, port, 0, 0) + bytes.fromhex(header)


def _gtp(frame: Frame) -> Frame:
    length = _or_zero(frame.wire - ETHERNET_BYTES)
    return _through(17, _udp(2152, f"30ff{length:04x}0000004d"))(frame)


def _as_ipv6(frame: Frame) -> Frame:
    """The same segment under an IPv6 header (its checksum is then wrong, as with any offload)."""
    header = (frame.data[14] & 15) * 4
    length = frame.wire - ETHERNET_BYTES - header
    ends = (INNER6 + REMOTE6) if _is_from_host(frame) else (REMOTE6 + INNER6)
    ip6 = struct.pack(">IHBB", 6 << 28, _or_zero(length), frame.data[23], 64) + ends
    data = MACS + b"\x86\xdd" + ip6 + frame.data[ETHERNET_BYTES + header :]
    return replace(frame, data=data, wire=ETHERNET_BYTES + 40 + length)


def _ipv6_through(proto: int, before: bytes) -> Dress:
    def dress(frame: Frame) -> Frame:
        inner = _as_ipv6(frame)
        body, wire = before + inner.data[ETHERNET_BYTES:], len(before) + inner.wire - ETHERNET_BYTES
        if proto == 17:
            body = before[:4] + struct.pack(">HH", _or_zero(wire), 0) + body[8:]
        outer = _outer4(proto, wire, _is_from_host(frame))
        return replace(frame, data=MACS + b"\x08\x00" + outer + body, wire=34 + wire)

    return dress


TUNNELS: dict[str, Dress] = {
    "6in4": _ipv6_through(41, b""),
    "teredo": _ipv6_through(17, _udp(3544, "")),
    "vxlan": _through(17, _udp(4789, "0800000000004d00"), keep_ethernet=True),
    "vxlan over IPv6": _through(17, _udp(4789, "0800000000004d00"), keep_ethernet=True, is_v6=True),
    "geneve": _through(17, _udp(6081, "0000655800004d00"), keep_ethernet=True),
    "geneve with options": _through(17, _udp(6081, "0200655800004d000102030100000000"), keep_ethernet=True),
    "gre": _through(47, bytes.fromhex("00000800")),
    "gre with key and checksum": _through(47, bytes.fromhex("a0000800000000000000004d")),
    "gre over IPv6": _through(47, bytes.fromhex("00000800"), is_v6=True),
    "ethernet in gre": _through(47, bytes.fromhex("00006558"), keep_ethernet=True),
    "erspan II": _through(47, bytes.fromhex("100088be00000001100000000000000a"), keep_ethernet=True),
    "ipip": _through(4, b""),
    "4in6": _through(4, b"", is_v6=True),
    "gtp": _gtp,
}
