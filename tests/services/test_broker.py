"""The broker that other tests stand on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.broker import NotHere, free_ports, jars, running

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_java_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A skipped test says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(NotHere, match="apt-get install openjdk-17-jre-headless"):
        jars()


def test_a_running_broker_is_used_instead_of_a_new_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EGRESS_KAFKA names one."""
    monkeypatch.setenv("EGRESS_KAFKA", "kafka.example.org:9092")

    with running(tmp_path) as servers:
        assert servers == "kafka.example.org:9092"

    assert list(tmp_path.iterdir()) == []


@pytest.mark.service
@pytest.mark.slow
def test_the_desk_broker_says_where_it_is_and_ends_with_what_started_it(broker: str, tmp_path: Path) -> None:
    """`make broker`, killed: no Java process is left behind that holds the port."""
    command = [sys.executable, "tests/services/broker.py", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as desk:
        assert desk.stdout is not None
        line = next(line for line in desk.stdout if "EGRESS_KAFKA" in line)
        port = int(line.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), 1).close()
        desk.kill()
        desk.wait()

    with pytest.raises(OSError, match=r"refused|timed out"):
        _retry_until_refused(port)


def _retry_until_refused(port: int) -> None:
    for _ in range(100):
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_free_ports_differ() -> None:
    """Six listeners of one cluster may not collide."""
    assert len(set(free_ports(6))) == 6
