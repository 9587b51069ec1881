"""Packets of a made-up theft, as a capture with headers only: what the thief's connections looked like at the card.

Segments are merged as a receiver's card merges them (GRO), up to 64 kB a frame, so that 65 GB fit into a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.fleetplan import SECOND_US, Longs, Plan
from egress.schema import V4_MAPPED_PREFIX
from egress.transfers import TCP, UDP

MOST_FRAMES = 2_000_000
"""A theft of more frames is left out: a capture of it would be of no use in a test."""
MERGED = 44
"""Segments in one frame: 44 of 1,448 bytes are the most that an IPv4 length of 16 bits has room for."""
PCAP = (0xA1B2C3D4, 2, 4, 0, 0, 256, 1)
"""libpcap's header: microseconds, version 2.4, snapshot length 256, Ethernet."""

Line = Mapping[str, Any]
Octets = npt.NDArray[np.uint8]
SYN, ACK = 0x02, 0x10
RECORD, ETHERNET = 16, 14
"""Bytes of libpcap's record header and of Ethernet's."""
ICMP, ECHO_REQUEST = 1, 8
HEADERS = {ICMP: 8, TCP: 20, UDP: 8}


@dataclass(frozen=True, slots=True)
class Frames:
    """One conversation's frames in time."""

    time: Longs
    is_ours: npt.NDArray[np.bool_]
    payload: Longs
    flags: Longs


def write(path: Path, frame: pl.DataFrame, plan: Plan) -> int:
    """The capture of these transfers; gives its number of frames, 0 where they would be too many or in a tunnel."""
    lines = list(frame.iter_rows(named=True))
    if any(line["tunnel"] for line in lines) or sum(map(_count, lines)) > MOST_FRAMES:
        return 0
    made = [(_frames(line), line, number) for number, line in enumerate(lines)]
    records = np.concatenate([_records(frames, line, number, plan) for frames, line, number in made])
    order = np.argsort(np.concatenate([frames.time for frames, _, _ in made]), kind="stable")
    with path.open("wb") as file:
        file.write(pack("<IHHiIII", *PCAP))
        file.write(records[order].tobytes())
    return len(records)


def _count(line: Line) -> int:
    return 3 + sum(-(-int(line[side]) // _most(line)) for side in ("sent", "received"))


def _most(line: Line) -> int:
    """Payload of one frame."""
    return int(line["packet"]) * (MERGED if line["proto"] == TCP else 1)


def _frames(line: Line) -> Frames:
    """A handshake where there is one, then both sides' bytes evenly over the time."""
    start, length = line["start"], line["length"]
    hello = 2 if line["proto"] == TCP else 0
    times = [np.array([start, start + 1][:hello], dtype=np.int64)]
    sides = [np.array([line["opens"], not line["opens"]][:hello], dtype=bool)]
    sizes = [np.zeros(hello, dtype=np.int64)]
    for is_ours, amount in ((True, line["sent"]), (False, line["received"])):
        count = -(-amount // _most(line))
        times.append(start + 2 + (2 * np.arange(count) + 1) * length // (2 * count + 1))
        sides.append(np.full(count, is_ours))
        sizes.append(np.diff(np.arange(count + 1) * amount // max(1, count)))
    time = np.concatenate(times)
    flags = np.full(time.size, ACK, dtype=np.int64)
    flags[:hello] = (SYN, SYN | ACK)[:hello]
    order = np.argsort(time, kind="stable")
    return Frames(time[order], np.concatenate(sides)[order], np.concatenate(sizes)[order], flags[order])


def _records(frames: Frames, line: Line, number: int, plan: Plan) -> Octets:
    """One row of octets a frame: libpcap's record header, Ethernet, IP, transport."""
    theirs = plan.endpoints[line["peer"]].address
    is_v6 = not theirs.startswith(V4_MAPPED_PREFIX)
    ours = plan.endpoints[line["host"] + is_v6 * len(plan.machines)].address
    ephemeral, service = 32_768 + number * 17 % 28_000, line["port"]
    ports = (ephemeral, service) if line["opens"] else (service, ephemeral)
    templates = np.stack([_template(line, theirs, ours, ports[::-1]), _template(line, ours, theirs, ports)])
    rows = templates[frames.is_ours.astype(np.int64)]
    network, transport = ETHERNET + RECORD, ETHERNET + RECORD + (40 if is_v6 else 20)
    whole = frames.payload + rows.shape[1] - RECORD
    header = (frames.time // SECOND_US, frames.time % SECOND_US, rows.shape[1] - RECORD + 0 * whole, whole)
    rows[:, :RECORD] = np.stack(header, axis=1).astype("<u4").view(np.uint8)
    _put(rows, network + (4 if is_v6 else 2), whole - ETHERNET - (40 if is_v6 else 0), 2)
    if line["proto"] == TCP:
        sent, heard = _sequence(frames)
        _put(rows, transport + 4, sent, 4)
        _put(rows, transport + 8, heard, 4)
        rows[:, transport + 13] = frames.flags
    elif line["proto"] == UDP:
        _put(rows, transport + 4, frames.payload + HEADERS[UDP], 2)
    return rows


def _sequence(frames: Frames) -> tuple[Longs, Longs]:
    """Sequence and acknowledgement numbers; both sides begin at 0, and their SYN counts as one."""
    steps = frames.payload + (frames.flags & SYN > 0)
    ours, theirs = (np.cumsum(np.where(frames.is_ours == side, steps, 0)) for side in (True, False))
    own = np.where(frames.is_ours, ours, theirs) - steps
    return own, np.where(frames.is_ours, theirs, ours) * (frames.flags & ACK > 0)


def _put(rows: Octets, at: int, values: Longs, width: int) -> None:
    """Writes numbers in network order."""
    rows[:, at : at + width] = values.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]


def _template(line: Line, src: bytes, dst: bytes, ports: tuple[int, int]) -> Octets:
    """What all frames of one direction share; lengths, times, flags and sequence numbers are 0."""
    proto = line["proto"]
    if src.startswith(V4_MAPPED_PREFIX):
        network = b"\x45" + bytes(7) + bytes([64, proto]) + bytes(2) + src[12:] + dst[12:]
        ether = bytes(range(2, 14)) + b"\x08\x00"
    else:
        network = b"\x60" + bytes(5) + bytes([proto, 64]) + src + dst
        ether = bytes(range(2, 14)) + b"\x86\xdd"
    transport = bytearray(HEADERS[proto])
    if proto == ICMP:
        transport[0] = ECHO_REQUEST if ports[0] else 0
    else:
        transport[:4] = pack(">HH", *ports)
    if proto == TCP:
        transport[12] = HEADERS[TCP] // 4 << 4
    return np.frombuffer(bytes(RECORD) + ether + network + bytes(transport), dtype=np.uint8)
