"""The bus when brokers die, freeze, come back or send what was broken on their disks."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

import pytest

from egress.config import Kafka
from egress.errors import BusAway
from egress.kafka import Consumer, Message, Producer, make_topics, read_all
from tests.conftest import absent
from tests.services import broker as brokers

pytestmark = [pytest.mark.service, pytest.mark.slow]

_prefixes = count()
LEADER_PAUSE_S = 6.0
"""The promise; the client alone shows 3.7 s after a kill."""
FREEZE_PAUSE_S = 18.0
"""A frozen leader is only known by its silence, REQUEST_TIMEOUT_MS of it; again for whoever asks it for the new one."""
CAP = 4 << 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Brokers]:
    """One node that these tests may mistreat."""
    try:
        with brokers.cluster(tmp_path_factory.mktemp("own")) as found:
            yield found
    except brokers.NotHere as problem:
        absent("Apache Kafka", str(problem))


@pytest.fixture
def bus(own: brokers.Brokers) -> Kafka:
    settings = Kafka((own.servers,), prefix=f"own{next(_prefixes)}", partitions=2, in_flight_bytes=CAP)
    make_topics(settings)
    return settings


@dataclass
class Writer:
    """Sends numbers for as long as it is asked to, on a thread of its own, and notes what was acknowledged when."""

    settings: Kafka
    pause_s: float
    size: int = 1000
    acknowledged: dict[int, float] = field(default_factory=dict)
    largest_in_flight: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        producer = Producer(self.settings)
        while not self._stop.wait(self.pause_s):
            number = self.sent

            def note(partition: int, offset: int, number: int = number) -> None:
                self.acknowledged[number] = time.monotonic()

            producer.send("flows", b"host", str(number).encode().ljust(self.size), on_ack=note)
            self.largest_in_flight = max(self.largest_in_flight, producer.in_flight_bytes)
            self.sent += 1
        self.is_flushed = producer.flush(30)
        producer.close()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.value or b"") for message in messages]


def test_a_killed_broker_costs_nothing_but_time_and_memory_stays_under_the_cap(
    own: brokers.Brokers, bus: Kafka
) -> None:
    """kill -9 under load, away for 2 s with 40 MB/s offered: all that was sent is there once, in order."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer = Writer(bus, pause_s=0.0005, size=20_000)
    time.sleep(1)
    own.kill(1)
    late = _start_with_the_broker_dead(bus)
    time.sleep(2)
    during = writer.largest_in_flight
    own.restart(1)
    writer.finish()

    assert writer.is_flushed
    assert numbers(list(read_all(bus, "flows"))) == list(range(writer.sent))
    assert len(writer.acknowledged) == writer.sent
    assert CAP // 2 < during <= CAP, "the cap was never reached, or not kept"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10, "kB of resident memory"
    _go_on_when_it_comes(*late)


def test_who_closes_with_messages_under_way_lets_go(own: brokers.Brokers, bus: Kafka) -> None:
    """Nothing is raised for what will never be known, and no thread goes on sending it."""
    producer = Producer(bus)
    producer.send("flows", b"host", b"first")
    assert producer.flush(30)
    own.stop(1)
    producer.send("flows", b"host", b"second")

    producer.close()
    own.go_on(1)

    _wait(lambda: not [thread for thread in threading.enumerate() if "network-thread" in thread.name])


def _start_with_the_broker_dead(bus: Kafka) -> tuple[Producer, Consumer]:
    """Whatever is started first: neither side fails, and whoever cannot wait is told."""
    producer, consumer = Producer(bus), Consumer(bus, "g", ["heartbeats"])
    assert not producer.offer("heartbeats", b"host", b"beat")
    assert consumer.poll(0.5) == []
    with pytest.raises(BusAway):
        make_topics(bus)
    return producer, consumer


def _go_on_when_it_comes(producer: Producer, consumer: Consumer) -> None:
    producer.send("heartbeats", b"host", b"beat")
    assert producer.flush(10)
    found: list[Message] = []
    _wait(lambda: bool(found.extend(consumer.poll(0.2)) or found))
    producer.close()
    consumer.close()
    assert [message.value for message in found] == [b"beat"]


