"""A service that begins while no broker answers waits for one, as it does whenever they are gone later."""

from __future__ import annotations

from itertools import chain, repeat

from egress.config import Kafka
from egress.errors import BusAway
from egress.kafkareader import Consumer
from egress.kafkatrial import diagnose
from egress.service import Service

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Between two tries; the last one is repeated."""


def connected(consumer: Consumer, settings: Kafka, running: Service, is_patient: bool) -> bool:
    """False: asked to stop while waiting. Raises BusError for what will not get better by itself.

    Who is not patient is told at once that no broker answers, by BusAway: whoever runs a command until it is done.
    """
    said = ""
    for pause in chain(PAUSES_S, repeat(PAUSES_S[-1])):
        if consumer.connect():
            break
        failure = diagnose(settings)
        if not is_patient or not isinstance(failure, BusAway):
            raise failure
        if str(failure) != said:
            said = str(failure)
            running.log.warning("kafka_away", why=said, hint="it is tried again until one answers")
        if running.wait(pause):
            return False
    if said:
        running.log.info("kafka_back")
    return True
