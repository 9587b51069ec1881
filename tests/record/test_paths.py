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
from tests.corpus.conversations import address
from tests.corpus.oracle_decoder import Decoder
from tests.corpus.oracle_reader import frames
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
"""Headers that count as bulk: IP options, extension headers."""


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
    capture, inventory = tmp_path / "capture.pcap", tmp_path / "egress.toml"
    inventory.write_text(INVENTORY)
    left = record(WAYS_OUT[name], capture)
    crossed = _crossed(capture, left.to | ({left.inner} if left.inner else set())) // WAYS_OUT[name].views

    found = replay(Request((capture,), load(inventory))).findings

    (serious,) = [one for one in found if one.level >= Level.HIGH and _addresses(one) & left.to]
    assert serious.host == left.host
    assert serious.path[-1] in left.to
    assert left.bytes <= crossed
    assert _bytes_of_secret(serious) == pytest.approx(crossed, rel=TOLERANCE)


def _crossed(capture: Path, to: frozenset[str]) -> int:
    """Payload on its way to these addresses, as the independent decoder counts it: what TCP sent again is in it."""
    ends, decoder = {address(text) for text in to}, Decoder()
    packets = (decoder.packet(frame) for frame in frames(capture))
    return sum(packet.payload for packet in packets if packet is not None and packet.dst in ends)


def _bytes_of_secret(finding: Finding) -> int:
    return next(share.bytes for share in finding.models if share.id == "secret")


def _addresses(finding: Finding) -> set[str]:
    return {address for destination in finding.destinations for address in destination.addresses}
