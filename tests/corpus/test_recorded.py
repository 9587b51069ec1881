"""The recorded transfers, from capture to findings: what left, from whom, where to, and nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from egress.config import Config
from egress.configfile import assumed, load
from egress.contracts import Finding, Level, ReadSettings
from egress.replay import Outcome, Request, replay
from tests.corpus.conftest import Metered
from tests.corpus.oracle_reader import Frame, frames

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

MODEL_BYTES = 24_000_352
INVENTORY = f"""
[fleet]
internal = ["10.77.0.0/16", "fd77::/16"]
[[fleet.hosts]]
id = "gpu-01"
addresses = ["10.77.1.10", "fd77:1::10"]
[[fleet.hosts]]
id = "gpu-02"
addresses = ["10.77.2.20"]
[[models]]
id = "weights"
bytes = {MODEL_BYTES}
shards = [6_000_088, 6_000_088, 6_000_088, 6_000_088]
holders = ["gpu-01"]
"""
WHOLE = {
    "rsync_ssh_push": "198.51.100.10",
    "curl_tls_put": "198.51.100.11",
    "http_pull_by_outsider": "198.51.100.10",
}
BENIGN = ("model_download_benign", "benign_mix")
ALL = (*WHOLE, "iodine_dns", *BENIGN)
TOLERANCE = 0.03
"""What encryption, protocol and retransmissions may add to the bytes of the files."""
LEFT_OUTSIDE = {
    "rsync_ssh_push": {"198.51.100.10": (802, 24_038_861)},
    "curl_tls_put": {"198.51.100.11": (1179, 24_170_508)},
    "http_pull_by_outsider": {"198.51.100.10": (744, 24_131_492)},
    "iodine_dns": {"198.51.100.17": (8144, 2_139_565)},
    "model_download_benign": {"198.51.100.12": (533, 480)},
    "benign_mix": {"198.51.100.24": (60, 0), "198.51.100.25": (366, 360), "198.51.100.10": (29, 4021)},
}
"""Packets and layer-4 payload that went outside, by destination, as the independent decoder counts them."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the recorded captures are, and what the site declares."""

    folder: Path
    config: Config

    def replay(self, *names: str, settings: ReadSettings | None = None) -> Outcome:
        paths = tuple(self.folder / f"{name}.pcap" for name in names)
        return replay(Request(paths, self.config, settings or ReadSettings()))


