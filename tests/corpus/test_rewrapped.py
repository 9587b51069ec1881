"""One recorded theft in many clothes: the finding must not care about links, containers, tunnels or patience."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from egress.config import Config
from egress.configfile import load
from egress.contracts import Finding, Level, ReadSettings
from egress.replay import Request, replay
from tests.corpus.oracle_reader import frames
from tests.corpus.rewrap import CONTAINERS, LINKS, TUNNELS, Dress, Timed, pcap, stretched, timed
from tests.corpus.test_recorded import INVENTORY, MODEL_BYTES, TOLERANCE

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

SOURCE = "curl_tls_put"
DAY_US = 86_400_000_000
TUNNEL_ENDS = {"203.0.113.77", "2001:db8::7777"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    inventory = tmp_path_factory.mktemp("site") / "egress.toml"
    inventory.write_text(INVENTORY)
    return load(inventory)


@pytest.fixture(scope="module")
def capture(corpus: Path) -> list[Timed]:
    path = corpus / "recorded" / f"{SOURCE}.pcap"
    whole = timed(path.read_bytes(), frames(path))
    return [one for one in whole if one.frame.data[12:14] == b"\x08\x00"]


@pytest.mark.parametrize("link", LINKS)
def test_findings_are_the_same_over_any_link(link: str, capture: list[Timed], config: Config, tmp_path: Path) -> None:
    plain = _found(pcap(capture), config, tmp_path / "plain.pcap")

    dressed = _found(pcap(_dressed(capture, LINKS[link])), config, tmp_path / "dressed.pcap")

    assert [_essence(one) for one in plain] == [_essence(one) for one in dressed]
    assert plain


@pytest.mark.parametrize("container", CONTAINERS)
def test_findings_file_is_the_same_in_any_container(
    container: str, capture: list[Timed], config: Config, tmp_path: Path
) -> None:
    """Byte for byte: nothing in a finding may come from the file around the packets."""
    plain = _findings_file(pcap(capture), config, tmp_path / "plain")

    contained = _findings_file(CONTAINERS[container](capture), config, tmp_path / "contained")

    assert plain == contained
    assert plain


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_model_inside_a_tunnel_is_charged_once_to_where_the_tunnel_ends(
    tunnel: str, capture: list[Timed], config: Config, tmp_path: Path
) -> None:
    found = _found(pcap(_dressed(capture, TUNNELS[tunnel])), config, tmp_path / "capture.pcap")

    (serious,) = [one for one in found if one.level >= Level.HIGH]

    assert (serious.host, serious.bytes) == ("gpu-01", pytest.approx(MODEL_BYTES, rel=TOLERANCE))
    assert TUNNEL_ENDS & {address for place in serious.destinations for address in place.addresses}


@pytest.mark.parametrize("days", [2, 20, 200])
def test_patience_does_not_help(days: int, capture: list[Timed], config: Config, tmp_path: Path) -> None:
    """The same frames over days instead of seconds: the lifetime window forgets nothing."""
    found = _found(pcap(stretched(capture, days * DAY_US)), config, tmp_path / "capture.pcap")

    highest = max(found, key=lambda one: (one.level, one.bytes))

    assert highest.level >= Level.HIGH
    assert sum(one.bytes for one in found if one.level >= Level.HIGH) >= MODEL_BYTES * (1 - TOLERANCE)


def _dressed(capture: list[Timed], dress: Dress) -> list[Timed]:
    return [Timed(one.time_us, dress(one.frame)) for one in capture]


def _found(data: bytes, config: Config, path: Path) -> Sequence[Finding]:
    path.write_bytes(data)
    return replay(Request((path,), config, ReadSettings())).findings


def _findings_file(data: bytes, config: Config, folder: Path) -> bytes:
    folder.mkdir()
    path, file = folder / "capture", folder / "findings.jsonl"
    path.write_bytes(data)
    replay(Request((path,), config, ReadSettings(), findings_file=file))
    return file.read_bytes()


def _essence(finding: Finding) -> tuple[object, ...]:
    return finding.uid, finding.level, finding.bytes, finding.host, finding.models, finding.destinations
