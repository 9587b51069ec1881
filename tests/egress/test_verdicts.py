"""A judge on the bus: whatever it takes to judge, reading and summing go on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import cast

import polars as pl
import pytest

from egress.aside import Aside
from egress.config import Kafka
from egress.contracts import Detector
from egress.inventory import Inventory
from egress.judging import Changes
from egress.kafka import DeadLetters, Message, Partition, Producer
from egress.metrics import Metrics
from egress.outlet import Outlet
from egress.packing import pack
from egress.partition import TABLES
from egress.publications import headers_of
from egress.service import Log, Service
from egress.sums import KINDS
from egress.verdicts import JUDGE_S, SUMS, Verdicts
from tests.egress.bus import MemoryBus
from tests.egress.strategies import MINUTE, MODEL_BYTES, NOON, Transfer, flows_of, site
from tests.egress.witness import Witness

WAIT_S = 20.0
SITE = site("h1", "h2")


class Clock(Service):
    """A service whose time passes when it is told to."""

    now = 1000.0

    def clock(self) -> float:
        return self.now


@dataclass
class Group:
    """The group's consumer, as far as a judge has to do with it."""

    paused: set[Partition] = field(default_factory=set)

    def positions(self) -> dict[Partition, int]:
        return {SUMS: 5}

    def pause(self, partitions: list[Partition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: list[Partition]) -> None:
        self.paused.difference_update(partitions)

    def commit(self, offsets: dict[Partition, int]) -> bool:
        return True


@dataclass
class Slow(Witness):
    """A detector that thinks until it is told to go on."""

    thinks: Event = field(default_factory=Event)
    go: Event = field(default_factory=Event)

    def score(self, window: pl.DataFrame) -> pl.DataFrame:
        self.thinks.set()
        assert self.go.wait(WAIT_S)
        return super().score(window)


@dataclass
class Member:
    """A judge, and all that is around it."""

    verdicts: Verdicts
    slow: Slow
    aside: Aside[Changes]
    bus: MemoryBus
    running: Clock
    group: Group
    tasks: int = 0

    def said(self, topic: str = "findings") -> list[bytes]:
        return [key for to, key, _, _ in self.bus.messages if to == topic]

    def turn(self) -> None:
        self.verdicts.judge()
        self.verdicts.save()

    def turns(self, until: Callable[[], bool]) -> None:
        for _ in range(int(WAIT_S * 100)):
            self.turn()
            if until():
                return
            Event().wait(0.01)
        raise AssertionError("it never came to that")

    def hears_of(self, *transfers: Transfer) -> None:
        """Sums of one more task."""
        inventory = Inventory(SITE)
        rows = inventory.attribute(flows_of(transfers)).filter(pl.col("host") != "")
        for offset, kind in enumerate(KINDS):
            sums = kind.of(rows, inventory)
            headers = tuple(headers_of(kind.name, self.tasks, sums.height))
            self.verdicts.take([Message("sums", 0, offset, b"", pack(sums, TABLES[kind.name]), headers)])
        self.tasks += 1

    def takes_over(self) -> Member:
        """Another judge in the same process, whose partition came back."""
        return member_of(self.bus, self.running, self.aside)


THEFT = [Transfer(sent=MODEL_BYTES // 10, start=NOON + n * MINUTE) for n in range(12)]


def member_of(bus: MemoryBus, running: Clock, aside: Aside[Changes]) -> Member:
    slow, group = Slow(), Group()
    producer = cast(Producer, bus.connect())
    outlet = Outlet(producer, running)
    detectors: Callable[[], Iterator[Detector]] = lambda: iter([slow])  # noqa: E731
    verdicts = Verdicts(
        SITE, Kafka(servers=("nowhere:9092",)), running, outlet, DeadLetters(producer, "detect"), aside, detectors
    )
    verdicts._group = group  # type: ignore[assignment] # what `load` does, for which it takes a bus
    return Member(verdicts, slow, aside, bus, running, group)


@pytest.fixture
def member() -> Iterator[Member]:
    metrics = Metrics("detect")
    running = Clock("detect", Log(io.StringIO(), False, metrics), metrics)
    with ended(member_of(MemoryBus(), running, Aside("test"))) as found:
        yield found


@contextmanager
def ended(member: Member) -> Iterator[Member]:
    try:
        yield member
    finally:
        member.slow.go.set()
        member.verdicts.close()


def judging(member: Member) -> Member:
    """In the middle of its first judgement."""
    member.hears_of(*THEFT)
    member.turn()
    assert member.slow.thinks.wait(WAIT_S)
    return member


@pytest.mark.slow
def test_nothing_waits_for_a_judgement(member: Member) -> None:
    """Each round comes back at once, and what was found is said in the first one after it was."""
    judging(member).turn()
    assert (member.said(), member.verdicts.is_idle) == ([], False)

    member.slow.go.set()
    member.turns(until=lambda: member.verdicts.is_idle)

    assert len(member.said()) >= 1
    assert sorted(member.verdicts.levels) == sorted(key.decode() for key in member.said())


@pytest.mark.slow
def test_while_it_judges_the_bus_keeps_what_comes(member: Member) -> None:
    """Sums are paused, and resumed with the result: a judgement is about one state, and no memory fills meanwhile."""
    judging(member)
    assert member.group.paused == {SUMS}
    assert member.verdicts.read_others() == 0

    member.slow.go.set()
    member.turns(until=lambda: member.verdicts.is_idle)
    assert member.group.paused == set()


def test_nothing_is_saved_while_it_judges(member: Member) -> None:
    """Positions and sums of a snapshot belong together, and so does what was said."""
    judging(member)
    member.verdicts.save(is_forced=True)
    assert member.said("state") == []

    member.slow.go.set()
    member.turns(until=lambda: member.verdicts.is_idle)
    member.verdicts.save(is_forced=True)
    assert b"judge-next" in member.said("state")


@pytest.mark.slow
def test_after_a_judgement_it_rests_as_long_as_that_took(member: Member) -> None:
    """A minute for the first; what comes then is judged a minute later."""
    judging(member)
    member.running.now += 60.0
    member.slow.go.set()
    member.turns(until=lambda: member.verdicts.is_idle)

    member.hears_of(Transfer(src="10.0.2.1", dst="203.0.113.5", sent=MODEL_BYTES, start=NOON))
    is_judging = []
    for waited_s in (60.0 - JUDGE_S, JUDGE_S):
        member.running.now += waited_s
        member.turn()
        is_judging.append(member.verdicts.is_judging)
    member.turns(until=lambda: member.verdicts.is_idle)

    assert is_judging == [False, True]


@pytest.mark.slow
def test_who_lost_the_sums_says_nothing_any_more(member: Member) -> None:
    """What was judged meanwhile is dropped, and the next judge begins once that has ended."""
    judging(member).verdicts.close()
    successor = member.takes_over()
    with ended(successor):
        successor.hears_of(*THEFT)
        successor.turn()
        assert not successor.verdicts.is_judging

        member.slow.go.set()
        successor.slow.go.set()
        successor.turns(until=lambda: successor.verdicts.is_idle)

        assert member.verdicts.levels == {}
        assert len(successor.said()) == len(set(successor.said()))


def test_a_stop_waits_for_the_last_word(member: Member) -> None:
    """What is being judged is said, and written down, before the member leaves."""
    judging(member).slow.go.set()

    member.verdicts.end()

    assert len(member.said()) >= 1
    assert b"judge-next" in member.said("state")
