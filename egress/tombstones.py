"""What a spool had to drop, by stream: small enough to be kept, exact enough for the gap to be known downstream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from zlib import crc32

from egress.packing import WireError
from egress.segments import Parcel
from egress.wire import read_header


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Messages of one stream that will not be sent; not necessarily all between the first and the last."""

    topic: str
    host: str
    sensor: str
    epoch: str
    first_seq: int
    last_seq: int
    messages: int
    rows: int
    bytes: int

    @property
    def stream(self) -> tuple[str, str, str, str]:
        return self.topic, self.sensor, self.host, self.epoch


def of(parcel: Parcel) -> Tombstone:
    """For one message. One whose headers nobody can read counts, too, under no name."""
    try:
        header = read_header(parcel.headers)
    except WireError:
        return Tombstone(parcel.topic, "", "", "", 0, 0, 1, 0, parcel.bytes)
    name = (parcel.topic, header.host, header.sensor, header.epoch)
    return Tombstone(*name, header.seq, header.seq, 1, header.rows, parcel.bytes)


def merged(stones: Iterable[Tombstone]) -> list[Tombstone]:
    """One for each stream, in their order."""
    sums: dict[tuple[str, str, str, str], Tombstone] = {}
    for stone in stones:
        known = sums.get(stone.stream)
        sums[stone.stream] = stone if known is None else _sum(known, stone)
    return [sums[stream] for stream in sorted(sums)]


def dumped(stones: Iterable[Tombstone]) -> bytes:
    """A line of checksum and length, then one of JSON."""
    body = json.dumps([asdict(stone) for stone in stones], sort_keys=True).encode()
    return b"%08x %d\n%s\n" % (crc32(body), len(body), body)


def loaded(data: bytes) -> list[Tombstone] | None:
    """What `dumped` wrote, whatever follows it; None for anything else."""
    first, _, rest = data.partition(b"\n")
    try:
        checksum, length = int(first[:8], 16), int(first[8:])
        body = rest[:length]
        return [Tombstone(**stone) for stone in json.loads(body)] if crc32(body) == checksum else None
    except (ValueError, TypeError):
        return None


def _sum(one: Tombstone, other: Tombstone) -> Tombstone:
    return Tombstone(
        one.topic,
        one.host,
        one.sensor,
        one.epoch,
        min(one.first_seq, other.first_seq),
        max(one.last_seq, other.last_seq),
        one.messages + other.messages,
        one.rows + other.rows,
        one.bytes + other.bytes,
    )
