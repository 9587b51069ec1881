"""Looks at the bus for `egress status`: offsets of all topics and groups, and the newest messages of some."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from egress import wire
from egress.config import Config, Kafka
from egress.kafka import Consumer, Message
from egress.kafkaclient import explain, made
from egress.kafkatrial import diagnose
from egress.status import DeadLetter, Look, Snapshot, Status, Tails, judged
from egress.topics import TOPICS

CONNECT_S = 10.0
TAIL_S = 15.0
"""Whoever asks waits no longer than this for the newest messages."""
MOST_MESSAGES = {"flows": 1_000, "heartbeats": 20_000, "state": 400, "dlq": 20}
"""The newest of each topic that are looked at, over all its partitions: bounds what is read."""
LEAST_MESSAGES = 10
"""Of each partition, however many there are."""
SHOWN_LETTERS = 10
NAMES = tuple(topic.name for topic in TOPICS)

Clock = Callable[[], int]
"""UTC microseconds, now."""


def status(config: Config, settings: Kafka, clock: Clock, seconds: float) -> Status:
    """Looks twice, so many seconds apart. Raises BusError where no broker answers, or the topics are not there."""
    readers = groups(settings)
    with closing(_connected(settings, NAMES)) as consumer, closing(_admin(settings)) as admin:
        first = _look(settings, consumer, admin, readers, clock)
        began = time.monotonic()
        tails = _tails(settings, first)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        second = _look(settings, consumer, admin, readers, clock)
    return judged(first, second, tails, readers, (host.id for host in config.fleet.hosts))


def groups(settings: Kafka) -> dict[str, Sequence[str]]:
    """All consumer groups, each with its topics."""
    from egress import detecting, storing

    return {detecting.group(settings): detecting.TOPICS, **storing.groups(settings)}


def _connected(settings: Kafka, topics: Sequence[str]) -> Consumer:
    consumer = Consumer(settings, "", topics)
    if not consumer.connect(CONNECT_S):
        raise diagnose(settings)
    return consumer


def _admin(settings: Kafka) -> Any:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        return made(KafkaAdminClient, settings, CONNECT_S)
    except KafkaError as error:
        raise explain(error, settings) from error


def _look(settings: Kafka, consumer: Consumer, admin: Any, readers: Mapping[str, Sequence[str]], clock: Clock) -> Look:
    from kafka.errors import KafkaError

    names = {settings.topic(name): name for name in NAMES}
    try:
        committed = {group: admin.list_group_offsets(group)[group] for group in readers}
        members = {group: len(found["members"]) for group, found in admin.describe_groups([*readers]).items()}
    except KafkaError as error:
        raise explain(error, settings) from error
    places = {
        group: {(names[at.topic], at.partition): one.offset for at, one in found.items() if at.topic in names}
        for group, found in committed.items()
    }
    return Look(clock(), consumer.ends(), consumer.begins(), places, members)


def _tails(settings: Kafka, look: Look) -> Tails:
    hosts: dict[str, int] = {}
    newest: dict[tuple[str, str, str], Message] = {}
    snapshots: dict[str, Snapshot] = {}
    letters: list[DeadLetter] = []
    for message in _newest(settings, look):
        if message.topic in ("flows", "heartbeats"):
            _keep_newest(newest, message)
        elif message.topic == "state" and (task := _task(message)):
            snapshots[task] = Snapshot(task, message.written_us)
        elif message.topic == "dlq":
            letters.append(_letter(message))
    for message in newest.values():
        _see(hosts, message)
    letters.sort(key=lambda letter: -letter.written_us)
    at = ("dlq", 0)
    count = look.ends.get(at, 0) - look.begins.get(at, 0)
    return Tails(hosts, [snapshots[task] for task in sorted(snapshots)], letters[:SHOWN_LETTERS], count)


def _newest(settings: Kafka, look: Look) -> Iterator[Message]:
    """The last messages of each partition, as many as are looked at; those that come while reading are left out."""
    topics = tuple(MOST_MESSAGES)
    ends = {at: end for at, end in look.ends.items() if at[0] in topics and end > look.begins[at]}
    split = {topic: sum(at[0] == topic for at in ends) for topic in topics}

    until = time.monotonic() + TAIL_S
    with closing(_connected(settings, topics)) as consumer:
        for at, end in ends.items():
            most = max(MOST_MESSAGES[at[0]] // split[at[0]], LEAST_MESSAGES)
            consumer.seek(*at, max(look.begins[at], end - most))
        while any(consumer.positions().get(at, 0) < end for at, end in ends.items()) and time.monotonic() < until:
            yield from consumer.poll(0.2)


def _keep_newest(newest: dict[tuple[str, str, str], Message], message: Message) -> None:
    """Only one message of each host and sensor is unpacked: the last."""
    try:
        header = wire.read_header(message.headers)
    except wire.WireError:
        return
    newest[message.topic, header.host, header.sensor] = message


def _see(hosts: dict[str, int], message: Message) -> None:
    try:
        header, frame = wire.decode(message.value, message.headers)
    except wire.WireError:
        return
    if header.host and frame.height:
        time_column = "end" if message.topic == "flows" else "time"
        last = int(frame[time_column].dt.epoch("us").max())  # type: ignore[arg-type] # a column of times
        hosts[header.host] = max(hosts.get(header.host, 0), last)


def _task(message: Message) -> str:
    """Whose state the message is a piece of; empty for words about how a task began and ended."""
    name, _, rest = (message.key or b"").decode("utf-8", "replace").partition("/")
    return "" if rest == "run" else name.removesuffix("-next")


def _letter(message: Message) -> DeadLetter:
    try:
        told = json.loads(message.value or b"")
        where = f"{told['topic']}/{told['partition']}/{told['offset']}"
        return DeadLetter(where, str(told["reason"]), str(told["what"]), str(told["service"]), message.written_us)
    except (ValueError, KeyError, TypeError, RecursionError):
        return DeadLetter(
            f"dlq/0/{message.offset}", "unreadable", "not a dead letter of Egress", "", message.written_us
        )
