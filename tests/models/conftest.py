"""Windows of signals to run detectors on: made from flow rows, as the engine makes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from egress import schema, signals
from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host, Model
from egress.inventory import Inventory
from tests.models.flows import START, Flow, MakeFlow, Windowed

FLEET = Fleet(
    internal=(network_of("10.0.0.0/8"), network_of("fd00::/8")),
    hosts=tuple(
        Host(f"gpu-0{n}", (bytes_of(f"10.77.1.{n}"), bytes_of(f"fd77::{n}")), role="inference") for n in (1, 2, 3)
    ),
)
INVENTORY = Inventory(Config(fleet=FLEET, models=(Model("small", 1_000_000_000, holders=("gpu-0*",)),)))


def _flow(hours: float = 0, to: str = "203.0.113.5", sent: int = 0, packets: int = 0, **others: object) -> Flow:
    """A conversation that gpu-01 began, `hours` after START; `sent` is payload."""
    time = START + timedelta(hours=hours)
    packets = packets or sent // 1400 + 1
    row: Flow = {
        "collector": "capture",
        "sensor": "test",
        "start": time,
        "end": time,
        "src_ip": "10.77.1.1",
        "dst_ip": to,
        "dst_port": 443,
        "proto": 6,
        "src_packets": packets,
        "src_payload": sent,
        "src_bytes": sent + 40 * packets,
    }
    row |= others
    return row | {name: bytes_of(str(row[name])) for name in row if name.endswith("_ip")}


def _windows(flows: Iterable[Flow]) -> list[pl.DataFrame]:
    rows = pl.DataFrame(list(flows), infer_schema_length=None)
    attributed = INVENTORY.attribute(schema.conform(rows, schema.FLOWS))
    summed = signals.of(attributed, INVENTORY)
    return summed.partition_by("window_start", maintain_order=True)


@pytest.fixture(scope="session")
def flow() -> MakeFlow:
    return _flow


@pytest.fixture(scope="session")
def windowed() -> Windowed:
    """Flows in, windows of signals out."""
    return _windows


@pytest.fixture(scope="session")
def stream() -> list[pl.DataFrame]:
    """Ten days with four windows each, three with one an hour, four with one each: three hosts that pull more than
    they push, one of which leaks in every way from the 13th day on, ORDINARY windows after the first."""
    rng = np.random.default_rng(7)
    flows = [
        _flow(
            hour,
            sent=int(rng.integers(40_000, 90_000)),
            dst_payload=int(rng.integers(200_000, 400_000)),
            src_ip=f"10.77.1.{host}",
            name="api.example.org",
        )
        for hour in (*range(-240, 0, 6), *range(72))
        for host in (1, 2, 3)
    ]
    for hour in (50, 51, 60, 80, 104, 128, 152):
        flows.append(_flow(hour, "198.51.100.10", sent=300_000_000, name="drop.example.net"))
        flows.append(_flow(hour, "198.51.100.17", sent=2_000_000, packets=8000, proto=17, dst_port=53))
        flows.append(_flow(hour, "198.51.100.18", sent=2_000_000, packets=1500, proto=1, src_port=8, dst_port=0))
        wrapped = {"tunnel": "vxlan", "outer_src_ip": "10.77.1.1", "outer_dst_ip": "198.51.100.19"}
        flows.append(_flow(hour, "10.9.9.9", sent=5_000_000, **wrapped))
    return _windows(flows)