def test_a_batch_broken_on_the_brokers_disk_costs_itself_only(own: brokers.Brokers, bus: Kafka) -> None:
    """One flipped bit in the middle of a log: neighbours are given, and where it was is told."""
    producer = Producer(bus)
    for number in range(9):
        producer.send("flows", b"host", str(number).encode().ljust(100), partition=0)
        assert producer.flush(10)  # each in a batch of its own
    producer.close()
    _flip(next(own.nodes[1].folder.glob(f"data/{bus.topic('flows')}-0/*.log")), b"4".ljust(100))

    found = list(read_all(bus, "flows"))

    assert numbers(found) == [0, 1, 2, 3, 5, 6, 7, 8]
    (letter,) = read_all(bus, "dlq")
    assert letter.key == b"flows/0/4"


def test_a_frozen_broker_is_waited_for(own: brokers.Brokers, bus: Kafka) -> None:
    """It holds its connections and says nothing, longer than a request may take; then it goes on."""
    writer = Writer(bus, pause_s=0.01)
    time.sleep(1)
    own.stop(1)
    time.sleep(6)
    own.go_on(1)
    time.sleep(0.5)
    writer.finish()

    assert writer.is_flushed
    assert numbers(list(read_all(bus, "flows"))) == list(range(writer.sent))


def test_after_the_leaders_death_reading_and_writing_go_on_in_time(cluster: brokers.Brokers) -> None:
    """The leader is killed under 50 messages a second, then the next one freezes: nothing lost, nothing doubled."""
    settings = Kafka(tuple(cluster.servers.split(",")), partitions=1)
    assert "3 copies" in make_topics(settings)[0]
    arrived: list[tuple[float, int]] = []
    stop = threading.Event()
    reader = threading.Thread(target=_read, args=(settings, arrived, stop))
    writer = Writer(settings, pause_s=0.02)
    reader.start()
    _wait(lambda: len(arrived) > 50)
    flows = settings.topic("flows")

    killed = cluster.leader(flows)
    cluster.kill(killed)
    after_kill = _pauses(writer, arrived)
    cluster.restart(killed)
    _wait(lambda: len(cluster.in_sync(flows)) == 3)
    frozen = cluster.leader(flows)
    cluster.stop(frozen)
    after_freeze = _pauses(writer, arrived)
    cluster.go_on(frozen)
    writer.finish()
    _wait(lambda: len(arrived) >= writer.sent)
    stop.set()
    reader.join()

    print(f"without an answer: {after_kill:.1f} s after a kill, {after_freeze:.1f} s after a freeze")
    assert writer.is_flushed
    assert [number for _, number in arrived] == list(range(writer.sent))
    assert after_kill < LEADER_PAUSE_S
    assert after_freeze < FREEZE_PAUSE_S


def _pauses(writer: Writer, arrived: list[tuple[float, int]]) -> float:
    """Waits until reading and writing go on; the longer of their two silences."""
    since = time.monotonic() - 0.5
    before = len(arrived)
    _wait(lambda: len(arrived) > before + 100)
    written = [moment for moment in list(writer.acknowledged.values()) if moment > since]
    read = [moment for moment, _ in list(arrived) if moment > since]
    return max(_longest_gap(written), _longest_gap(read))


def _longest_gap(moments: list[float]) -> float:
    return max(after - before for before, after in pairwise(sorted(moments)))


def _read(settings: Kafka, arrived: list[tuple[float, int]], stop: threading.Event) -> None:
    consumer = Consumer(settings, "g", ["flows"])
    while not stop.is_set():
        for message in consumer.poll(0.1):
            arrived.append((time.monotonic(), int(message.value or b"")))
        consumer.commit(consumer.positions())
    consumer.close()


def _wait(until: Callable[[], bool], at_most_s: float = 30.0) -> None:
    end = time.monotonic() + at_most_s
    while not until() and time.monotonic() < end:
        time.sleep(0.1)
    assert until()


def _flip(log: Path, what: bytes) -> None:
    """Changes one bit within the first place where this stands, under the broker's feet."""
    with log.open("r+b") as file:
        place = file.read().index(what) + 50
        file.seek(place)
        file.write(bytes([what[50] ^ 1]))
