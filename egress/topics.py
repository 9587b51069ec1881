"""The topics of the bus, declared once, and made or brought in line by `egress init --kafka`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from egress.config import Kafka
from egress.errors import BusAway, BusError
from egress.growth import LEAD_US, Growth
from egress.kafkaclient import MAX_MESSAGE_BYTES, explain, made
from egress.kafkagrowth import TOPIC as GROWTH
from egress.kafkagrowth import read_growth, write_growth

DAY_MS = 86_400_000
CONNECT_S = 5.0
DEAD_DAYS = 30
"""People look at dead letters days later."""


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    is_split: bool
    """True: as many partitions as the flows; else one, so that there is one order."""
    keeps: Callable[[Kafka], Mapping[str, str]]
    """What is kept, and for how long."""


def _for_retention(settings: Kafka) -> Mapping[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(settings.retention // 1000)}


def _for_ever(settings: Kafka) -> Mapping[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": "-1"}


def _newest_of_each_key(settings: Kafka) -> Mapping[str, str]:
    # A segment is only tidied when it is closed, and with it memory and time of whoever starts.
    return {"cleanup.policy": "compact", "segment.ms": "3600000", "min.cleanable.dirty.ratio": "0.2"}


def _for_people(settings: Kafka) -> Mapping[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(DEAD_DAYS * DAY_MS)}


TOPICS = (
    Topic(GROWTH, False, _for_ever),
    Topic("flows", True, _for_retention),
    Topic("heartbeats", True, _for_retention),
    Topic("sums", False, _for_retention),
    Topic("findings", False, _newest_of_each_key),
    Topic("lifecycle", False, _for_ever),
    Topic("state", True, _newest_of_each_key),
    Topic("dlq", False, _for_people),
)


def make_topics(settings: Kafka) -> list[str]:
    """Makes what is missing and brings the rest in line; says of each topic what was done. Raises BusError.

    Doing it again changes nothing. Partitions grow and never shrink, and copies stay as they are.
    """
    from kafka.errors import KafkaError

    admin = _admin(settings)
    try:
        return list(_made(admin, settings))
    except KafkaError as error:
        raise explain(error, settings) from error
    finally:
        admin.close()


def _admin(settings: Kafka) -> Any:
    """Tries for long only where a broker may be starting; what is refused for good is said at once."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    failure: BusError | None = None
    for patience_s in (1.0, CONNECT_S):
        try:
            return made(KafkaAdminClient, settings, patience_s)
        except KafkaError as error:
            failure = explain(error, settings)
        if not isinstance(failure, BusAway):
            break
    assert failure is not None
    raise failure


def _made(admin: Any, settings: Kafka) -> Iterator[str]:
    brokers = len(admin.describe_cluster()["brokers"])
    copies = settings.replication or (3 if brokers >= 3 else 1)
    if copies > brokers:
        raise BusError(f"kafka.replication is {copies}, but the cluster has {brokers} brokers; start more, or lower it")
    present = set(admin.list_topics())
    wanted = {settings.topic(topic.name): topic for topic in TOPICS}
    there = {found["name"]: found for found in admin.describe_topics(sorted(present & set(wanted)))}
    _refuse_to_shrink(there, wanted, settings)
    growth, flows = settings.topic(GROWTH), there.get(settings.topic("flows"))
    before = len(flows["partitions"]) if flows else settings.partitions
    known = read_growth(settings, before) if growth in there else None
    for name, topic in wanted.items():
        if name in there:
            yield _changed(admin, settings, topic, there[name]["partitions"])
        else:
            yield _created(admin, settings, topic, copies)
        if name == growth and known is None:
            # before there is more of it: whoever is killed further down has changed nothing for senders
            known = Growth(before)
            write_growth(settings, before)
    if known is not None and known.last < settings.partitions:
        write_growth(settings, settings.partitions)
        yield f"{growth}: what begins {LEAD_US // 60_000_000} minutes from now or later goes to {settings.partitions}"


def _created(admin: Any, settings: Kafka, topic: Topic, copies: int) -> str:
    name, count = settings.topic(topic.name), _partitions(topic, settings)
    made = {"num_partitions": count, "replication_factor": copies, "configs": _configs(topic, settings, copies)}
    admin.create_topics({name: made}, wait_for_metadata=True)
    return f"{name}: made, {_counted(count, 'partition')}, {_counted(copies, 'copy', 'copies')}"


def _changed(admin: Any, settings: Kafka, topic: Topic, partitions: list[Any]) -> str:
    name, count = settings.topic(topic.name), _partitions(topic, settings)
    copies = min(len(partition["replica_nodes"]) for partition in partitions)
    done = []
    if len(partitions) < count:
        admin.create_partitions({name: count})
        done.append(f"partitions {len(partitions)} -> {count}")
    done.extend(_reconfigured(admin, name, _configs(topic, settings, copies)))
    if settings.replication and settings.replication != copies:
        done.append(f"copies stay {copies}, not {settings.replication}: reassign partitions with Kafka's own tools")
    return f"{name}: {', '.join(done)}" if done else f"{name}: as it should be"


def _reconfigured(admin: Any, name: str, wanted: Mapping[str, str]) -> Iterator[str]:
    from kafka.admin import ConfigResource, ConfigResourceType

    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    values = {key: str(entry["value"]) for key, entry in found["topic"][name].items()}
    wrong = {key: value for key, value in wanted.items() if values.get(key) != value}
    if wrong:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wrong)], incremental=True)
    for key, value in wrong.items():
        yield f"{key} {values.get(key)} -> {value}"


def _refuse_to_shrink(there: Mapping[str, Any], wanted: Mapping[str, Topic], settings: Kafka) -> None:
    for name, found in there.items():
        count = len(found["partitions"])
        if count > _partitions(wanted[name], settings):
            raise BusError(
                f"{name} has {count} partitions, and kafka.partitions is {settings.partitions}: partitions cannot be "
                f"taken away; set kafka.partitions = {count}, or use another kafka.prefix. Nothing was changed"
            )


def _partitions(topic: Topic, settings: Kafka) -> int:
    return settings.partitions if topic.is_split else 1


def _configs(topic: Topic, settings: Kafka, copies: int) -> dict[str, str]:
    return {
        "min.insync.replicas": str(max(1, copies - 1)),
        "max.message.bytes": str(MAX_MESSAGE_BYTES + 48_588),  # with what a batch adds: 1 MiB and its head
        "compression.type": "producer",  # our values are compressed; anything else would make the broker unpack bombs
        "message.timestamp.type": "LogAppendTime",  # retention goes by the broker's clock, not by a sensor's of 2106
        "unclean.leader.election.enable": "false",
        **topic.keeps(settings),
    }


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
