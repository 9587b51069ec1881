"""Replay equality: one recorded topic, read by one to four members under 50 random schedules, ends at one answer.

The bus is lists here and members are objects, so that a schedule can be anything: batches of any size, members that
die at any point, partitions that move, owners that do not know yet that they are none, snapshots that are torn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from egress import findingjson, ocsf, registry, snapshots, taskstate, wire
from egress.config import Config
from egress.configfile import assumed
from egress.findings import in_order
from egress.inventory import Inventory
from egress.judging import Judge, value_of
from egress.messages import Message
from egress.partition import TABLES, PartitionTask
from tests.egress.detectors import Message as Sent
from tests.egress.detectors import messages_of, replayed

pytestmark = pytest.mark.slow

LATE_AFTER = 6 * 3_600_000_000
PARTITIONS = 4
SCHEDULES = 50
AT_ONCE = 10
"""Schedules of one test: they share what it costs to read the captures."""


@dataclass
class Bus:
    """Topics as lists."""

    flows: list[list[Sent]]
    sums: list[tuple[str, bytes]] = field(default_factory=list)
    state: list[list[Message]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    judged: list[tuple[dict[str, bytes], int]] = field(default_factory=list)
    """Snapshots of judges, each with the offset in `sums` to go on at."""
    findings: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Owner:
    """Whoever has a partition, or believes so."""

    bus: Bus
    partition: int
    task: PartitionTask
    slot: int

    @classmethod
    def begun(cls, bus: Bus, partition: int, inventory: Inventory) -> Owner:
        found = snapshots.newest(
            f"flows-{partition}", bus.state[partition], lambda state: taskstate.load(state, inventory, LATE_AFTER)
        )
        return cls(bus, partition, found.state or PartitionTask(inventory, LATE_AFTER), found.slot)

    @property
    def is_done(self) -> bool:
        return self.task.next_offset >= len(self.bus.flows[self.partition])

    def read(self, most: int) -> None:
        begin = self.task.next_offset
        for offset, sent in enumerate(self.bus.flows[self.partition][begin : begin + most], begin):
            self.task.feed(*wire.decode(sent.value, sent.headers), offset)

    def publish(self) -> None:
        self.bus.sums += [(kind, wire.pack(frame, TABLES[kind])) for kind, frame in self.task.take_changes().items()]

    def save(self, rng: random.Random) -> None:
        """Sometimes killed in the middle of it."""
        self.publish()
        records = list(snapshots.pieces(f"flows-{self.partition}", self.slot, taskstate.dump(self.task)))
        topic = self.bus.state[self.partition]
        for key, value, headers in records[: None if rng.random() < 0.8 else -1]:
            topic.append(Message("state", self.partition, len(topic), key, value, tuple(headers)))
        self.slot = (self.slot + 1) % snapshots.SLOTS


@dataclass
class Bench:
    """Whoever judges, or believes so."""

    bus: Bus
    judge: Judge
    read: int = 0

    @classmethod
    def begun(cls, bus: Bus, config: Config) -> Bench:
        saved, read = bus.judged[-1] if bus.judged else ({}, 0)
        bench = cls(bus, Judge(Inventory(config), registry.detectors), read)
        assert bench.judge.restore(saved.items()) == []
        for uid, value in bus.findings.items():
            bench.judge.saw(uid, value)
        return bench

    def join(self) -> None:
        for kind, value in self.bus.sums[self.read :]:
            self.judge.join(kind, wire.unpack(value, TABLES[kind], 1 << 30))
        self.read = len(self.bus.sums)

    def say(self) -> None:
        changes = self.judge.judge()
        for finding in changes.publish:
            self.bus.findings[finding.uid] = value_of(finding)
        for uid in changes.withdraw:
            self.bus.findings.pop(uid, None)

    def save(self) -> None:
        saved = dict(self.bus.judged[-1][0]) if self.bus.judged else {}
        for key, value in self.judge.state():
            if value is None:
                saved.pop(key, None)
            else:
                saved[key] = value
        self.bus.judged.append((saved, self.read))


def run(logs: list[list[Sent]], config: Config, rng: random.Random) -> Bus:
    """One schedule, up to the moment when nothing is left to do."""
    bus, inventory = Bus(logs), Inventory(config)
    owners = [Owner.begun(bus, number, inventory) for number in range(PARTITIONS)]
    bench = Bench.begun(bus, config)
    stale: list[Owner] = []
    members = rng.randint(1, 4)
    while not all(owner.is_done for owner in owners):
        owner = rng.choice(owners)
        owner.read(rng.choice([1, 2, 5, 50]))
        if rng.random() < 0.3:
            owner.publish()
        if rng.random() < 0.2:
            owner.save(rng)
        if rng.random() < 0.2 / members:  # one of them dies or is replaced, and all its partitions move
            gone = rng.randrange(members)
            stale += owners[gone::members]
            owners[gone::members] = [Owner.begun(bus, old.partition, inventory) for old in owners[gone::members]]
            members = rng.randint(1, 4)
        if stale and rng.random() < 0.3:  # it froze, and does not know
            believer = rng.choice(stale)
            believer.read(3)
            believer.save(rng)
        if rng.random() < 0.1:
            bench.join()
            bench.say()
        if rng.random() < 0.1:
            bench.save()
        if rng.random() < 0.1:
            bench = Bench.begun(bus, config)
    for owner in [*owners, *stale]:
        owner.publish()
    bench.join()
    bench.say()
    return bus


def logs_of(messages: Sequence[Sent], rng: random.Random) -> list[list[Sent]]:
    """The topic: each host's messages in one partition, a quarter of them sent again later."""
    logs: list[list[Sent]] = [[] for _ in range(PARTITIONS)]
    for message in messages:
        logs[sum(message.key) % PARTITIONS].append(message)
    for log in logs:
        for message in rng.sample(log, len(log) // 4):
            log.insert(rng.randint(log.index(message) + 1, len(log)), message)
    return logs


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
def test_any_schedule_ends_at_what_replay_says(first: int, data: Path) -> None:
    paths = sorted((data / "recorded").glob("*.pcap"))
    expected, messages = replayed(paths, assumed()), messages_of(paths, assumed(), random.Random(first))
    assert expected
    for seed in range(first, first + AT_ONCE):
        rng = random.Random(seed)

        bus = run(logs_of(messages, rng), assumed(), rng)

        found = in_order(findingjson.decode(value.decode()) for value in bus.findings.values())
        assert [ocsf.line(ocsf.event(finding)) for finding in found] == expected, f"schedule {seed}"
