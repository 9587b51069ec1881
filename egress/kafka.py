"""The bus: producer and consumer with bounds, and dead letters. What a message means is not known here.

Topics go by their short names here (`flows`); the configured prefix and version are added on the way. The client
library is imported when a client is made. One thread uses one producer or consumer.
"""

from __future__ import annotations

from egress.deadletters import DeadLetters
from egress.errors import BusAway, BusError
from egress.kafkaclient import MAX_MESSAGE_BYTES, settings_of
from egress.kafkareader import Consumer
from egress.kafkawriter import Producer
from egress.messages import Message, Partition
from egress.readall import read_all
from egress.topics import make_topics

__all__ = [
    "MAX_MESSAGE_BYTES",
    "BusAway",
    "BusError",
    "Consumer",
    "DeadLetters",
    "Message",
    "Partition",
    "Producer",
    "make_topics",
    "read_all",
    "settings_of",
]
