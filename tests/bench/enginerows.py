"""A million flow rows of one busy hour of a hundred hosts, the same every time: what the engine is measured on.

40,000 conversations in parts, cut every ten seconds of UTC as a meter cuts them: a few carry most, one in ten is with
another host inside, one in four has a name.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host, Model
from egress.schema import FLOWS, TIME, conform

HOSTS, REMOTES, NAMES, CONVERSATIONS, ROWS = 100, 20_000, 300, 40_000, 1_000_000
BEGIN_US, HOUR_US, PART_US = 1_795_168_800_000_000, 3_600_000_000, 10_000_000
MOST_PARTS = HOUR_US // PART_US - 1
MOST_PAYLOAD, HEADERS = 1_448, 52
SIDES, TIMES = ("src", "dst"), ("start", "end")

Ints: TypeAlias = npt.NDArray[np.int64]


def site() -> Config:
    """All hosts hold one model, as inference servers do."""
    hosts = tuple(Host(f"gpu-{n:03d}", (_inside(n),), role="inference") for n in range(HOSTS))
    fleet = Fleet(internal=(network_of("10.0.0.0/8"),), hosts=hosts)
    return Config(fleet=fleet, models=(Model("m", 140_000_000_000, holders=("gpu-*",)),))


def rows() -> pl.DataFrame:
    """FLOWS as metered, in order of their ends, as a meter gives them out."""
    rng = np.random.default_rng(1)
    known = _conversations(rng)
    parts = known["parts"].to_numpy()
    of = np.repeat(np.arange(CONVERSATIONS), parts)
    part = np.arange(ROWS) - np.repeat(parts.cumsum() - parts, parts)
    first = known["first"].to_numpy()[of]
    start = np.where(part == 0, first, first // PART_US * PART_US + part * PART_US)
    left = PART_US - start % PART_US
    length = np.where(part + 1 < parts[of], left - 1, rng.integers(0, left))
    columns = {"part": part, "start": start, "end": start + length, "position": np.arange(ROWS)}
    for side in SIDES:
        packets = 1 + np.floor(rng.lognormal(3, 1.5, ROWS)).astype(np.int64)
        payload = rng.integers(0, MOST_PAYLOAD, ROWS) * packets
        columns |= {
            f"{side}_packets": packets,
            f"{side}_payload": payload,
            f"{side}_bytes": payload + HEADERS * packets,
        }
    frame = pl.concat([known.drop("parts", "first")[of], pl.DataFrame(columns)], how="horizontal")
    typed = frame.with_columns(pl.col(name).cast(FLOWS.column(name).dtype) for name in columns if name not in TIMES)
    return conform(typed.with_columns(pl.col(TIMES).cast(TIME)).sort("end", "position"), FLOWS)


def _conversations(rng: np.random.Generator) -> pl.DataFrame:
    parts = _parts(rng)
    host = rng.integers(0, HOSTS, CONVERSATIONS)
    other = (host + rng.integers(1, HOSTS, CONVERSATIONS)) % HOSTS
    remote = np.minimum(rng.zipf(1.3, CONVERSATIONS), REMOTES)
    is_inside = rng.random(CONVERSATIONS) < 0.1
    is_named = ~is_inside & (rng.random(CONVERSATIONS) < 0.25)
    inside = [_inside(n) for n in range(HOSTS)]
    outside = [bytes_of(f"198.{18 + n // 2**16}.{n // 256 % 256}.{n % 256}") for n in range(REMOTES + 1)]
    ends = zip(is_inside, other, remote, strict=True)
    return pl.DataFrame(
        {
            "parts": parts,
            "first": BEGIN_US + rng.integers(0, HOUR_US - (parts - 1) * PART_US),
            "collector": "capture",
            "sensor": "bench",
            "flow_id": np.arange(CONVERSATIONS).astype(np.uint64),
            "src_ip": [inside[n] for n in host],
            "dst_ip": [inside[n] if at_home else outside[m] for at_home, n, m in ends],
            "src_port": rng.integers(32_768, 60_999, CONVERSATIONS).astype(np.uint16),
            "dst_port": rng.choice([443, 443, 443, 80, 22, 8080, 5432], CONVERSATIONS).astype(np.uint16),
            "proto": np.where(rng.random(CONVERSATIONS) < 0.9, 6, 17).astype(np.uint8),
            "name": [f"api{m % NAMES}.example.net" if named else "" for named, m in zip(is_named, remote, strict=True)],
            "origin": "bench.pcap",
        }
    )


def _parts(rng: np.random.Generator) -> Ints:
    """Parts of each conversation, from one to the whole hour, that make so many rows."""
    weight = rng.lognormal(0, 1.5, CONVERSATIONS)
    parts = 1 + np.floor(weight / weight.sum() * (ROWS - CONVERSATIONS)).astype(np.int64)
    parts = np.minimum(parts, MOST_PARTS)
    while (missing := ROWS - int(parts.sum())) > 0:
        parts[np.flatnonzero(parts < MOST_PARTS)[:missing]] += 1
    return parts


def _inside(number: int) -> bytes:
    return bytes_of(f"10.77.{number // 200}.{number % 200 + 1}")
