"""What collectors send, and what came of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl

from egress import configfile, registry, wire
from egress.collect import Outcome
from egress.contracts import ReadSettings
from egress.metrics import Metrics
from egress.schema import FLOWS, conform
from egress.service import Log, Service
from tests.egress.bus import Message
from tests.egress.strategies import NOON, Transfer, flows_of

ROOT = Path(__file__).resolve().parents[2]


DEMO = ROOT / "tests" / "data" / "demo"


SITE = configfile.load(DEMO / "egress.toml")


SETTINGS = ReadSettings(resolvers=SITE.fleet.resolvers)


Collect = Callable[..., Outcome]


def service() -> Service:
    metrics = Metrics("collect")
    return Service("collect", Log(io.StringIO(), False, metrics), metrics)


def decoded(messages: list[Message], topic: str = "flows") -> list[tuple[wire.Header, pl.DataFrame]]:
    return [wire.decode(value, headers) for name, _, value, headers in messages if name == topic]


def rows_of(messages: list[Message]) -> pl.DataFrame:
    return pl.concat([FLOWS.empty(), *(rows for _, rows in decoded(messages))])


def parquet(path: Path, flows: pl.DataFrame) -> Path:
    writer = registry.flow_writer(path)
    writer.write(flows)
    writer.close()
    return path


def named(messages: list[Message]) -> dict[tuple[str, str, str, str, int], bytes]:
    """Value by what names it; the same name always has the same value."""
    found: dict[tuple[str, str, str, str, int], bytes] = {}
    for topic, key, value, headers in messages:
        header = wire.read_header(headers)
        assert key == header.host.encode()
        name = (topic, header.sensor, header.host, header.epoch, header.seq)
        assert found.setdefault(name, value) == value
    return found


NO_WAIT = 1e9
"""A pace that cuts rows as they happen, and sleeps nowhere."""


def busy(rows: int) -> pl.DataFrame:
    """Many conversations of a few hosts."""
    n = pl.int_range(rows, eager=True)
    flows = pl.concat([flows_of([Transfer(sent=1, name="a.example.org", name_from="sni")])] * rows)
    start = (NOON + n * 20_000).cast(pl.Datetime("us", "UTC"))
    return conform(
        flows.with_columns(
            start=start,
            end=start,
            src_payload=n.cast(pl.UInt64),
            src_ip=pl.Series([bytes(10) + b"\xff\xff\x0a\x00\x00" + bytes([k % 7]) for k in range(rows)]),
        ),
        FLOWS,
    )
