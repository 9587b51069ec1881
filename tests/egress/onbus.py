"""Flows messages on a real bus, in their simplest form."""

from __future__ import annotations

import time

from egress.config import Kafka
from egress.kafka import Consumer, Message, Producer


def sent(settings: Kafka, values: int, partition: int | None = None, size: int = 10) -> list[tuple[int, int]]:
    """So many flows messages, acknowledged: their (partition, offset)."""
    producer = Producer(settings)
    places: list[tuple[int, int]] = []
    for number in range(values):
        value = str(number).encode().ljust(size)
        producer.send(
            "flows", b"host-%d" % number, value, [("seq", b"%d" % number)], partition, lambda *at: places.append(at)
        )
    assert producer.flush(10)
    producer.close()
    return places


def polled(consumer: Consumer, messages: int, within_s: float = 15.0, most: int = 500) -> list[Message]:
    """So many messages, or what came in time, at most so many at once."""
    found: list[Message] = []
    until = time.monotonic() + within_s
    while len(found) < messages and time.monotonic() < until:
        found += consumer.poll(0.2, most)
    return found
