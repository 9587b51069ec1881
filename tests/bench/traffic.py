"""A large capture of ordinary traffic, the same bytes every time: what meters are measured on.

60,000 conversations and 4,000,000 packets in ten minutes: TCP with SYN, FIN, timestamps and running sequence numbers,
UDP, a tenth of it IPv6; frames up to 1,514 bytes of which 96 are kept, as `tcpdump -s 96` would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

PACKETS, FLOWS = 4_000_000, 60_000
SPAN_US = 600_000_000
BEGIN_US = 1_795_168_800_000_000
SNAP = 96
MOST_PAYLOAD = 1448
AT_ONCE = 200_000
ETHERNET, V4, V6, TCP, TIMESTAMPS, UDP = 14, 20, 40, 20, 12, 8
FIN, SYN, PSH, ACK = 1, 2, 8, 16


@dataclass(frozen=True, slots=True)
class Packets:
    """One segment of traffic, sorted by time; one value a packet."""

    time: Ints
    flow: Ints
    is_reply: NDArray[np.bool_]
    payload: Ints
    flags: Ints
    seq: Ints
    ack: Ints


@dataclass(frozen=True, slots=True)
class Flows:
    """One value a conversation."""

    is_tcp: NDArray[np.bool_]
    is_v6: NDArray[np.bool_]
    client: Ints
    server: Ints
    client_port: Ints
    server_port: Ints


@dataclass(frozen=True, slots=True)
class Shape:
    """So many segments one after the other, each with its own conversations and `PACKETS` packets."""

    segments: int = 1
    flows: int = FLOWS
    span_us: int = SPAN_US

    @property
    def packets(self) -> int:
        return self.segments * PACKETS

    @property
    def name(self) -> str:
        return f"{self.segments}x{PACKETS}-{self.flows}-{self.span_us // 10**6}s.pcap"


def write_capture(path: Path, shape: Shape, packets: int = PACKETS) -> None:
    """The capture, whole or not at all; `packets` in each segment."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(np.array([0xA1B2C3D4, 2 | 4 << 16, 0, 0, SNAP, 1], "<u4").tobytes())
        for segment in range(shape.segments):
            rng = np.random.default_rng(segment)
            flows = _flows(rng, shape.flows)
            begin = BEGIN_US + segment * shape.span_us
            traffic = _packets(rng, flows, packets, begin, shape.span_us)
            for at in range(0, packets, AT_ONCE):
                file.write(_records(flows, traffic, slice(at, at + AT_ONCE)))
    unfinished.replace(path)


def _flows(rng: np.random.Generator, count: int) -> Flows:
    return Flows(
        rng.random(count) < 0.9,
        rng.random(count) < 0.1,
        rng.integers(1, 200, count),
        rng.integers(1, 20_000, count),
        rng.integers(32_768, 60_999, count),
        rng.choice([443, 443, 443, 80, 22, 8080, 5432], count),
    )


