"""The bus on a real broker: what is sent arrives once and in order, and nothing that is on it can stop a reader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from egress.cli import main
from egress.config import Kafka
from egress.kafka import (
    BusAway,
    BusError,
    Consumer,
    DeadLetters,
    Message,
    Producer,
    make_topics,
    read_all,
)
from tests.egress.onbus import polled, sent

pytestmark = pytest.mark.service

MANY = 2000
DEAD = Kafka(("127.0.0.1:1",))
"""Nobody listens on port 1."""


BOMBER = """
import sys
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=sys.argv[1], compression_type="gzip", max_request_size=1 << 30)
producer.send(sys.argv[2], key=b"bomb", value=bytes(300 << 20), partition=0).get(60)
"""
"""What a careless or hostile producer sends: 300 kB that hold 300 MB."""

READER = """
import json, resource, sys, time
from egress.config import Kafka
from egress.kafka import Consumer
consumer = Consumer(Kafka((sys.argv[1],), prefix=sys.argv[2]), sys.argv[2], ["flows"])
found, started = [], time.monotonic()
while len(found) < 6 and time.monotonic() < started + 90:
    found += consumer.poll(0.5)
consumer.close()
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would count what the process that started this one held.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"offsets": [one.offset for one in found], "megabytes": peak / 1024,
                  "seconds": used.ru_utime + used.ru_stime}))
"""


@pytest.fixture(scope="session")
def shared(broker: str) -> Kafka:
    """Topics that tests only read, or write to with keys of their own."""
    settings = Kafka(tuple(broker.split(",")), prefix=f"shared{time.monotonic_ns()}", partitions=4)
    make_topics(settings)
    return settings


def letters(settings: Kafka) -> list[dict[str, Any]]:
    return [json.loads(message.value or b"") for message in read_all(settings, "dlq")]


class TestProducer:
    def test_what_is_sent_arrives_once_with_key_and_headers_in_order(self, bus: Kafka) -> None:
        """The order of one partition is the order of sending."""
        sent(bus, 500, partition=2)

        found = list(read_all(bus, "flows"))

        assert [message.offset for message in found] == list(range(500))
        assert replace(found[7], written_us=0) == Message("flows", 2, 7, b"host-7", b"7".ljust(10), (("seq", b"7"),))

    def test_a_key_has_one_partition(self, bus: Kafka) -> None:
        """A host's flows stay together, whoever sends them."""
        for _ in range(2):
            sent(bus, 40)

        places: dict[bytes | None, set[int]] = {}
        for message in read_all(bus, "flows"):
            places.setdefault(message.key, set()).add(message.partition)

        assert {len(partitions) for partitions in places.values()} == {1}
        assert len(set.union(*places.values())) == 4

    def test_acknowledgements_come_on_the_callers_thread(self, bus: Kafka) -> None:
        """So that what is acknowledged may be noted without locks."""
        threads: set[int] = set()
        producer = Producer(bus)

        producer.send("flows", b"k", b"v", on_ack=lambda partition, offset: threads.add(threading.get_ident()))
        assert producer.flush(10)
        producer.close()

        assert threads == {threading.get_ident()}

    def test_a_topic_that_is_not_there_is_named_with_its_remedy(self, broker: str) -> None:
        """Nothing is made by accident."""
        producer = Producer(Kafka(tuple(broker.split(",")), prefix="nowhere"))

        with pytest.raises(BusError, match=r"nowhere\.flows\.v1 is not there; `egress init --kafka` makes the topics"):
            producer.send("flows", b"k", b"v")
        producer.close()

    def test_a_partition_that_is_not_there_is_named(self, shared: Kafka) -> None:
        """Somebody else's partition count."""
        producer = Producer(shared)

        with pytest.raises(BusError, match="has no partition 9; it has 4"):
            producer.send("flows", b"k", b"v", partition=9)
        producer.close()

    def test_a_partition_that_came_after_the_connection_is_found(self, bus: Kafka) -> None:
        """Whoever names it has heard of it earlier."""
        producer = Producer(bus)
        producer.send("flows", b"k", b"v")
        make_topics(replace(bus, partitions=6))

        producer.send("flows", b"k", b"v", partition=5)

        assert producer.flush(10)
        assert producer.partitions("flows") == 6
        producer.close()

    def test_a_message_beyond_the_limit_is_refused_before_it_is_sent(self) -> None:
        """Brokers would refuse it later, together with its neighbours."""
        with pytest.raises(BusError, match="has 1000001 bytes, at most 1000000 fit"):
            Producer(DEAD).send("flows", b"k", bytes(1_000_000))

    def test_without_a_broker_it_starts_and_holds_nothing(self) -> None:
        """The library alone raises after 30 s, and holds whatever it is given without a bound."""
        producer = Producer(DEAD)

        assert not producer.connect(0.2)
        assert not producer.offer("flows", b"k", b"v")
        assert (producer.in_flight, producer.flush(0.1)) == (0, True)


