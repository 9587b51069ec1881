"""The engine: flows in, findings out, the same for any batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Network

import polars as pl
import pytest

from egress import findingjson, registry
from egress.addresses import bytes_of
from egress.config import Config, Fleet, Host, Model
from egress.contracts import Finding, Level
from egress.detect import Engine
from egress.inventory import Inventory
from egress.schema import FLOWS, conform
from egress.signals import SCORES

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MODEL_BYTES = 24_000_352
CONFIG = Config(
    fleet=Fleet(
        internal=(IPv6Network("::ffff:10.20.0.0/112"),), hosts=(Host("gpu-01", (bytes_of("10.20.1.10"),), "inference"),)
    ),
    models=(Model("tiny", MODEL_BYTES, ("gpu-01",)),),
)


def transfer(parts: int = 20) -> pl.DataFrame:
    """The whole model to 198.51.100.10 in ten-second parts, with a request to another place in between."""
    each = MODEL_BYTES // parts
    rows = [
        {
            "collector": "capture",
            "sensor": "replay",
            "flow_id": number % 2 + 1,
            "part": number // 2,
            "start": NOON + timedelta(seconds=10 * number),
            "end": NOON + timedelta(seconds=10 * number + 9),
            "src_ip": bytes_of("10.20.1.10"),
            "src_port": 40_000,
            "dst_ip": bytes_of("203.0.113.5" if number % 7 == 3 else "198.51.100.10"),
            "dst_port": 443,
            "proto": 6,
            "src_bytes": each + 40,
            "src_packets": 1,
            "src_payload": each,
        }
        for number in range(parts)
    ]
    return conform(pl.DataFrame(rows), FLOWS)


def found_in(*batches: pl.DataFrame) -> list[Finding]:
    engine = Engine(Inventory(CONFIG), registry.detectors)
    for batch in batches:
        engine.feed(batch)
    return engine.findings()


def test_a_model_that_left_is_one_finding_with_its_evidence() -> None:
    """Whoever looks first has to see which model, how much of it, to where, by whom."""
    (finding,) = found_in(transfer())

    assert (finding.level, finding.host, finding.models[0].id) == (Level.CRITICAL, "gpu-01", "tiny")
    assert finding.bytes == MODEL_BYTES // 20 * 20
    assert {place.group for place in finding.destinations} == {"198.51.100.0/24", "203.0.113.0/24"}
    assert finding.evidence[0]["dst_ip"] == "198.51.100.10"


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.slow
def test_batches_change_nothing(size: int) -> None:
    """Cut into any batches, fed backwards: the same findings to the byte."""
    flows = transfer()
    batches = [flows[start : start + size] for start in range(0, flows.height, size)]

    said = [findingjson.encode(finding) for finding in found_in(*reversed(batches))]

    assert said == [findingjson.encode(finding) for finding in found_in(flows)]


@pytest.mark.slow
def test_asking_in_between_does_not_change_the_answer() -> None:
    """A live detector asks at every watermark."""
    flows = transfer()
    engine = Engine(Inventory(CONFIG), registry.detectors)
    engine.feed(flows[:9])
    engine.findings()
    engine.feed(flows[9:])

    assert engine.findings() == found_in(flows)


def test_nothing_fed_is_nothing_found() -> None:
    """An empty capture is an answer, not a crash."""
    assert found_in() == []
    assert found_in(FLOWS.empty()) == []


class Witness:
    """A detector that says nothing and remembers which windows it was told are tied to a finding."""

    name = "witness"

    def __init__(self) -> None:
        self.tied: dict[datetime, bool] = {}

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        return SCORES.empty()

    def learn(self, signals: pl.DataFrame) -> None:
        self.tied[signals["window_start"][0]] = bool(signals["is_tied"].any())

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        pass


def test_detectors_know_which_windows_belong_to_a_finding() -> None:
    """From the window after it was medium, until a day after its last byte; what was before, they learn."""
    quiet = transfer(1).with_columns(src_bytes=pl.lit(60, pl.UInt64), src_payload=pl.lit(0, pl.UInt64))
    hours = [-1, 1, 23, 25, 26]
    later = [quiet.with_columns(pl.col("start", "end") + timedelta(hours=hour)) for hour in hours]
    witness = Witness()
    engine = Engine(Inventory(CONFIG), lambda: [witness])
    for rows in (transfer(), *later):
        engine.feed(rows)

    engine.findings()

    assert witness.tied == {
        NOON - timedelta(hours=1): False,
        NOON: False,
        NOON + timedelta(hours=1): True,
        NOON + timedelta(hours=23): True,
        NOON + timedelta(hours=25): False,
    }
