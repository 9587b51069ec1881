"""What the tests of the store put into it."""

from __future__ import annotations

import numpy as np
import polars as pl

from egress import schema
from egress.contracts import Count, Destination, Finding, InputTally, Level, ModelShare, Skipped, Tally

DAY_US = 86_400_000_000


NOON_US = 20_000 * DAY_US + DAY_US // 2


def address(number: int) -> bytes:
    return schema.V4_MAPPED_PREFIX + number.to_bytes(4, "big")


def flows(count: int, seed: int = 1, span_us: int = 2 * DAY_US) -> pl.DataFrame:
    """Attributed rows of `count` different parts of conversations, over `span_us` from noon."""
    draw = np.random.default_rng(seed)
    start = NOON_US + np.sort(draw.integers(0, span_us, count))
    frame = pl.DataFrame(
        {
            "collector": ["capture"] * count,
            "host": draw.choice(["gpu-01", "gpu-02"], count),
            "side": draw.choice(["src", "dst"], count),
            "flow_id": draw.integers(0, 2**63, count).astype(np.uint64),
            "part": draw.integers(0, 3, count),
            "start": start,
            "end": start + draw.integers(0, 10_000_000, count),
            "src_ip": [address(int(number)) for number in draw.integers(0x0A000001, 0x0A000005, count)],
            "dst_ip": [address(int(number)) for number in draw.integers(0xC6336401, 0xC6336409, count)],
            "dst_port": draw.choice([22, 443], count),
            "proto": np.full(count, 6),
            **{name: draw.integers(1, 2**40, count) for name in ("src_bytes", "dst_bytes", "src_payload")},
            **{name: draw.integers(1, 2**20, count) for name in ("src_packets", "dst_packets")},
            "name": draw.choice(["", "a.example"], count),
            "origin": ["lab.pcap"] * count,
        }
    ).with_columns(pl.col("start", "end").cast(schema.TIME))
    return schema.conform(frame, schema.FLOWS)


def cells(
    *, sent: int = 10, minute: int = 0, host: str = "gpu-01", name: str = "", sensor: str = "capture/replay"
) -> pl.DataFrame:
    row = {"host": host, "sensor": sensor, "remote_ip": address(1), "minute": minute, "sent": sent, "name": name}
    frame = pl.DataFrame([{**row, "first": minute, "last": minute + sent}])
    return schema.conform(frame.with_columns(pl.col("minute", "first", "last").cast(schema.TIME)), schema.CELLS)


FINDING = Finding(
    uid="5f1c0a77",
    detector="ledger",
    subject="host:gpu-01",
    host="gpu-01",
    level=Level.HIGH,
    title="24 MB of llama-70b could be gone",
    bytes=2**63 + 1,
    window="1h",
    start=NOON_US,
    first_seen=NOON_US,
    last_seen=NOON_US + 1,
    level_times={Level.INFO: NOON_US, Level.HIGH: NOON_US + 1},
    models=(ModelShare("llama-70b", 2**63 + 1, 2**63),),
    destinations=(Destination("198.51.100.0/24", "unapproved", 7, ("198.51.100.10",), ("a.example",)),),
    path=("gpu-01", "198.51.100.10"),
    reasons=("1/16 of native in 1 h", "name \x1b[31m'; DROP TABLE findings"),
    evidence=({"src_ip": "10.0.0.1", "dst_port": 22, "bytes": 7},),
)


TALLY = Tally(
    Count(100, 9000),
    Count(90, 8000),
    {"arp": Count(10, 1000)},
    {"merged": 2},
    (Skipped("arp", "lab.pcap, packet 3", "no IP"),),
    (InputTally("lab.pcap", "ab" * 32, 9500, 100, 9000),),
)


SUMS = "SELECT count() AS n, sum(src_bytes) AS src, sum(dst_bytes) AS dst, sum(src_packets) AS packets FROM flows"


def sums(frame: pl.DataFrame) -> tuple[int, ...]:
    columns = ("src_bytes", "dst_bytes", "src_packets")
    return (frame.height, *(int(frame[column].sum()) for column in columns))