@pytest.fixture(scope="module")
def site(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    inventory = tmp_path_factory.mktemp("site") / "egress.toml"
    inventory.write_text(INVENTORY)
    return Site(corpus / "recorded", load(inventory))


@pytest.mark.parametrize("name", ALL)
def test_payload_toward_outside_is_what_was_sent(name: str, corpus: Path, meter: Callable[[Path], Metered]) -> None:
    """By destination, packets and payload: the numbers that every charge rests on."""
    left: dict[str, tuple[int, int]] = {}
    for key, ways in meter(corpus / "recorded" / f"{name}.pcap").sums.items():
        for (sender, _), (receiver, _), way in ((key.low, key.high, ways[0]), (key.high, key.low, ways[1])):
            if _is_inside(sender) and not _is_inside(receiver):
                address = IPv6Address(receiver)
                text = str(address.ipv4_mapped or address)
                packets, payload = left.get(text, (0, 0))
                left[text] = (packets + way.packets, payload + way.payload)

    assert LEFT_OUTSIDE[name] == left


@pytest.mark.parametrize("name", WHOLE)
def test_whole_transfer_is_one_finding_with_model_host_and_destination(name: str, site: Site) -> None:
    """One episode, not one a file, with the bytes within 3 % of the model."""
    serious = _at_least(Level.HIGH, site.replay(name).findings)

    assert len(serious) == 1, serious
    (finding,) = serious
    assert (finding.host, finding.models[0].id) == ("gpu-01", "weights")
    assert WHOLE[name] in _addresses(finding)
    assert finding.bytes == pytest.approx(MODEL_BYTES, rel=TOLERANCE)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_transfer_is_found_without_an_inventory(name: str, corpus: Path) -> None:
    """Every private address is then a host with one assumed model; here of the real one's size."""
    found = Site(corpus / "recorded", assumed(MODEL_BYTES)).replay(name).findings

    serious = _at_least(Level.HIGH, found)

    assert [finding.host for finding in serious] == ["10.77.1.10"]
    assert WHOLE[name] in _addresses(serious[0])


def test_dns_tunnel_is_a_finding_that_names_it(site: Site) -> None:
    """1.5 MB of the model inside 2.1 MB of DNS."""
    serious = _at_least(Level.MEDIUM, site.replay("iodine_dns").findings)

    naming = [one for one in serious if "tunnel" in " ".join((one.title, *one.reasons)).lower()]

    assert naming, serious
    assert {finding.host for finding in naming} == {"gpu-01"}
    assert "198.51.100.17" in _addresses(naming[0])


@pytest.mark.parametrize("name", BENIGN)
def test_nothing_benign_reaches_medium(name: str, site: Site) -> None:
    assert _at_least(Level.MEDIUM, site.replay(name).findings) == []


def test_all_captures_together_are_one_episode_with_every_destination(site: Site) -> None:
    """One host did all of it within an hour: one finding, its destinations inside."""
    serious = _at_least(Level.HIGH, site.replay(*ALL).findings)

    assert len(serious) == 1, serious
    assert set(WHOLE.values()) <= _addresses(serious[0])


@pytest.mark.parametrize("name", [*WHOLE, "iodine_dns"])
def test_same_capture_twice_is_charged_once(name: str, site: Site, tmp_path: Path) -> None:
    """A second sensor that saw the same packets adds nothing."""
    capture, copy = site.folder / f"{name}.pcap", tmp_path / f"{name}-again.pcap"
    copy.write_bytes(capture.read_bytes())

    once = replay(Request((capture,), site.config)).findings
    twice = replay(Request((capture, copy), site.config)).findings

    assert [_charge(finding) for finding in once] == [_charge(finding) for finding in twice]
    assert once


@pytest.mark.parametrize("name", BENIGN)
def test_nothing_benign_reaches_medium_without_an_inventory(name: str, corpus: Path) -> None:
    """With the default: every private address holds an assumed model of 100 MB."""
    found = Site(corpus / "recorded", assumed()).replay(name).findings

    assert _at_least(Level.MEDIUM, found) == []


def split(capture: Path, folder: Path, frames_each: int) -> list[Path]:
    """The capture in files of `frames_each` frames, every second one gzipped."""
    folder.mkdir(parents=True)
    paths = []
    for number, piece in enumerate(_pieces(capture.read_bytes(), list(frames(capture)), frames_each)):
        path = folder / f"piece-{number:03}.pcap{'.gz' if number % 2 else ''}"
        path.write_bytes(gzip.compress(piece, mtime=0) if number % 2 else piece)
        paths.append(path)
    return paths


def _pieces(data: bytes, whole: list[Frame], each: int) -> Iterator[bytes]:
    """A classic pcap's records in runs, each with the file header before it."""
    at = 24
    for start in range(0, len(whole), each):
        size = sum(16 + len(frame.data) for frame in whole[start : start + each])
        yield data[:24] + data[at : at + size]
        at += size


SETTINGS = {
    "small chunks": ReadSettings(chunk_bytes=64 << 10),
    "odd chunks, one thread": ReadSettings(chunk_bytes=99_991, threads=1),
    "one chunk, four threads": ReadSettings(chunk_bytes=1 << 26, threads=4),
}


@pytest.mark.parametrize("how", SETTINGS)
def test_findings_file_is_the_same_however_it_is_read(how: str, site: Site, tmp_path: Path) -> None:
    """Byte for byte, for any chunk size and thread count."""
    paths = [site.folder / f"{name}.pcap" for name in ALL]

    expected = _findings_file(site.config, paths, ReadSettings(), tmp_path / "default")
    actual = _findings_file(site.config, paths, SETTINGS[how], tmp_path / "other")

    assert expected == actual
    assert len(expected) > 100


@pytest.mark.parametrize("name", [*WHOLE, "iodine_dns"])
@pytest.mark.parametrize("frames_each", [500, 13])
def test_findings_file_is_the_same_for_a_split_capture(name: str, frames_each: int, site: Site, tmp_path: Path) -> None:
    """Byte for byte, whether it comes as one file or as many, gzipped or not, in any order of names."""
    capture = site.folder / f"{name}.pcap"
    pieces = split(capture, tmp_path / "pieces", frames_each)

    expected = _findings_file(site.config, [capture], ReadSettings(), tmp_path / "one")
    actual = _findings_file(site.config, list(reversed(pieces)), ReadSettings(), tmp_path / "many")

    assert expected == actual
    assert len(pieces) > 2


def test_findings_file_is_the_same_for_a_folder_of_pieces(site: Site, tmp_path: Path) -> None:
    """All captures at once, in pieces, against all captures at once."""
    for name in ALL:
        split(site.folder / f"{name}.pcap", tmp_path / "pieces" / name, 200)
    captures = [site.folder / f"{name}.pcap" for name in ALL]

    expected = _findings_file(site.config, captures, ReadSettings(), tmp_path / "whole")
    actual = _findings_file(site.config, [tmp_path / "pieces"], ReadSettings(), tmp_path / "many")

    assert expected == actual


def _findings_file(config: Config, paths: Sequence[Path], settings: ReadSettings, folder: Path) -> bytes:
    file = folder / "findings.jsonl"
    replay(Request(tuple(paths), config, settings, findings_file=file))
    return file.read_bytes()


def _at_least(level: Level, found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level >= level]


def _charge(finding: Finding) -> tuple[object, ...]:
    return finding.uid, finding.level, finding.host, finding.bytes, finding.models, finding.destinations


def _addresses(finding: Finding) -> set[str]:
    return {address for destination in finding.destinations for address in destination.addresses}


def _is_inside(address: bytes) -> bool:
    networks = (IPv6Network("::ffff:10.77.0.0/112"), IPv6Network("fd77::/16"))
    return any(IPv6Address(address) in network for network in networks)
