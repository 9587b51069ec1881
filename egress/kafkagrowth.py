"""The topic that remembers how many partitions there were when: a message a step, with the broker's time, and pins."""

from __future__ import annotations

import time
from contextlib import closing

from egress.config import Kafka
from egress.errors import BusAway
from egress.growth import STEP, Growth, growth_of
from egress.kafkareader import PAUSE_S, Consumer
from egress.kafkawriter import Producer
from egress.messages import Message

TOPIC = "growth"
PATIENCE_S = 10.0


def read_growth(settings: Kafka, most: int) -> Growth | None:
    """None where nobody has written it; there are `most` partitions of flows.

    Raises TopicMissing where there is no such topic, or not for us; BusAway if nobody answers.
    """
    until = time.monotonic() + PATIENCE_S
    found: list[Message] = []
    with closing(Consumer(settings, "", [TOPIC])) as consumer:
        end = consumer.ends()[TOPIC, 0]
        while consumer.positions().get((TOPIC, 0), 0) < end:
            if time.monotonic() > until:
                raise _away(settings)
            found += consumer.poll(PAUSE_S)
    return growth_of(found, most)


def write_growth(settings: Kafka, count: int, key: bytes = STEP) -> None:
    """A step to so many partitions, or the pin of an epoch. Raises BusAway where no broker takes it."""
    with closing(Producer(settings)) as producer:
        is_sent = producer.connect() and producer.offer(TOPIC, key, b"%d" % count, partition=0)
        if not is_sent or not producer.flush(PATIENCE_S):
            raise _away(settings)


def _away(settings: Kafka) -> BusAway:
    return BusAway(f"{', '.join(settings.servers)}: no broker answers now")
