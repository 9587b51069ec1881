"""Flow rows of a busy fleet, as collectors report them: every conversation has a row each ten seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from egress.schema import FLOWS, TIME, V4_MAPPED_PREFIX, conform

BEGIN_US = 1_795_348_800_000_000
"""2026-11-22 12:00 UTC."""
TICK_US = 10_000_000


@dataclass(frozen=True)
class Busy:
    """So many hosts, each with so many conversations to outside that last for all of it."""

    hosts: int = 64
    conversations: int = 400
    ticks: int = 120
    remotes: int = 60
    """Of each host; conversations share them, by port."""
    begin_us: int = BEGIN_US

    @property
    def rows(self) -> int:
        return self.hosts * self.conversations * self.ticks


def write(folder: Path, busy: Busy = Busy()) -> Path:
    """`flows.parquet` and `egress.toml` in `folder`, the same for the same numbers; `before.parquet` is a sixth of it,
    an hour earlier."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_of(busy).write_parquet(folder / "flows.parquet")
    earlier = replace(busy, ticks=busy.ticks // 6, begin_us=busy.begin_us - 3_600_000_000)
    rows_of(earlier).write_parquet(folder / "before.parquet")
    hosts = "".join(
        f'[[fleet.hosts]]\nid = "host-{host:03}"\naddresses = ["10.1.{host // 200}.{host % 200 + 1}"]\n'
        for host in range(busy.hosts)
    )
    model = '[[models]]\nid = "large"\nbytes = 141_000_000_000\nholders = ["*"]\n'
    (folder / "egress.toml").write_text(f'[fleet]\ninternal = ["10.0.0.0/8"]\n{hosts}{model}')
    return folder


def rows_of(busy: Busy) -> pl.DataFrame:
    """Columns of FLOWS in order of time."""
    serial = np.arange(busy.rows)
    tick, rest = np.divmod(serial, busy.hosts * busy.conversations)
    host, conversation = np.divmod(rest, busy.conversations)
    remote = conversation % busy.remotes
    start = busy.begin_us + tick * TICK_US + (rest * 7919) % 4_000_000
    payload = 2_000 + (serial * 104_729) % 60_000
    packets = payload // 1_400 + 1
    frame = pl.DataFrame(
        {
            "collector": pl.repeat("capture", busy.rows, eager=True),
            "sensor": pl.repeat("bench", busy.rows, eager=True),
            "flow_id": (rest + 1).astype(np.uint64),
            "part": tick.astype(np.uint32),
            "final": tick == busy.ticks - 1,
            "start": start,
            "end": start + 5_900_000,
            "src_ip": _addresses(*np.broadcast_arrays(10, 1, host // 200, host % 200 + 1)),
            "dst_ip": _addresses(*np.broadcast_arrays(203, 0, remote % 5, remote + 1)),
            "src_port": (32_768 + conversation).astype(np.uint16),
            "dst_port": (8_000 + conversation // busy.remotes).astype(np.uint16),
            "proto": np.full(busy.rows, 6, np.uint8),
            "src_payload": payload.astype(np.uint64),
            "dst_payload": (payload // 10).astype(np.uint64),
            "src_packets": packets.astype(np.uint64),
            "dst_packets": packets.astype(np.uint64),
            "src_bytes": (payload + 52 * packets).astype(np.uint64),
            "dst_bytes": (payload // 10 + 52 * packets).astype(np.uint64),
        }
    )
    return conform(frame.with_columns(pl.col("start", "end").cast(TIME)).sort("start"), FLOWS)


def _addresses(*octets: np.ndarray) -> pl.Series:
    """IPv4 as v4-mapped, 16 bytes each."""
    whole = np.zeros((len(octets[0]), 16), np.uint8)
    whole[:, :12] = np.frombuffer(V4_MAPPED_PREFIX, np.uint8)
    for place, octet in enumerate(octets, 12):
        whole[:, place] = octet
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(whole), [None, pa.py_buffer(whole.tobytes())])
    return pl.Series(pl.from_arrow(fixed)).cast(pl.Binary)