def _packets(rng: np.random.Generator, flows: Flows, packets: int, begin: int, span_us: int) -> Packets:
    """At least five packets a conversation; few carry most, as everywhere."""
    count = flows.is_tcp.size
    weight = rng.lognormal(0, 2, count)
    size = 5 + np.floor(weight / weight.sum() * (packets - 5 * count)).astype(np.int64)
    size[np.argmax(size)] += packets - size.sum()
    flow = np.repeat(np.arange(count), size)
    first = size.cumsum() - size
    place = np.arange(packets) - first[flow]
    left = size[flow] - 1 - place

    start = rng.integers(0, span_us * 9 // 10, count)
    length = np.minimum(rng.lognormal(16.5, 1.5, count), span_us - start - 1).astype(np.int64)
    moment = np.sort(flow + rng.random(packets)) - flow
    time = begin + start[flow] + (moment * length[flow]).astype(np.int64)

    is_tcp = flows.is_tcp[flow]
    is_reply = rng.random(packets) < rng.beta(2, 2, count)[flow]
    is_reply = np.where(place < 2, place == 1, is_reply)
    payload = np.where(rng.random(packets) < 0.6, rng.integers(1, MOST_PAYLOAD, packets), 0)
    payload = np.where(is_tcp & ((place < 3) | (left < 2)), 0, np.where(is_tcp, payload, payload + 1))
    flags = np.where(place == 0, SYN, np.where(place == 1, SYN | ACK, np.where(left < 2, FIN | ACK, ACK)))
    flags |= np.where(payload > 0, PSH, 0)
    seq, ack = _sequence(flow, is_reply, payload, flags, first)

    order = np.argsort(time, kind="stable")
    columns = (time, flow, is_reply, payload, flags, seq, ack)
    return Packets(*(column[order] for column in columns))


def _sequence(flow: Ints, is_reply: NDArray[np.bool_], payload: Ints, flags: Ints, first: Ints) -> tuple[Ints, Ints]:
    """Bytes that each side sent before a packet, and that the other side had sent: numbers without gaps."""
    length = payload + (flags & SYN != 0) + (flags & FIN != 0)
    sent = []
    for side in (False, True):
        mine = np.where(is_reply == side, length, 0)
        before = mine.cumsum() - mine
        sent.append(before - before[first][flow])
    return np.where(is_reply, sent[1], sent[0]), np.where(is_reply, sent[0], sent[1])


def _records(flows: Flows, packets: Packets, part: slice) -> bytes:
    """pcap records of some packets."""
    flow, payload = packets.flow[part], packets.payload[part]
    is_tcp, is_v6 = flows.is_tcp[flow], flows.is_v6[flow]
    header = ETHERNET + np.where(is_v6, V6, V4) + np.where(is_tcp, TCP + TIMESTAMPS, UDP)
    wire = header + payload
    kept = np.minimum(wire, SNAP)
    end = (kept + 16).cumsum()
    out = np.full(int(end[-1]), 0x17, np.uint8)
    begin = end - kept - 16
    _put(out, begin, _words("<u4", packets.time[part] // 10**6, packets.time[part] % 10**6, kept, wire))
    for six in (False, True):
        for tcp in (False, True):
            which = np.flatnonzero((is_v6 == six) & (is_tcp == tcp))
            if which.size:
                _put(out, begin[which] + 16, _headers(flows, packets, part, which, six, tcp, wire[which]))
    return out.tobytes()


def _headers(
    flows: Flows, packets: Packets, part: slice, which: Ints, is_v6: bool, is_tcp: bool, wire: Ints
) -> NDArray[np.uint8]:
    flow, is_reply = packets.flow[part][which], packets.is_reply[part][which]
    client = _address(flows.client[flow], is_v6, inside=True)
    server = _address(flows.server[flow], is_v6, inside=False)
    source = np.where(is_reply[:, None], server, client)
    target = np.where(is_reply[:, None], client, server)
    from_port = np.where(is_reply, flows.server_port[flow], flows.client_port[flow])
    to_port = np.where(is_reply, flows.client_port[flow], flows.server_port[flow])
    fixed = np.tile(np.frombuffer(_ethernet_and_ip(is_v6, is_tcp), np.uint8), (which.size, 1))
    ip_length = wire - ETHERNET - (V6 if is_v6 else 0)
    fixed[:, 18 if is_v6 else 16 : 20 if is_v6 else 18] = _words(">u2", ip_length)
    ports = _words(">u2", from_port, to_port)
    if not is_tcp:
        return np.hstack(
            [fixed, source, target, ports, _words(">u2", wire - ETHERNET - (V6 if is_v6 else V4), wire * 0)]
        )
    numbers = _words(">u4", packets.seq[part][which] % 2**32, packets.ack[part][which] % 2**32)
    rest = _words(">u2", 8 << 12 | packets.flags[part][which], wire * 0 + 501, wire * 0, wire * 0)
    options = _words(">u4", wire * 0 + 0x0101080A, packets.time[part][which] // 1000 % 2**32, wire * 0)
    return np.hstack([fixed, source, target, ports, numbers, rest, options])


def _ethernet_and_ip(is_v6: bool, is_tcp: bool) -> bytes:
    """Up to the addresses; lengths come later, checksums stay 0 as under offloading."""
    proto = 6 if is_tcp else 17
    if is_v6:
        return bytes.fromhex("020000000001020000000002 86dd 60000000 0000") + bytes([proto, 64])
    return bytes.fromhex("020000000001020000000002 0800 4500 0000 0000 4000 40") + bytes([proto, 0, 0])


def _address(number: Ints, is_v6: bool, inside: bool) -> NDArray[np.uint8]:
    if is_v6:
        net = 0xFD770001 if inside else 0x20010DB8
        return _words(">u4", number * 0 + net, number * 0, number * 0, number)
    return _words(">u4", (0x0A4D0000 if inside else 0xC6330000) + number)


def _words(kind: str, *columns: Ints) -> NDArray[np.uint8]:
    """Columns side by side as bytes, a row a packet."""
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(kind)).view(np.uint8)


def _put(out: NDArray[np.uint8], at: Ints, rows: NDArray[np.uint8]) -> None:
    out[at[:, None] + np.arange(rows.shape[1])] = rows
