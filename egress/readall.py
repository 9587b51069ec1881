"""Everything that a topic holds at one moment: how state is found again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from egress.config import Kafka
from egress.errors import BusAway
from egress.kafkareader import PAUSE_S, Consumer
from egress.messages import Message, Partition

PATIENCE_S = 30.0
"""How long it waits for a broker: longer than an election, shorter than a person."""


def read_all(settings: Kafka, topic: str, partitions: Iterable[int] | None = None, start: int = 0) -> Iterator[Message]:
    """Everything that is in a topic now, oldest first within each partition. Raises BusAway if no broker answers.

    From offset `start` on, or from the oldest that is left.
    """

    def begin(found: Sequence[Partition]) -> None:
        for at in found if start else ():
            consumer.seek(*at, start)

    consumer = Consumer(settings, "", [topic], begin)
    if partitions is not None:
        consumer.assign((topic, number) for number in partitions)
    try:
        ends = _ends_soon(consumer)
        while any(consumer.positions().get(at, 0) < end for at, end in ends.items()):
            for message in consumer.poll(PAUSE_S):
                if message.offset < ends.get((message.topic, message.partition), 0):  # 0: empty when we began
                    yield message
    finally:
        consumer.close()


def _ends_soon(consumer: Consumer) -> dict[Partition, int]:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            begins, ends = consumer.begins(), consumer.ends()
        except BusAway:
            if time.monotonic() > until:
                raise
            continue
        return {at: end for at, end in ends.items() if end > begins[at]}
