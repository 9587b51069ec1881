"""Members of a group on a real broker: who reads what, and who goes on where another ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from kafka.coordinator.base import MemberState

from egress.config import Kafka
from egress.kafka import BusError, Consumer, Partition, make_topics
from tests.egress.onbus import polled, sent

pytestmark = pytest.mark.service


def test_a_group_shares_partitions_and_moves_only_what_it_must(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """The second member takes two of four; the first keeps the other two without an interruption."""
    taken: list[Partition] = []
    lost: list[Partition] = []
    one = consumers(bus, bus.prefix, ["flows"], on_assign=taken.extend, on_revoke=lost.extend)
    while len(one.assigned) < 4:
        one.poll(0.1)
    two = consumers(bus, bus.prefix, ["flows"])

    until = time.monotonic() + 20
    while time.monotonic() < until and not len(one.assigned) == len(two.assigned) == 2:
        one.poll(0.1)
        two.poll(0.1)

    assert one.assigned | two.assigned == {("flows", number) for number in range(4)}
    assert len(taken) == 4, "the first member was given something twice"
    assert set(lost) == two.assigned


def test_who_shares_with_others_has_read_all_that_is_left_to_it(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """A member that gave partitions away, and one that came when there were none left."""
    sent(bus, 3)
    members = [consumers(bus, bus.prefix, ["flows"])]
    polled(members[0], 3)
    members += [consumers(bus, bus.prefix, ["flows"]) for _ in range(bus.partitions)]

    until = time.monotonic() + 30
    while time.monotonic() < until and sorted(len(each.assigned) for each in members) != [0, 1, 1, 1, 1]:
        for each in members:
            each.poll(0.1)
    while time.monotonic() < until and not all(each.has_read_all() for each in members):
        for each in members:
            each.poll(0.1)

    assert [each.has_read_all() for each in members] == [True] * 5


def test_on_assign_may_seek_before_any_message(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """Recovery by snapshot: it goes on where the snapshot ends, not where the group noted."""
    sent(bus, 100, partition=1)

    def recover(partitions: list[Partition]) -> None:
        for topic, partition in partitions:
            consumer.seek(topic, partition, 90 if partition == 1 else 0)

    consumer = consumers(bus, bus.prefix, ["flows"], on_assign=recover)

    assert [message.offset for message in polled(consumer, 10)] == list(range(90, 100))


def test_a_member_goes_on_where_the_group_noted(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """And notes nothing by itself."""
    sent(bus, 10, partition=0)
    first = consumers(bus, bus.prefix, ["flows"])
    polled(first, 10)
    assert first.commit({("flows", 0): 4})
    first.close()

    second = consumers(bus, bus.prefix, ["flows"])

    assert polled(second, 6)[0].offset == 4
    assert second.committed([("flows", 0), ("flows", 1)]) == {("flows", 0): 4}


def test_a_partition_of_somebody_else_is_not_noted(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """Its new owner may be further."""
    consumer = consumers(bus, bus.prefix, ["flows"])
    while not consumer.assigned:
        consumer.poll(0.1)

    assert not consumer.commit({("flows", 99): 4})


def test_a_named_member_that_restarts_moves_nothing(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """An upgrade of one detector must not disturb the others."""
    moves: list[Partition] = []
    one = consumers(bus, bus.prefix, ["flows"], on_assign=moves.extend, on_revoke=moves.extend, member="one")
    two = consumers(bus, bus.prefix, ["flows"], member="two")
    until = time.monotonic() + 20
    while time.monotonic() < until and not len(one.assigned) == len(two.assigned) == 2:
        one.poll(0.1)
        two.poll(0.1)
    before, moves[:] = two.assigned, []

    two.close()
    again = consumers(bus, bus.prefix, ["flows"], member="two")
    while time.monotonic() < until and again.assigned != before:
        one.poll(0.1)
        again.poll(0.1)

    assert again.assigned == before
    assert moves == []


def test_a_member_whose_name_is_taken_is_told(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """Two services of one name would both believe that they own everything."""
    one = consumers(bus, bus.prefix, ["flows"], member="one")
    while not one.assigned:
        one.poll(0.1)
    other = consumers(bus, bus.prefix, ["flows"], member="one")
    while not other.assigned:
        other.poll(0.1)

    with pytest.raises(BusError, match="another process has joined"):
        polled(one, 1)
    assert other.poll(0.1) == []


def test_what_was_lost_may_be_noted_no_more(bus: Kafka, consumers: Callable[..., Consumer]) -> None:
    """Callbacks run where everything is allowed; the library alone forbids a commit in them."""
    sent(bus, 10, partition=0)
    noted: list[bool] = []
    one = consumers(bus, bus.prefix, ["flows"], on_revoke=lambda lost: noted.append(one.commit(dict.fromkeys(lost, 3))))
    while len(one.assigned) < 4:
        one.poll(0.1)
    two = consumers(bus, bus.prefix, ["flows"])

    until = time.monotonic() + 20
    while time.monotonic() < until and len(two.assigned) < 2:
        one.poll(0.1)
        two.poll(0.1)

    assert noted == [False]
    assert two.committed([("flows", number) for number in range(4)]) == {}


def test_a_member_whose_joining_was_forgotten_joins(bus: Kafka) -> None:
    """Metadata that flap while brokers come back leave the library between leaving and joining."""
    sent(bus, 1, partition=0)
    with closing(Consumer(bus, bus.prefix, ["flows"], member="one")) as consumer:
        assert polled(consumer, 1)
        coordinator = consumer._client._coordinator
        coordinator._disable_heartbeat()
        coordinator.state = MemberState.REBALANCING
        assert not consumer.commit({("flows", 0): 1})

        until = time.monotonic() + 15
        while not consumer.commit({("flows", 0): 1}) and time.monotonic() < until:
            consumer.poll(0.05)

        assert consumer.committed([("flows", 0)]) == {("flows", 0): 1}


def test_a_named_member_that_comes_back_reads_partitions_that_were_made_meanwhile(
    bus: Kafka, consumers: Callable[..., Consumer]
) -> None:
    """The broker gives it what it had, without asking anybody to share anew."""
    one = consumers(bus, bus.prefix, ["flows"], member="one")
    while len(one.assigned) < bus.partitions:
        one.poll(0.1)
    one.close()
    grown = replace(bus, partitions=bus.partitions + 3)
    make_topics(grown)

    again = consumers(grown, bus.prefix, ["flows"], member="one")
    until = time.monotonic() + 15
    while time.monotonic() < until and len(again.assigned) < grown.partitions:
        again.poll(0.1)

    assert len(again.assigned) == grown.partitions
