"""`egress detect`: from flows on the bus to findings on the bus, without a database (docs/decisions/0016).

The members of one group share the partitions of flows, and one of them has the sums too: it judges. Nothing is
concluded from when things were read: sums grow only, and states of them join, so whoever takes over may read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from egress.aside import Aside
from egress.config import Config, Kafka
from egress.contracts import Level
from egress.errors import BusAway
from egress.inventory import Inventory
from egress.judging import Changes
from egress.kafka import Consumer, DeadLetters, Partition, Producer
from egress.kafkawait import connected
from egress.outlet import Outlet
from egress.service import Service
from egress.summing import Summing
from egress.verdicts import SUMS, Verdicts

TOPICS = ("flows", "sums")
POLL_S = 0.1
MOST_MESSAGES = 200
RETRY_S = 1.0
LAG_S = 5.0


def group(settings: Kafka) -> str:
    """The consumer group's name: one for each prefix, as with topics."""
    return f"{settings.prefix}.detect"


def detect(
    config: Config, settings: Kafka, running: Service, member: str = "", until_idle_s: float | None = None
) -> Level | None:
    """Runs until asked to stop, or until there was nothing to do for so long; gives the worst finding that holds.

    None without any, or where another member judges. Raises BusError where the bus refuses for good, or, with
    `until_idle_s`, does not answer at the start.
    """
    with closing(Producer(settings)) as producer:
        return Detecting(config, settings, running, producer, member).run(until_idle_s)


class Detecting:
    """One member of the group: all but judging happens on one thread, which never waits for that."""

    def __init__(self, config: Config, settings: Kafka, running: Service, producer: Producer, member: str) -> None:
        self._config = config
        self._settings = settings
        self._running = running
        self._metrics = running.metrics
        self._outlet = Outlet(producer, running)
        self._dead = DeadLetters(producer, "detect")
        self._summing = Summing(config, settings, Inventory(config), running, self._outlet, self._dead)
        self._verdicts: Verdicts | None = None
        self._aside: Aside[Changes] = Aside("egress-judging")
        self._consumer = Consumer(
            settings, group(settings), TOPICS, self._assigned, self._revoked, member, dead_letters=self._dead
        )
        self._to_load: list[Partition] = []
        self._load_at = 0.0
        self._show_at = 0.0
        self._busy_at = running.clock()

    def run(self, until_idle_s: float | None = None) -> Level | None:
        with closing(self._consumer), closing(self._summing), closing(self._aside):
            if not connected(self._consumer, self._settings, self._running, until_idle_s is None):
                return None
            while not self._running.stop.is_set() and not self._is_idle(until_idle_s):
                self._turn()
            worst = self._worst()
            self._end()
            return worst

    def _turn(self) -> None:
        """One round: read, sum, judge, and what is due from time to time."""
        self._load()
        messages = self._consumer.poll(POLL_S, MOST_MESSAGES)
        self._summing.take([message for message in messages if message.topic == "flows"])
        self._summing.publish()
        self._summing.save(self._consumer)
        read = len(messages)
        if self._verdicts is not None and SUMS not in self._to_load:
            self._verdicts.take([message for message in messages if message.topic == "sums"])
            read += self._verdicts.read_others()
            self._verdicts.judge()
            self._verdicts.save()
        if read:
            self._busy_at = self._running.clock()
        self._show()

    def _load(self) -> None:
        """Takes up one of the partitions that were assigned; the others go on meanwhile."""
        if not self._to_load or self._running.clock() < self._load_at:
            return
        at = self._to_load[0]
        try:
            if at == SUMS:
                self._judge_from_now_on()
            else:
                self._summing.load(at[1], self._consumer)
        except BusAway as problem:
            self._running.log.warning("not_loaded", partition=f"{at[0]}/{at[1]}", why=str(problem), retry_s=RETRY_S)
            self._load_at = self._running.clock() + RETRY_S
            return
        self._to_load.pop(0)
        self._consumer.resume([at])
        self._busy_at = self._running.clock()

    def _judge_from_now_on(self) -> None:
        self._drop_verdicts()
        self._verdicts = Verdicts(self._config, self._settings, self._running, self._outlet, self._dead, self._aside)
        self._verdicts.load(self._consumer)

    def _drop_verdicts(self) -> None:
        if self._verdicts is not None:
            self._verdicts.close()
            self._verdicts = None

    def _assigned(self, partitions: Sequence[Partition]) -> None:
        self._consumer.pause(partitions)  # until they are loaded
        self._to_load = sorted({*self._to_load, *partitions})
        self._say("assigned", partitions)

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        for at in partitions:
            if at == SUMS:
                self._drop_verdicts()
            elif at not in self._to_load:
                self._summing.forget(at[1])
        self._to_load = [at for at in self._to_load if at not in partitions]
        self._say("revoked", partitions)

    def _is_idle(self, seconds: float | None) -> bool:
        """For so long nothing came, everything that lies on the bus was read, summed, judged and said."""
        if seconds is None or self._running.clock() - self._busy_at < seconds:
            return False
        if self._to_load or self._summing.has_news or not self._outlet.is_empty:
            return False
        if self._verdicts is not None and not self._verdicts.is_idle:
            return False
        return self._consumer.has_read_all()

    def _worst(self) -> Level | None:
        return max(self._verdicts.levels.values(), default=None) if self._verdicts is not None else None

    def _end(self) -> None:
        """Says what is left to say, writes down where it is, and leaves."""
        try:
            self._summing.end(self._consumer)
            if self._verdicts is not None and SUMS not in self._to_load:
                self._verdicts.end()
            self._outlet.flush()
        except BusAway as problem:
            self._running.log.warning("left_unsaid", why=str(problem))
        self._drop_verdicts()

    def _say(self, event: str, partitions: Sequence[Partition]) -> None:
        self._running.log.info(event, partitions=",".join(f"{topic}/{number}" for topic, number in sorted(partitions)))
        for topic in TOPICS:
            self._metrics.set("partitions", sum(at[0] == topic for at in self._consumer.assigned), topic=topic)

    def _show(self) -> None:
        if self._running.clock() < self._show_at:
            return
        self._show_at = self._running.clock() + LAG_S
        try:
            ends = self._consumer.ends()
        except BusAway:
            return
        positions = self._consumer.positions()
        for (topic, partition), end in ends.items():
            behind = max(0, end - positions.get((topic, partition), 0))
            self._metrics.set("lag_messages", behind, topic=topic, partition=str(partition))
