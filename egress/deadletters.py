"""What could not be read is told to the dead-letter topic by reference: where it is and why, never what it held."""

from __future__ import annotations

import json
from collections import Counter

from egress.kafkawriter import Producer
from egress.messages import Message

MOST_WORDS = 300
"""Of an explanation: it may quote from what was sent."""


class DeadLetters:
    """Where to put what cannot be read; `by_reason` counts it. Whoever wants it back fetches it by its offset."""

    def __init__(self, producer: Producer, service: str = "") -> None:
        self._producer = producer
        self._service = service
        self.by_reason: Counter[str] = Counter()

    def put(self, message: Message, reason: str, what: str, records: int = 1) -> None:
        """`reason` is a word to count by, `what` an explanation for people; `records` follow each other from here."""
        letter = {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "records": records,
            "reason": reason,
            "what": what[:MOST_WORDS],
            "service": self._service,
        }
        self.by_reason[reason] += 1
        key = f"{message.topic}/{message.partition}/{message.offset}"
        self._producer.send("dlq", key.encode(), json.dumps(letter).encode())
