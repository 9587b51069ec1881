"""Detectors on captures of real programs, without an inventory and with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from egress import registry
from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host, Model
from egress.contracts import Finding, Level, ReadSettings
from egress.detect import Engine
from egress.inventory import Inventory

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

FLEET = Fleet(
    internal=(network_of("10.0.0.0/8"), network_of("fd00::/8")),
    hosts=(Host("gpu-01", (bytes_of("10.77.1.10"), bytes_of("fd77:1::10"))),),
)
NOWHERE = Config(is_assumed=True)
SITE = Config(fleet=FLEET, models=(Model("tensors", 24_000_352, holders=("gpu-01",)),))


def found(capture: Path, config: Config) -> list[Finding]:
    engine = Engine(Inventory(config), registry.detectors)
    (collector,) = (each for each in registry.collectors() if each.name == "capture")
    for batch in collector.read([capture], ReadSettings()):
        engine.feed(batch.flows)
    return engine.findings()


def test_iodine_is_found_without_an_inventory(corpus: Path) -> None:
    """8,144 queries with 2,139,565 B of UDP payload to 198.51.100.17."""
    (finding,) = found(corpus / "recorded" / "iodine_dns.pcap", NOWHERE)

    assert finding.title == "DNS tunnel to 198.51.100.0/24"
    assert (finding.level, finding.bytes) == (Level.MEDIUM, 2_139_565)
    assert finding.destinations[0].addresses == ("198.51.100.17",)


def test_iodine_is_named_in_the_ledgers_finding(corpus: Path) -> None:
    """One finding: how much of the model, and through what."""
    (finding,) = found(corpus / "recorded" / "iodine_dns.pcap", SITE)

    assert (finding.detector, finding.level) == ("ledger", Level.HIGH)
    assert finding.title.endswith("; DNS tunnel to 198.51.100.0/24")


@pytest.mark.parametrize("config", [NOWHERE, SITE], ids=["no inventory", "inventory"])
@pytest.mark.parametrize("capture", ["benign_mix.pcap", "model_download_benign.pcap"])
def test_ordinary_work_raises_nothing(capture: str, config: Config, corpus: Path) -> None:
    assert found(corpus / "recorded" / capture, config) == []


@pytest.mark.parametrize("capture", ["curl_tls_put.pcap", "http_pull_by_outsider.pcap", "rsync_ssh_push.pcap"])
def test_detectors_join_the_ledger_about_a_whole_model(capture: str, corpus: Path) -> None:
    """One finding a transfer, whatever detectors add to it."""
    (finding,) = found(corpus / "recorded" / capture, SITE)

    assert finding.detector == "ledger"
    assert any(reason.startswith("volume: ") for reason in finding.reasons)
