"""Recordings of real programs: the meter counts what the files that were moved say, live and from the kept captures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from egress.addresses import bytes_of
from egress.contracts import ReadSettings, Tally
from egress.registry import collectors
from egress.schema import NO_ADDRESS

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
OVERHEAD = 0.03
"""HTTP headers, TLS records and handshakes, at most; segments sent again did not happen between namespaces."""

SCENARIOS = [
    (folder, name)
    for folder in ("demo", "recorded")
    for name in sorted(json.loads((DATA / folder / "truth.json").read_text()))
]


def metered(paths: list[Path]) -> tuple[pl.DataFrame, Tally]:
    collector = next(collector for collector in collectors() if collector.name == "capture")
    batches = list(collector.read(paths, ReadSettings()))
    return pl.concat([batch.flows for batch in batches]), sum((batch.tally for batch in batches), Tally())


def sent(flows: pl.DataFrame, host: str, to: str) -> int:
    """Payload from one address to another, whichever opened the conversation; outer addresses where there are such."""
    is_inner = pl.col("outer_src_ip") == NO_ADDRESS
    source = pl.when(is_inner).then("src_ip").otherwise("outer_src_ip")
    target = pl.when(is_inner).then("dst_ip").otherwise("outer_dst_ip")
    there = (source == bytes_of(host)) & (target == bytes_of(to))
    back = (source == bytes_of(to)) & (target == bytes_of(host))
    total = flows.select(pl.when(there).then("src_payload").when(back).then("dst_payload").otherwise(0).sum()).item()
    return int(total)


@pytest.mark.parametrize(("folder", "name"), SCENARIOS)
def test_what_left_is_metered_within_the_overhead_of_its_protocols(folder: str, name: str) -> None:
    """Never less than the files that were moved, and at most 3 % more."""
    truth = json.loads((DATA / folder / "truth.json").read_text())[name]
    flows, _ = metered(sorted((DATA / folder).glob(f"{name}*.pcap")))

    for moved in truth["left"]:
        measured = sent(flows, moved["host"], moved["to"])
        assert moved["bytes"] <= measured <= moved["bytes"] * (1 + OVERHEAD)


@pytest.mark.parametrize(("folder", "name"), SCENARIOS)
def test_every_frame_of_a_recording_is_metered_or_counted_as_skipped(folder: str, name: str) -> None:
    """Conservation, on captures that are whole: nothing but ARP and the like is skipped, and no IP packet."""
    _, tally = metered(sorted((DATA / folder).glob(f"{name}*.pcap")))

    assert tally.read == sum(tally.skipped.values(), tally.metered)
    assert tally.metered.frames == tally.read.frames


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.usefixtures("root_user")
def test_a_live_recording_is_metered_like_the_kept_ones(tmp_path: Path, require: Callable[[str, str], str]) -> None:
    """Namespaces, tcpdump and curl of this machine, now: a pull from outside is an upload of the host."""
    for program, package in (("tcpdump", "tcpdump"), ("curl", "curl"), ("ip", "iproute2"), ("openssl", "openssl")):
        require(program, f"apt-get install {package}")
    command = [sys.executable, str(HERE / "record.py"), str(tmp_path), "outsider_pulls_model"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
    moved = json.loads((tmp_path / "truth.json").read_text())["outsider_pulls_model"]["left"][0]

    flows, _ = metered([tmp_path / "outsider_pulls_model.pcap"])

    assert moved["bytes"] <= sent(flows, moved["host"], moved["to"]) <= moved["bytes"] * (1 + OVERHEAD)
