"""Collectors' way to the bus: where it puts flows, before and after partitions grew."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from egress import growth
from egress.config import Kafka
from egress.growth import partition_of
from egress.kafka import make_topics, read_all
from egress.metrics import Metrics
from egress.sender import Sender
from egress.service import Log
from tests.services.broker import make_topic

DEAD = Kafka(("127.0.0.1:1",))
HOUR = 3_600_000_000
Put = Callable[..., None]


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def put(said: io.StringIO) -> Iterator[Put]:
    """`put(settings, epoch, clock=now)` sends a message of each of ten hosts, by a sender that has just begun."""

    def send(settings: Kafka, epoch: str, clock: Callable[[], int] = now) -> None:
        with closing(Sender(settings, Log(said, False, Metrics("collect")), clock)) as sender:
            assert sender.connect(10)
            for host in range(10):
                while not sender.offer("flows", b"host-%d" % host, b"x", (("epoch", epoch.encode()),)):
                    sender.serve(0.1)
            assert sender.flush(10)

    return send


def places(settings: Kafka) -> dict[tuple[bytes, str], set[int]]:
    """Partitions of each host and epoch."""
    found: dict[tuple[bytes, str], set[int]] = {}
    for message in read_all(settings, "flows"):
        epoch = dict(message.headers)["epoch"].decode()
        found.setdefault((message.key or b"", epoch), set()).add(message.partition)
    return found


def spread(settings: Kafka, epoch: str) -> set[int]:
    """Numbers of partitions by which all places of an epoch can be explained."""
    of_epoch = {host: found for (host, name), found in places(settings).items() if name == epoch}
    return {n for n in (4, 9) if all(found == {partition_of(host, n)} for host, found in of_epoch.items())}


@pytest.mark.slow
@pytest.mark.service
def test_an_epoch_stays_and_what_begins_later_is_spread_further(bus: Kafka, put: Put) -> None:
    """From the past, of no time, from the future: all sent again; what is met first after the step uses all of them."""
    more = replace(bus, partitions=9)
    past, timeless = growth.named(now() - HOUR, "0a"), "0123456789abcdef"
    future, later = growth.named(now() + HOUR, "0b"), growth.named(now() + HOUR, "0c")
    for epoch in (past, timeless, future):
        put(bus, epoch)

    make_topics(more)
    for epoch in (past, timeless, future, later):
        put(more, epoch)
    for epoch in (future, later):
        put(more, epoch, lambda: now() + 2 * HOUR)

    assert {epoch: spread(more, epoch) for epoch in (past, timeless, future, later)} == {
        past: {4},
        timeless: {4},
        future: {4},
        later: {9},
    }
    assert all(len(found) == 1 for found in places(more).values())


@pytest.mark.slow
@pytest.mark.service
def test_where_nobody_remembers_the_partitions_of_today_are_used(broker: str, put: Put, said: io.StringIO) -> None:
    """Topics of before an upgrade, or a user who may not read that one: it goes on, and says so."""
    settings = Kafka(tuple(broker.split(",")), prefix=f"old{time.monotonic_ns()}", partitions=9)
    make_topic(broker, settings.topic("flows"), 9)

    put(settings, growth.named(now() + HOUR, "0a"))

    assert len(places(settings)) == 10
    assert all(found == {partition_of(host, 9)} for (host, _), found in places(settings).items())
    assert said.getvalue().count("growth_not_known") == 1


@pytest.mark.slow
@pytest.mark.service
def test_topics_that_were_made_before_remember_what_they_had(broker: str, put: Put) -> None:
    """The first `egress init --kafka` after an upgrade may be the one that makes them grow."""
    more = Kafka(tuple(broker.split(",")), prefix=f"older{time.monotonic_ns()}", partitions=9)
    make_topic(broker, more.topic("flows"), 4)
    epoch = growth.named(now() - HOUR, "0a")
    put(more, epoch)

    said = make_topics(more)
    put(more, epoch)

    assert spread(more, epoch) == {4}
    assert said[-1].endswith("what begins 10 minutes from now or later goes to 9")
    assert make_topics(more)[-1].endswith("as it should be")


@pytest.mark.slow
def test_without_a_broker_nothing_is_taken(said: io.StringIO) -> None:
    sender = Sender(DEAD, Log(said, False, Metrics("collect")), now)

    assert not sender.offer("flows", b"host-1", b"x", (("epoch", b"e"),))
    assert said.getvalue() == ""
