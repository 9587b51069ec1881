"""What is sent again after partitions grew counts once, as if they had not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from egress import wire
from egress.config import Kafka
from egress.kafka import make_topics, read_all
from tests.bench.rows import Busy
from tests.chaos.kept import kept_in
from tests.chaos.site import Site, make_input, replay, site
from tests.egress.detectors import found_on, letters
from tests.services.broker import Brokers

pytestmark = [pytest.mark.slow, pytest.mark.service]

BUSY = Busy(hosts=20, conversations=10, ticks=20, remotes=5)
FAST = 1000.0
KILLED = """
import os, signal
from egress.cli import main
from egress.kafkawriter import Producer
offer, left = Producer.offer, {messages}
def unacknowledged(self, topic, key, value, headers=(), partition=None, on_ack=None):
    global left
    taken = offer(self, topic, key, value, headers, partition)
    left -= taken
    if left == 0:
        assert self.flush(30)
        os.kill(os.getpid(), signal.SIGKILL)
    return taken
Producer.offer = unacknowledged
raise SystemExit(main())
"""
"""A collector whose messages are written, of which it never hears."""
_prefixes = count()


@pytest.fixture
def few(broker: str) -> Kafka:
    settings = Kafka((broker,), prefix=f"again{next(_prefixes)}-{os.getpid()}", partitions=2)
    make_topics(settings)
    return settings


@pytest.fixture
def made(few: Kafka, tmp_path: Path) -> Iterator[Site]:
    given = make_input(tmp_path / "input", 1, BUSY)
    with site(Brokers({}), few, tmp_path / "site", replace(given, portions=given.portions[1:]), FAST) as found:
        yield found


def test_a_collector_that_was_killed_before_it_heard_of_anything(few: Kafka, made: Site) -> None:
    """All that it wrote waits in its spool still; the next one sends it, and the rest."""
    more = replace(few, partitions=5)
    killed_after(made, BUSY.hosts * BUSY.ticks * 2 // 3)
    before = places(few)

    make_topics(more)
    made.collect(FAST)

    assert made.pieces["collect"].wait() == 0, made.pieces["collect"].last_words()
    assert sum(map(len, before.values())) > BUSY.hosts * BUSY.ticks // 2
    must_be_as_replayed(more, made)


def test_a_file_that_is_collected_before_and_after(few: Kafka, made: Site) -> None:
    """By another collector, whose spool knows nothing of the first."""
    more = replace(few, partitions=5)
    for settings, spool in ((few, "first"), (more, "second")):
        make_topics(settings)
        made.spool = made.folder / spool
        made.collect(FAST)
        assert made.pieces["collect"].wait() == 0, made.pieces["collect"].last_words()

    assert {len(offsets) for offsets in places(more).values()} == {2}
    must_be_as_replayed(more, made)


def killed_after(made: Site, messages: int) -> None:
    program = KILLED.format(messages=messages)
    process = subprocess.Popen([sys.executable, "-c", program, *made.words_to_collect(FAST)])
    assert process.wait(90) == -signal.SIGKILL


def must_be_as_replayed(settings: Kafka, made: Site) -> None:
    """Each message in one partition; findings, ledger and rows as of someone who was left alone."""
    _, expected = replay(made, made.given.paths)
    made.finish("detect-a")
    made.finish("store")
    assert {len({partition for partition, _ in offsets}) for offsets in places(settings).values()} == {1}
    assert expected
    assert found_on(settings) == expected
    streamed, replayed = kept_in(made.store), kept_in(made.folder / "replayed")
    assert streamed.cells.equals(replayed.cells)
    assert streamed.ids == replayed.ids
    assert streamed.findings == expected
    assert letters(settings) == []


def places(settings: Kafka) -> dict[tuple[str, str, str, int], list[tuple[int, int]]]:
    """Partitions and offsets of each message, by its name."""
    found: dict[tuple[str, str, str, int], list[tuple[int, int]]] = {}
    for message in read_all(settings, "flows"):
        header = wire.read_header(message.headers)
        name = (header.sensor, header.host, header.epoch, header.seq)
        found.setdefault(name, []).append((message.partition, message.offset))
    return found
