"""Ways out that nobody committed a capture of: played by real programs, recorded, replayed, and held to what left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from egress.configfile import load
from egress.contracts import Finding, Level
from egress.replay import Request, replay
from tests.conftest import absent
from tests.record.paths import WAYS_OUT
from tests.record.paths_recording import MODEL_BYTES, record

pytestmark = [pytest.mark.service, pytest.mark.slow]

INVENTORY = f"""
[fleet]
internal = ["10.20.0.0/16", "fd20::/16"]
[[fleet.hosts]]
id = "gpu-01"
addresses = ["10.20.1.7", "fd20::1:7"]
[[fleet.hosts]]
id = "agent-02"
addresses = ["10.20.2.3", "fd20::2:3"]
[[models]]
id = "secret"
bytes = {MODEL_BYTES}
holders = ["gpu-01"]
"""
TOLERANCE = 0.03
"""Headers that count as bulk (IP options, ICMP) and what TCP sends again."""


@pytest.fixture(scope="module")
def recording(require: Callable[[str, str], str]) -> None:
    """What a recording needs, or a skip by name."""
    require("tcpdump", "apt-get install tcpdump")
    require("ip", "apt-get install iproute2")
    if os.geteuid() != 0:
        absent("root", "run as root: recordings are made in network namespaces")


@pytest.mark.parametrize("name", WAYS_OUT)
@pytest.mark.usefixtures("recording")
def test_model_that_leaves_is_charged_whichever_way_it_takes(name: str, tmp_path: Path) -> None:
    """One finding at high or above, about the host that sent, with the bytes that the program sent and where to."""
    inventory = tmp_path / "egress.toml"
    inventory.write_text(INVENTORY)
    left = record(WAYS_OUT[name], tmp_path / "capture.pcap")

    found = replay(Request((tmp_path / "capture.pcap",), load(inventory))).findings

    serious = [finding for finding in found if finding.level >= Level.HIGH and "secret" in _models(finding)]
    assert [finding.host for finding in serious] == [left.host], found
    assert _bytes_of_secret(serious[0]) == pytest.approx(left.bytes, rel=TOLERANCE)
    assert _addresses(serious[0]) & left.to


def _models(finding: Finding) -> set[str]:
    return {share.id for share in finding.models}


def _bytes_of_secret(finding: Finding) -> int:
    return next(share.bytes for share in finding.models if share.id == "secret")


def _addresses(finding: Finding) -> set[str]:
    return {address for destination in finding.destinations for address in destination.addresses}
