"""The service on a real bus: members that are killed, join, leave and freeze end at what replay says."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from egress.config import Config, Kafka
from egress.configfile import assumed, load
from egress.contracts import Level
from egress.detecting import detect
from egress.kafka import make_topics, read_all
from egress.metrics import Metrics
from egress.service import Log, Service
from tests.egress.detectors import Message, fleet, found_on, letters, messages_of, replayed, send, until, written

pytestmark = [pytest.mark.slow, pytest.mark.service]

NUMBERS = itertools.count()
OFTEN = '[detect]\nsnapshot_every = "1s"\nlate_after = "6h"\n'


@pytest.fixture
def settings(broker: str) -> Kafka:
    """A bus of one's own: topics under a new prefix."""
    made = Kafka((broker,), prefix=f"detecting{os.getpid()}x{next(NUMBERS)}", partitions=3)
    make_topics(made)
    return made


@pytest.fixture
def captures(data: Path) -> list[Path]:
    return sorted((data / "recorded").glob("*.pcap"))


def test_members_are_killed_join_and_freeze(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """kill -9 at any moment, members that come and go, one that sleeps through its own replacement; every message
    comes twice."""
    rng = random.Random(2)
    first, second, third, fourth = _parts(messages_of(captures, assumed(), rng), 4)
    with fleet(settings, tmp_path, OFTEN) as members:
        for number, part in enumerate((first, second)):  # alone, killed while it reads, sums, judges or writes
            member = members.start("--member", "a")
            send(settings, part * 2)
            until(lambda known=number: written(settings, "sums") > 5 * known, "sums")  # type: ignore[misc]
            time.sleep(3 * rng.random())
            member.kill()

        sleeper, other = members.start("--member", "a"), members.start("--member", "b")
        until(lambda: "summing" in members.log_of(sleeper) and "summing" in members.log_of(other), "sharing")
        sleeper.send_signal(signal.SIGSTOP)
        send(settings, third * 2)
        until(lambda: members.log_of(other).count("summing") == settings.partitions, "taking over")
        sleeper.send_signal(signal.SIGCONT)
        send(settings, fourth)
        time.sleep(2)
        other.kill()

        code = members.finish("--member", "b", "--fail-on", "info")
        sleeper.terminate()

    assert found_on(settings) == replayed(captures, assumed())
    assert code == 1
    assert letters(settings) == []


def _parts(messages: list[Message], number: int) -> list[list[Message]]:
    size = -(-len(messages) // number)
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def test_a_clean_stop_loses_nothing_and_takes_moments(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """SIGTERM, and on again under the same name: what was read is not read again."""
    first, second = _parts(messages_of(captures, assumed(), random.Random(3)), 2)
    with fleet(settings, tmp_path, OFTEN) as members:
        send(settings, first)
        member = members.start("--member", "only")
        until(lambda: "judging" in members.log_of(member), "taking over")
        time.sleep(1)
        member.terminate()
        assert member.wait(20) == 0

        send(settings, second)
        members.finish("--member", "only")
        begun, log = members.log_of(members.processes[1]), members.log()

    assert found_on(settings) == replayed(captures, assumed())
    assert sum(map(int, re.findall(r"event=summing .* offset=(\d+)", begun))) == len(first)
    assert "is_careful=true" not in log
    assert "Traceback" not in log


POISON = b"this one kills"

KILLER = f"""\
import os, egress.wire as wire
whole = wire.decode
def decode(value, *rest, **more):
    if value is not None and {POISON!r} in value:
        os.kill(os.getpid(), 11)
    return whole(value, *rest, **more)
wire.decode = decode
"""


def test_a_record_that_kills_its_reader_is_put_aside(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """A fault in native code: at most three restarts, the neighbours are kept, the record is named."""
    messages = messages_of(captures, assumed(), random.Random(4))
    poison = Message(b"10.0.0.1", POISON, messages[0].headers)
    send(settings, [*messages[:5], poison, *messages[5:]])
    (tmp_path / "sitecustomize.py").write_text(KILLER)

    with fleet(settings, tmp_path, OFTEN, PYTHONPATH=f"{tmp_path}:{Path.cwd()}") as members:
        codes = [members.finish()]
        while codes[-1] != 0 and len(codes) < 4:
            codes.append(members.finish())

    assert codes == [-signal.SIGSEGV, 0]
    assert [json.loads(letter)["reason"] for letter in letters(settings)] == ["fatal"]
    assert found_on(settings) == replayed(captures, assumed())


def test_damaged_messages_are_put_aside(settings: Kafka, captures: list[Path]) -> None:
    """Neighbours are kept; whoever looks finds where each lies, and why. All of it is counted."""
    messages = messages_of(captures, assumed(), random.Random(5))
    good = messages[0]
    unknown = [(name, b"egress.flows.v99" if name == "schema" else value) for name, value in good.headers]
    bad = [
        Message(good.key, good.value[:-9], good.headers),
        Message(good.key, good.value, unknown),
        Message(good.key, good.value, []),
    ]
    send(settings, [*bad, *messages, good])
    send(settings, [Message(b"", b"{}", [])], "lifecycle")
    send(settings, [Message(b"h", b"?", good.headers)], "heartbeats")

    worst, metrics = detected(settings, assumed())

    expected = replayed(captures, assumed())
    reasons = sorted(json.loads(letter)["reason"] for letter in letters(settings))
    assert reasons == sorted(["damaged", "unknown_schema", "bad_header", "impossible_value", "unknown_schema"])
    assert found_on(settings) == expected
    assert worst is not None
    dead = {topic: metrics.value("dead_letters", topic=topic) for topic in ("flows", "lifecycle", "heartbeats", "sums")}
    assert dead == {"flows": 3, "lifecycle": 1, "heartbeats": 1, "sums": 0}
    assert metrics.value("received_messages", topic="flows") == len(messages) + 4
    assert metrics.value("received_bytes", topic="flows") == sum(len(m.value) for m in [*bad, *messages, good])
    assert metrics.value("summed_rows") == sum(int(dict(message.headers)["rows"]) for message in messages)
    assert metrics.value("duplicate_messages") == 1
    assert metrics.value("published_rows") == sum(int(rows) for rows in said_rows(settings))
    assert metrics.value("judgements") >= 1
    assert metrics.value("judging_seconds") > 0
    assert metrics.value("said_findings") == written(settings, "findings")
    assert metrics.value("snapshots") >= 2
    assert metrics.value("snapshot_bytes") > 0


def detected(settings: Kafka, config: Config) -> tuple[Level | None, Metrics]:
    """Everything that is on the bus, read and judged by a member in this process."""
    metrics = Metrics("detect")
    running = Service("detect", Log(sys.stderr, False, metrics), metrics)
    return detect(config, settings, running, until_idle_s=1.0), metrics


def said_rows(settings: Kafka) -> list[bytes]:
    return [dict(message.headers)["rows"] for message in read_all(settings, "sums")]


def test_what_is_declared_on_the_bus_counts_as_if_it_stood_in_a_file(settings: Kafka, data: Path) -> None:
    """A retirement and a manifest, for instance."""
    demo = data / "demo"
    config, capture = load(demo / "egress.toml"), demo / "checkpoint_job_hides_a_copy.pcap"
    lines = (demo / "lifecycle.jsonl").read_bytes().splitlines()
    assert config.lifecycle
    send(settings, messages_of([capture], config, random.Random(6)))
    send(settings, [Message(b"", line, []) for line in lines], "lifecycle")

    detected(settings, replace(config, lifecycle=()))

    assert found_on(settings) == replayed([capture], config)
    assert found_on(settings) != replayed([capture], replace(config, lifecycle=()))
