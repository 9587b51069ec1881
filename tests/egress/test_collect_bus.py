"""`egress collect file` as people start it, on a real broker: what arrives, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from egress import configfile, wire
from egress.collect import Request, collect
from egress.config import Kafka
from egress.contracts import ReadSettings
from egress.kafka import make_topics, read_all
from tests.egress.bus import MemoryBus, Message
from tests.egress.collected import DEMO, busy, named, parquet, service

pytestmark = [pytest.mark.service, pytest.mark.slow]

READ_AS_COMMAND = ReadSettings()
"""An assumed site believes every resolver."""
_prefixes = count()
Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def bus(broker: str) -> Kafka:
    settings = Kafka(tuple(broker.split(",")), prefix=f"collect{next(_prefixes)}-{time.monotonic_ns()}", partitions=4)
    make_topics(settings)
    return settings


@pytest.fixture
def command(bus: Kafka, tmp_path: Path) -> Iterator[Command]:
    """`command(path, ..., servers="")` starts `egress collect file` there."""
    started: list[subprocess.Popen[str]] = []
    internal = '[fleet]\ninternal = ["10.0.0.0/8"]\n'
    (tmp_path / "egress.toml").write_text(f'{internal}[kafka]\nservers = ["x:1"]\nprefix = "{bus.prefix}"\n')

    def start(*words: str | Path, servers: str = "") -> subprocess.Popen[str]:
        program = "from egress.cli import main; raise SystemExit(main())"
        line = [sys.executable, "-c", program, "collect", "file", *map(str, words), "--json"]
        process = subprocess.Popen(
            line,
            cwd=tmp_path,
            env={**os.environ, "EGRESS_KAFKA": servers or ",".join(bus.servers)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def on(bus: Kafka) -> list[Message]:
    """Everything on the two topics."""
    return [
        (topic, each.key or b"", each.value or b"", each.headers)
        for topic in ("flows", "heartbeats")
        for each in read_all(bus, topic)
    ]


def done(process: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    out, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    found: dict[str, dict[str, int]] = json.loads(out)
    return found


def test_what_arrives_is_what_was_cut(bus: Kafka, command: Command, tmp_path: Path) -> None:
    """Byte for byte as without a broker, each host in one partition and in order; collected twice, sent twice."""
    captures = sorted(DEMO.glob("*.pcap"))
    memory = MemoryBus()
    site = configfile.load(tmp_path / "egress.toml")
    collect(Request(tuple(captures), site, tmp_path / "memory", settings=READ_AS_COMMAND), memory.connect, service())

    first = done(command(*captures))
    once = on(bus)
    again = done(command(*captures))

    assert named(once) == named(memory.messages)
    assert len(once) == len(memory.messages)
    hosts: dict[bytes, list[int]] = {}
    for topic, key, _, headers in once:
        if topic == "flows":
            hosts.setdefault(key, []).append(wire.read_header(headers).seq)
    assert all(numbers == list(range(len(numbers))) for numbers in hosts.values())
    assert first["sent"] == again["sent"]
    assert first["rows"] == first["sent"]["rows"]
    assert named(on(bus)) == named(once)
    assert len(on(bus)) == 2 * len(once)


def test_begun_without_kafka_ended_with_it(bus: Kafka, command: Command) -> None:
    """The first run leaves everything in the spool and ends well; the next sends what it finds there."""
    day = DEMO / "ordinary_day.pcap"
    left = done(command(day, servers="127.0.0.1:1"))

    sent = done(command(day))

    assert left["sent"]["rows"] == 0
    assert left["waiting"] == sent["known"] == sent["carried"]
    assert sum(wire.read_header(headers).rows for _, _, _, headers in on(bus)) == left["rows"]


def test_a_signal_ends_it_soon_and_the_next_run_completes_it(bus: Kafka, command: Command, tmp_path: Path) -> None:
    """SIGTERM while it is paced: what was cut is sent, the rest comes with the next run."""
    flows = parquet(tmp_path / "flows.parquet", busy(12_000))
    process = command(flows, "--pace", "20")
    until = time.monotonic() + 60
    while not on(bus) and time.monotonic() < until:
        time.sleep(0.2)

    process.send_signal(signal.SIGTERM)
    out, problems = process.communicate(timeout=30)
    done(command(flows, "--pace", "1e6"))

    half = json.loads(out)
    assert process.returncode == 130, problems
    assert half["interrupted"]
    assert 0 < half["sent"]["rows"] < 12_000
    parts = ("sent", "waiting", "shed", "refused", "known", "held")
    assert half["rows"] == sum(half[name]["rows"] for name in parts)
    calm = MemoryBus()
    site = configfile.load(tmp_path / "egress.toml")
    request = Request((flows,), site, tmp_path / "calm", pace=1e6, settings=READ_AS_COMMAND)
    collect(request, calm.connect, service())
    assert named(on(bus)) == named(calm.messages)
