"""A labelled fleet small enough to work out by hand: two hosts, four days, one theft, honest traffic every hour."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import polars as pl

from egress import configfile
from egress.addresses import bytes_of
from egress.config import Config
from egress.schema import FLOWS, conform

START = 1_788_739_200_000_000
"""2026-09-07T00:00:00Z, a Monday."""
SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
GB = 1_000_000_000
PART = 10 * SECOND

THIEF, VICTIM, OTHER = "192.0.2.7", "10.0.0.1", "10.0.0.2"
APPROVED, STRANGER = "198.51.100.9", "203.0.113.5"

CONFIGURATION = """
[fleet]
internal = ["10.0.0.0/8"]
[[fleet.hosts]]
id = "gpu-01"
addresses = ["10.0.0.1"]
role = "inference"
[[fleet.hosts]]
id = "gpu-02"
addresses = ["10.0.0.2"]
role = "training"
[[models]]
id = "small"
bytes = 16_000_000_000
holders = ["gpu-01", "gpu-02"]
[[approvals]]
id = "backups"
hosts = ["*"]
to = ["198.51.100.0/24"]
bytes_per_day = 100_000_000_000
expires = 2030-01-01
owner = "platform@example.org"
ticket = "OPS-1"
"""


def transfer(source: str, to: str, start: int, length: int, sent: int, **others: object) -> list[dict[str, object]]:
    """Rows of one conversation, in parts of ten seconds, evenly filled."""
    parts = max(1, length // PART)
    number = crc32(f"{source} {to} {start}".encode())
    host = {VICTIM: "gpu-01", OTHER: "gpu-02"}[source]
    row: dict[str, object] = {
        "host": host,
        "side": "src",
        "collector": "test",
        "sensor": host,
        "flow_id": number,
        "src_ip": bytes_of(source),
        "src_port": 40000,
        "dst_ip": bytes_of(to),
        "dst_port": 443,
        "proto": 6,
        "dst_bytes": 80,
        "dst_packets": 1,
        "src_payload": sent // parts,
        "src_packets": 1,
        "src_bytes": sent // parts + 52,
        "process": "",
        **others,
    }
    times = [(start + part * PART, start + (part + 1) * PART - 1) for part in range(parts)]
    return [{**row, "part": part, "start": begin, "end": end} for part, (begin, end) in enumerate(times)]


def honest(days: int = 4) -> list[dict[str, object]]:
    """Each host sends 20 MB to the approved place every hour, a little after it."""
    hours = range(days * 24)
    return [
        row
        for source in (VICTIM, OTHER)
        for hour in hours
        for row in transfer(source, APPROVED, START + hour * HOUR + 90 * SECOND, 10 * SECOND, 20_000_000)
    ]


def theft(start: int = START + 3 * DAY, amount: int = 8 * GB, seconds: int = 800) -> list[dict[str, object]]:
    """Half of the model, evenly, to a place that nobody approved."""
    return transfer(VICTIM, THIEF, start, seconds * SECOND, amount, process="theft")


def label(start: int = START + 3 * DAY, amount: int = 8 * GB, seconds: int = 800) -> dict[str, object]:
    return {
        "id": "burst-1",
        "kind": "burst",
        "host": "gpu-01",
        "role": "inference",
        "hosts": ["gpu-01"],
        "model": "small",
        "model_bytes": 16 * GB,
        "destination": THIEF,
        "destinations": [THIEF],
        "start": moment(start),
        "end": moment(start + seconds * SECOND),
        "bytes": amount,
        "path": ["gpu-01", THIEF],
    }


def moment(time: int) -> str:
    return str(pl.Series([time]).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")[0])


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    times = pl.from_epoch(pl.col("start", "end"), "us").dt.replace_time_zone("UTC")
    return conform(pl.DataFrame(rows).with_columns(times), FLOWS).sort("start", "flow_id", "part")


def write(folder: Path, rows: list[dict[str, object]], labels: list[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "egress.toml").write_text(CONFIGURATION)
    (folder / "labels.jsonl").write_text("".join(json.dumps(each) + "\n" for each in labels))
    frame(rows).write_parquet(folder / "flows.parquet")
    return folder


def config() -> Config:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "egress.toml"
        path.write_text(CONFIGURATION)
        return configfile.load(path)