class TestConsumer:
    def test_paused_partitions_wait_while_the_others_go_on(
        self, bus: Kafka, consumers: Callable[..., Consumer]
    ) -> None:
        """Back-pressure instead of memory."""
        sent(bus, 5, partition=0)
        sent(bus, 5, partition=1)
        consumer = consumers(bus, "", ["flows"])
        consumer.connect()
        consumer.pause([("flows", 0)])

        while_paused = polled(consumer, 10, within_s=1.0)
        consumer.resume([("flows", 0)])
        after = polled(consumer, 5)

        assert {message.partition for message in while_paused} == {1}
        assert [message.offset for message in after] == list(range(5))

    def test_what_was_fetched_before_a_pause_comes_after_it(
        self, bus: Kafka, consumers: Callable[..., Consumer]
    ) -> None:
        """Also where the other partition was read to its end meanwhile: the library alone forgets it for ever."""
        sent(bus, 5, partition=0)
        consumer = consumers(bus, "", ["flows"])
        before = polled(consumer, 2, most=2)
        consumer.pause([("flows", 0)])
        sent(bus, 1, partition=1)

        while_paused = polled(consumer, 1)
        consumer.resume([("flows", 0)])
        after = polled(consumer, 3)

        assert [message.offset for message in before] == [0, 1]
        assert [message.partition for message in while_paused] == [1]
        assert [message.offset for message in after] == [2, 3, 4]

    def test_begins_ends_and_positions_tell_the_lag(self, bus: Kafka, consumers: Callable[..., Consumer]) -> None:
        """Of assigned partitions, or of those asked for."""
        sent(bus, 7, partition=3)
        consumer = consumers(bus, "", ["flows"])

        polled(consumer, 7)

        assert consumer.begins([("flows", 3)]) == {("flows", 3): 0}
        assert consumer.ends() == {("flows", 0): 0, ("flows", 1): 0, ("flows", 2): 0, ("flows", 3): 7}
        assert consumer.positions()["flows", 3] == 7

    def test_all_is_read_once_what_is_ours_was_told_and_given_out(
        self, bus: Kafka, consumers: Callable[..., Consumer]
    ) -> None:
        """Before a group told what is ours nothing is known to be read, however long nothing comes."""
        sent(bus, 3)
        consumer = consumers(bus, "all", ["flows"])
        assert not consumer.has_read_all()

        polled(consumer, 3)
        assert consumer.has_read_all()

        sent(bus, 1)
        assert not consumer.has_read_all()

    def test_without_a_broker_a_poll_ends_in_time_and_leaves_no_threads(self) -> None:
        """A service starts with the bus down and waits, for days if need be."""
        consumer = Consumer(DEAD, "g", ["flows"])
        threads = threading.active_count()
        started = time.monotonic()

        found = [consumer.poll(0.2) for _ in range(3)]

        assert found == [[], [], []]
        assert time.monotonic() - started < 3
        assert threading.active_count() == threads

    def test_a_broker_that_falls_silent_between_two_answers_is_tried_again(
        self, bus: Kafka, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It took the connection, and was gone when it was asked for its topics."""
        sent(bus, 1)
        asked, topics = [], KafkaConsumer.topics

        def silent_once(client: KafkaConsumer) -> object:
            asked.append(client)
            if len(asked) == 1:
                raise KafkaTimeoutError("no metadata")
            return topics(client)

        monkeypatch.setattr(KafkaConsumer, "topics", silent_once)
        with closing(Consumer(bus, "", ["flows"])) as consumer:
            assert not consumer.connect()
            assert len(polled(consumer, 1)) == 1

    def test_ends_are_not_made_up(self) -> None:
        """Nothing to read and nobody to ask must not look alike."""
        with pytest.raises(BusAway, match="no broker answers"):
            Consumer(DEAD, "", ["flows"]).ends([("flows", 0)])

    def test_a_topic_that_is_not_there_is_named(self, broker: str) -> None:
        """A group would wait for it in silence."""
        consumer = Consumer(Kafka(tuple(broker.split(",")), prefix="nowhere"), "g", ["flows"])

        with pytest.raises(BusError, match=r"nowhere\.flows\.v1 is not there"):
            consumer.poll(5)


class TestPoison:
    @pytest.mark.slow
    def test_a_bomb_is_told_by_reference_and_costs_no_memory(self, bus: Kafka) -> None:
        """300 kB of gzip that would become 300 MB; neighbours are given, and no time is lost on it."""
        sent(bus, 3, partition=0)
        subprocess.run([sys.executable, "-c", BOMBER, *bus.servers, bus.topic("flows")], check=True)
        sent(bus, 3, partition=0)

        told = subprocess.run([sys.executable, "-c", READER, *bus.servers, bus.prefix], capture_output=True, check=True)

        seen = json.loads(told.stdout)
        assert seen["offsets"] == [0, 1, 2, 4, 5, 6]
        assert seen["megabytes"] < 150
        assert seen["seconds"] < 15  # of CPU: turning in circles would take all the time there is
        (letter,) = letters(bus)
        assert letter["what"].startswith("a compressed batch of ")
        del letter["what"]
        assert letter == {
            "topic": "flows",
            "partition": 0,
            "offset": 3,
            "records": 1,
            "reason": "compressed",
            "service": bus.prefix,
        }

    def test_dead_letters_say_where_and_why_but_not_what_it_held(self, bus: Kafka) -> None:
        """What cannot be read is not passed on; an explanation is cut."""
        producer = Producer(bus)
        dead = DeadLetters(producer, "detect")

        dead.put(Message("flows", 1, 42, b"secret", b"secret"), "schema", "x" * 10_000)
        assert producer.flush(10)
        producer.close()

        (message,) = read_all(bus, "dlq")
        assert message.key == b"flows/1/42"
        assert b"secret" not in (message.value or b"")
        assert len(message.value or b"") < 1000
        assert dead.by_reason == {"schema": 1}


class TestTopics:
    def test_making_them_again_changes_nothing(self, shared: Kafka) -> None:
        """`egress init --kafka` may stand in any start script."""
        assert {line.partition(": ")[2] for line in make_topics(shared)} == {"as it should be"}

    def test_the_command_makes_them_and_says_so(
        self, broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`egress init --kafka`, from a configuration."""
        servers = json.dumps(broker.split(","))
        path = tmp_path / "egress.toml"
        path.write_text(f'[kafka]\nservers = {servers}\nprefix = "said{time.monotonic_ns()}"\npartitions = 3\n')

        assert main(["init", "--kafka", "--config", str(path)]) == 0

        lines = capsys.readouterr().out.splitlines()
        assert lines[1].endswith(".flows.v1: made, 3 partitions, 1 copy")
        assert len(lines) == 8

    def test_they_grow_and_are_brought_in_line(self, bus: Kafka) -> None:
        """What changed is said, with what it was."""
        found = make_topics(replace(bus, partitions=6, retention=86_400_000_000))

        assert found[1] == f"{bus.topic('flows')}: partitions 4 -> 6, retention.ms 604800000 -> 86400000"
        assert found[-1] == f"{bus.topic('growth')}: what begins 10 minutes from now or later goes to 6"
        assert f"{bus.topic('lifecycle')}: as it should be" in found

    def test_they_do_not_shrink(self, shared: Kafka) -> None:
        """Kafka cannot take partitions away, and nothing is half done."""
        with pytest.raises(BusError, match=r"has 4 partitions, and kafka.partitions is 2: .* Nothing was changed"):
            make_topics(replace(shared, partitions=2))

    def test_more_copies_than_brokers_are_refused(self, shared: Kafka) -> None:
        """Said before anything is made."""
        with pytest.raises(BusError, match="replication is 5, but the cluster has 1 broker"):
            make_topics(replace(shared, prefix="other", replication=5))


def test_what_comes_while_all_is_read_is_left_for_later(bus: Kafka) -> None:
    """Also where there was nothing when it began."""
    with closing(Producer(bus)) as producer:
        for number in range(MANY):  # more than one answer of a broker holds
            producer.send("flows", b"k", (b"%d" % number).ljust(8000), partition=0)
        assert producer.flush(30)
        reading = read_all(bus, "flows")
        first = next(reading)
        for partition in (0, 1):
            producer.send("flows", b"k", b"later", partition=partition)
        assert producer.flush(30)

    assert [int(message.value or b"") for message in (first, *reading)] == list(range(MANY))
