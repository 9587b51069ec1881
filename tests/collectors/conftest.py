"""Captures written by hand, byte by byte, and the meter's answer to them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import polars as pl
import pytest

from collectors.capture import CaptureCollector
from egress.contracts import Count, ReadSettings, Tally

T0 = 1_700_000_000
"""A whole 10 s boundary, UTC."""


@dataclass(frozen=True)
class Metered:
    """All that a reading gave."""

    flows: pl.DataFrame
    tally: Tally

    @property
    def rows(self) -> list[dict[str, object]]:
        return list(self.flows.iter_rows(named=True))

    @property
    def row(self) -> dict[str, object]:
        """The only row."""
        assert self.flows.height == 1, self.flows
        return self.rows[0]

    def total(self, column: str) -> int:
        return int(self.flows[column].sum())


def address(text: str) -> bytes:
    """16 bytes, IPv4 as v4-mapped."""
    ip = ip_address(text)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def pcap_bytes(
    packets: Iterable[tuple[float, bytes]] | Iterable[bytes],
    *,
    link: int = 1,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    snap: int = 262_144,
    wire: Callable[[bytes], int] = len,
) -> bytes:
    """A pcap file; packets are (seconds after T0, bytes), or bytes a millisecond apart."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)
    unit = 1_000_000_000 if magic == 0xA1B23C4D else 1_000_000
    for number, packet in enumerate(packets):
        after, data = packet if isinstance(packet, tuple) else (number / 1000, packet)
        ticks = round((T0 + after) * 1_000_000) * (unit // 1_000_000)
        kept = data[:snap]
        out += struct.pack(order + "IIII", ticks // unit, ticks % unit, len(kept), wire(data))
        out += bytes(8) if magic == 0xA1B2CD34 else b""
        out += kept
    return out


def meter_bytes(folder: Path, *captures: bytes, names: Sequence[str] = (), **settings: object) -> Metered:
    paths = []
    for number, content in enumerate(captures):
        path = folder / (names[number] if names else f"{number}.pcap")
        path.write_bytes(content)
        paths.append(path)
    return meter_paths(paths, **settings)


def meter_paths(paths: Sequence[Path], **settings: object) -> Metered:
    """Reads and checks what holds for every reading: frames and bytes read = metered + skipped."""
    flows, tally = [], Tally()
    options = {"threads": 1} | settings
    for batch in CaptureCollector().read(paths, ReadSettings(**options)):  # type: ignore[arg-type]
        flows.append(batch.flows)
        tally += batch.tally
    frame = pl.concat(flows)
    assert tally.read == tally.metered + sum(tally.skipped.values(), Count())
    assert tally.read == sum((Count(file.frames, file.wire_bytes) for file in tally.inputs), Count())
    return Metered(frame, tally)


@pytest.fixture
def meter(tmp_path: Path) -> Callable[..., Metered]:
    """`meter(capture_bytes, ..., **settings)`."""
    return lambda *captures, **settings: meter_bytes(tmp_path, *captures, **settings)


@pytest.fixture
def pcap() -> Callable[..., bytes]:
    return pcap_bytes


@pytest.fixture
def ip() -> Callable[[str], bytes]:
    return address


@pytest.fixture
def read_paths() -> Callable[..., Metered]:
    return meter_paths
