"""The service on a real bus: members that are killed, join, leave and freeze end at what replay says."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from egress.config import Kafka
from egress.configfile import assumed
from egress.kafka import make_topics
from tests.egress.detectors import Message, fleet, found_on, letters, messages_of, replayed, send, until

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


def test_the_bus_ends_with_what_replay_says(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    send(settings, messages_of(captures, assumed(), random.Random(1)))

    with fleet(settings, tmp_path, OFTEN) as members:
        code = members.finish("--fail-on", "info")

    assert found_on(settings) == replayed(captures, assumed())
    assert code == 1
    assert letters(settings) == []


def test_members_are_killed_join_and_freeze(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """kill -9 at any moment, two members, one that sleeps through its own replacement; every message twice."""
    messages = messages_of(captures, assumed(), random.Random(2))
    with fleet(settings, tmp_path, OFTEN) as members:
        for number, part in enumerate(_parts(messages, 4)):
            first, second = members.start(), members.start("--member", f"m{number}")
            send(settings, part)
            send(settings, part)
            time.sleep(3 + number)
            first.send_signal(signal.SIGKILL)
            second.send_signal(signal.SIGSTOP if number == 2 else signal.SIGKILL)
        members.processes[5].send_signal(signal.SIGCONT)
        time.sleep(1)
        members.processes[5].send_signal(signal.SIGKILL)

        members.finish()

    assert found_on(settings) == replayed(captures, assumed())


def _parts(messages: list[Message], number: int) -> list[list[Message]]:
    size = -(-len(messages) // number)
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def test_a_clean_stop_loses_nothing_and_takes_moments(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """SIGTERM, and on again under the same name: nothing is read twice."""
    messages = messages_of(captures, assumed(), random.Random(3))
    with fleet(settings, tmp_path, OFTEN) as members:
        for part in _parts(messages, 2):
            member = members.start("--member", "only")
            send(settings, part)
            until(lambda: "summing" in members.log() and "judging" in members.log(), "taking over")
            time.sleep(2)
            member.terminate()
            assert member.wait(20) == 0
        members.finish("--member", "only")
        log = members.log()

    assert found_on(settings) == replayed(captures, assumed())
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


def test_damaged_messages_are_put_aside(settings: Kafka, captures: list[Path], tmp_path: Path) -> None:
    """Neighbours are kept; whoever looks finds where each lies, and why."""
    messages = messages_of(captures, assumed(), random.Random(5))
    good = messages[0]
    unknown = [(name, b"egress.flows.v99" if name == "schema" else value) for name, value in good.headers]
    bad = [
        Message(good.key, good.value[:-9], good.headers),
        Message(good.key, good.value, unknown),
        Message(good.key, good.value, []),
    ]
    send(settings, [*bad, *messages])
    send(settings, [Message(b"", b"{}", [])], "lifecycle")
    send(settings, [Message(b"h", b"?", good.headers)], "heartbeats")

    with fleet(settings, tmp_path, OFTEN) as members:
        members.finish()

    reasons = sorted(json.loads(letter)["reason"] for letter in letters(settings))
    assert reasons == sorted(["damaged", "unknown_schema", "bad_header", "impossible_value", "unknown_schema"])
    assert found_on(settings) == replayed(captures, assumed())
