"""Collector, detector and store as processes on a real bus and a real ClickHouse: what replay says, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from egress.config import Kafka
from egress.kafka import make_topics
from tests.corpus.test_recorded import INVENTORY

pytestmark = [pytest.mark.service, pytest.mark.slow]

EGRESS = [sys.executable, "-c", "from egress.cli import main; raise SystemExit(main())"]
PATIENCE_S = 240


@dataclass(frozen=True)
class Desk:
    """A folder with an egress.toml that names the bus."""

    folder: Path

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*EGRESS, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "POLARS_MAX_THREADS": "1"},
            stdout=(self.folder / f"{words[0]}.out").open("wb"),
            stderr=(self.folder / f"{words[0]}.log").open("wb"),
        )

    def run(self, *words: object) -> str:
        process = self.start(*words)
        assert process.wait(PATIENCE_S) == 0, (self.folder / f"{words[0]}.log").read_text()
        return (self.folder / f"{words[0]}.out").read_text()


def desk_of(folder: Path, servers: str, inventory: str) -> Desk:
    settings = Kafka(tuple(servers.split(",")), prefix=f"e2e-{uuid.uuid4().hex[:8]}", partitions=3)
    make_topics(settings)
    names = ", ".join(f'"{server}"' for server in settings.servers)
    kafka = f'[kafka]\nservers = [{names}]\nprefix = "{settings.prefix}"\npartitions = 3\n'
    (folder / "egress.toml").write_text(f"{inventory}\n{kafka}")
    return Desk(folder)


def streamed(desk: Desk, captures: Sequence[Path]) -> list[str]:
    """Findings in the store after everything has gone through; the services are stopped and started again meanwhile."""
    services = [desk.start("detect"), desk.start("store", "--store", "stream")]
    desk.run("collect", "file", *captures, "--wait-for-kafka", 60, "--quiet")
    for service in services:
        service.terminate()
    for service in services:
        assert service.wait(PATIENCE_S) == 0
    desk.run("detect", "--until-idle", 3)
    desk.run("store", "--store", "stream", "--until-idle", 3)
    return desk.run("findings", "list", "--json", "--store", "stream").splitlines()


def replayed(desk: Desk, captures: Sequence[Path]) -> list[str]:
    desk.run("replay", *captures, "--findings", "replayed.jsonl", "--quiet")
    return (desk.folder / "replayed.jsonl").read_text().splitlines()


def test_recorded_transfers_end_as_replay_ends(corpus: Path, broker: str, tmp_path: Path) -> None:
    """Three whole transfers, a DNS tunnel and two benign recordings; a finding of each theft is among the lines."""
    captures = sorted((corpus / "recorded").glob("*.pcap"))
    desk = desk_of(tmp_path, broker, INVENTORY)

    found = streamed(desk, captures)

    assert sorted(found) == sorted(replayed(desk, captures))
    assert sum('"severity_id":5' in line for line in found) >= 1
    assert "10.77.1.10" in "".join(found)


def test_a_manifest_and_a_pull_end_as_replay_ends(data: Path, broker: str, tmp_path: Path) -> None:
    """With lifecycle events, approvals and two holders; collected twice, it counts once."""
    demo = data / "demo"
    (tmp_path / "lifecycle.jsonl").write_text((demo / "lifecycle.jsonl").read_text())
    desk = desk_of(tmp_path, broker, (demo / "egress.toml").read_text())
    captures = sorted(demo.glob("*.pcap"))
    desk.run("collect", "file", *captures, "--wait-for-kafka", 60, "--quiet")

    found = streamed(desk, captures)

    assert sorted(found) == sorted(replayed(desk, captures))
    assert len(found) >= 2
