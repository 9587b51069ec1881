"""`egress store`: from the bus into ClickHouse, every row once (docs/decisions/0017).

Offsets are committed after what they stand for was written. Before flows are written, where their batch ends is left as
a note with the offset where it begins: whoever takes over forms the same batch again, and ClickHouse knows it by its
token. Everything else is grow-only and may be written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from egress import ddl, storerows
from egress.config import Kafka
from egress.errors import BusAway, StoreError
from egress.heartbeats import HEARTBEATS
from egress.intake import TOPICS, Intake, Place, Round
from egress.kafka import Consumer, DeadLetters, Message, Producer
from egress.kafkawait import connected
from egress.service import Service
from egress.store import Store, write, write_once

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

POLL_S = 0.05
REST_S = 0.5
"""How often heartbeats, sums and findings are looked for while flows keep coming."""
MOST_MESSAGES = 16
"""Taken at once: 55 MB of rows, where messages are full."""
FLUSH_S = 5.0
"""Rows wait no longer than this: ClickHouse likes few large inserts, people like to see what happens."""
MOST_WAITING_BYTES = 320 << 20
"""Beyond this reading pauses, until half of it is written."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LONGEST_BUS_S = 2.0
"""A group is rearranged within a second or two."""
STOP_S = 20.0
"""What was read is still written when asked to stop, unless that takes longer; it is read again then."""
LAG_S = 10.0


def groups(settings: Kafka) -> dict[str, tuple[str, ...]]:
    """Consumer groups, each with what it reads; named after the prefix, as topics are.

    The flows have one of their own: assignors even out numbers of partitions, and would give all flows to one member
    and everything else to another.
    """
    return {f"{settings.prefix}.store": ("flows",), f"{settings.prefix}.store-rest": TOPICS[1:]}


def store(settings: Kafka, kept: Store, running: Service, member: str = "", until_idle_s: float | None = None) -> None:
    """Runs until asked to stop, or until nothing came for so long.

    Raises StoreError where the store cannot be used, BusError where the bus refuses for good, or, with `until_idle_s`,
    does not answer at the start.
    """
    kept.bind_stream()
    with closing(Producer(settings)) as producer:
        Storing(settings, kept, running, producer, member).run(until_idle_s)


class Storing:
    """Reads, writes and commits. All of it on one thread but the writing, which is the store's."""

    def __init__(self, settings: Kafka, kept: Store, running: Service, producer: Producer, member: str) -> None:
        self._settings = settings
        self._kept = kept
        self._running = running
        self._metrics = running.metrics
        self._producer = producer
        self._dead = DeadLetters(producer, "store")
        self._intake = Intake(running.metrics, self._refuse)
        self._consumers = {
            topics: Consumer(settings, group, topics, self._assigned, self._drop, member, dead_letters=self._dead)
            for group, topics in groups(settings).items()
        }
        self._round: Round | None = None
        self._writing: Future[float] | None = None
        self._owed: dict[Place, tuple[int, str]] = {}
        """Offsets and notes to be committed."""
        self._to_load: set[Place] = set()
        """Partitions that were assigned and that nobody reads before it is known from where."""
        self._is_paused = False
        self._since: float | None = None
        """When the oldest of what waits was read."""
        self._retry_at = 0.0
        self._wait_s = FIRST_WAIT_S
        self._lag_at = 0.0
        self._rest_at = 0.0

    def run(self, until_idle_s: float | None) -> None:
        with ExitStack() as stack:
            for consumer in self._consumers.values():
                stack.enter_context(closing(consumer))
                if not connected(consumer, self._settings, self._running, until_idle_s is None):
                    return
            self._heard_at = self._running.clock()
            while not self._running.stop.is_set() and not self._is_idle(until_idle_s):
                self._load()
                self._read()
                self._move(self._is_due(), self._is_old())
                self._balance()
                self._show()
            self._finish()

    def _read(self) -> None:
        flows, rest = self._consumers.values()
        found = flows.poll(POLL_S, MOST_MESSAGES)
        if not found or self._running.clock() >= self._rest_at:
            self._rest_at = self._running.clock() + REST_S
            found += rest.poll(0.0 if found else POLL_S, MOST_MESSAGES)
        for message in found:
            self._intake.take(message)
        if found or self._to_load or self._round is not None or self._is_paused:
            self._heard_at = self._running.clock()
        if self._since is None and not self._intake.is_empty:
            self._since = self._running.clock()

    def _is_idle(self, until_idle_s: float | None) -> bool:
        if until_idle_s is None or self._running.clock() - self._heard_at < until_idle_s:
            return False
        return all(consumer.has_read_all() for consumer in self._consumers.values())

    def _is_old(self) -> bool:
        return self._since is not None and self._running.clock() - self._since >= FLUSH_S

    def _is_due(self) -> bool:
        return self._intake.is_ripe or self._is_old()

    def _move(self, is_due: bool, is_all: bool = True) -> None:
        """One step towards what was read being written and committed, whichever is next."""
        if self._writing is not None and self._writing.done():
            self._end(self._writing)
        if self._round is None and is_due:
            self._round = self._intake.round(is_all)
            if is_all or self._intake.is_empty:
                self._since = None if self._intake.is_empty else self._running.clock()
            self._owed |= self._round.intents if self._round else {}
        if self._owed and self._writing is None:
            self._commit()
        if self._round is not None and self._writing is None and not self._owed and self._may_try():
            self._writing = self._kept.run(_writer(self._round, self._running))

    def _end(self, writing: Future[float]) -> None:
        self._writing = None
        made = self._round
        assert made is not None
        try:
            seconds = writing.result()
        except StoreError as error:
            self._metrics.add("store_retries")
            self._fail("store_failed", error)
            return
        self._round = None
        self._wait_s = FIRST_WAIT_S
        self._owed |= {place: (offset, "") for place, offset in made.offsets.items() if self._intake.owns(place)}
        self._metrics.add("stored_batches")
        self._metrics.add("store_busy_seconds", seconds)
        for table, rows in made.rows.items():
            self._metrics.add("stored_rows", rows, table=table)

    def _commit(self) -> None:
        if not self._may_try():
            return
        if not self._producer.flush(FLUSH_S):
            self._fail("commit_failed", BusAway("dead letters are not acknowledged yet"))
        elif not all(self._committed(topics, consumer) for topics, consumer in self._consumers.items()):
            self._fail("commit_failed", BusAway("the group is being rearranged, or no broker answers"))
        else:
            self._owed = {}

    def _committed(self, topics: Sequence[str], consumer: Consumer) -> bool:
        owed = {place: owed for place, owed in self._owed.items() if place[0] in topics}
        offsets = {place: offset for place, (offset, _) in owed.items()}
        return not owed or consumer.commit(offsets, {place: note for place, (_, note) in owed.items()})

    def _may_try(self) -> bool:
        return self._running.clock() >= self._retry_at

    def _fail(self, event: str, error: Exception) -> None:
        """Waits twice as long each time; nothing is lost by it, what was read waits and then reading does."""
        self._running.log.warning(event, why=str(error), retry_s=self._wait_s)
        self._retry_at = self._running.clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S if isinstance(error, StoreError) else LONGEST_BUS_S)

    def _balance(self) -> None:
        """Reading stops where writing does not keep up; polling goes on, so that the group does not miss us."""
        waiting = self._intake.bytes
        if not self._is_paused and waiting > MOST_WAITING_BYTES:
            self._is_paused = True
            self._each(Consumer.pause)
            self._running.log.warning("paused", waiting_rows=self._intake.rows)
        elif self._is_paused and waiting < MOST_WAITING_BYTES // 2:
            self._is_paused = False
            self._each(Consumer.resume)
            self._running.log.info("resumed")

    def _each(self, act: Callable[[Consumer, Iterable[Place]], None]) -> None:
        for consumer in self._consumers.values():
            act(consumer, consumer.assigned - self._to_load)

    def _show(self) -> None:
        self._metrics.set("waiting_rows", self._intake.rows)
        self._metrics.set("waiting_bytes", self._intake.bytes)
        self._metrics.set("is_paused", int(self._is_paused))
        if self._running.clock() < self._lag_at:
            return
        self._lag_at = self._running.clock() + LAG_S
        try:
            ends = [found for consumer in self._consumers.values() for found in consumer.ends().items()]
        except BusAway:
            return
        for (topic, partition), end in ends:
            if not self._intake.owns((topic, partition)):
                continue
            behind = max(end - self._intake.stored((topic, partition)), 0)
            self._metrics.set("lag_messages", behind, topic=topic, partition=str(partition))

    def _assigned(self, places: Sequence[Place]) -> None:
        """Partitions are ours, once we know where to go on in them."""
        for consumer in self._consumers.values():
            consumer.pause(places)
        self._to_load |= set(places)

    def _load(self) -> None:
        """Each new partition from what was committed last, with the intent that was left there."""
        if not self._to_load or not self._may_try():
            return
        for topics, consumer in self._consumers.items():
            places = sorted(place for place in self._to_load if place[0] in topics)
            try:
                starts, noted = consumer.begins(places), consumer.noted(places)
            except BusAway as error:
                self._fail("not_loaded", error)
                return
            for place in places:
                offset, note = noted.get(place, (0, ""))
                self._intake.begin(place, max(offset, starts[place]), note)
                consumer.seek(*place, max(offset, starts[place]))
            self._to_load -= set(places)
            self._say_partitions("assigned", places)
            if not self._is_paused:
                consumer.resume(places)

    def _drop(self, places: Sequence[Place]) -> None:
        self._to_load -= set(places)
        for place in places:
            self._intake.drop(place)
            self._owed.pop(place, None)
            self._metrics.forget("lag_messages", topic=place[0], partition=str(place[1]))
        if self._round is not None:
            self._round = self._round.without(places)
        self._say_partitions("revoked", places)

    def _say_partitions(self, event: str, places: Sequence[Place]) -> None:
        if not places:
            return
        names = ",".join(f"{topic}/{partition}" for topic, partition in sorted(places))
        self._running.log.info(event, partitions=names)
        for topic in TOPICS:
            self._metrics.set("partitions", sum(place[0] == topic for place in self._intake.places), topic=topic)

    def _refuse(self, message: Message, reason: str, what: str) -> None:
        where = f"{message.topic}/{message.partition}/{message.offset}"
        self._running.log.warning("dead_letter", where=where, reason=str(reason), what=what)
        self._dead.put(message, reason, what)

    def _finish(self) -> None:
        """Writes what was read, commits, and leaves what does not get through in time to be read again."""
        deadline = self._running.clock() + STOP_S
        while self._running.clock() < deadline and self._wait_s == FIRST_WAIT_S:
            self._move(True)
            if self._round is None and not self._owed:
                return  # what is left has no end yet, and is read again with it
            if self._writing is not None:
                wait((self._writing,), timeout=POLL_S)
        self._running.log.warning("left_unwritten", rows=self._intake.rows + sum(_rows(self._round)))


def _writer(made: Round, running: Service) -> Callable[[Client], float]:
    """Writes a round; may be called again for the same one, whatever became of it before. Gives seconds."""

    def put(client: Client) -> float:
        began = running.clock()
        for batch in made.batches:
            for month, flows in _by_partition(batch.flows):
                write_once(client, "flows_parts", flows, f"{batch.token}-{month}")
        write(client, "heartbeats_parts", made.heartbeats, HEARTBEATS)
        write(client, "ledger_parts", made.cells, ddl.LEDGER)
        write(client, "findings_parts", storerows.of_said(made.said, storerows.STREAM), ddl.FINDINGS)
        return running.clock() - began

    return put


def _by_partition(flows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """By partition of the table, in order: an insert into two of them could be half done."""
    months = pl.DataFrame({"start": pl.from_arrow(flows["start"])}).select(ddl.month("start")).to_series()
    if months.n_unique() == 1:
        yield int(months[0]), flows
        return
    for month in sorted(months.unique().to_list()):
        yield month, flows.filter((months == month).to_arrow())


def _rows(made: Round | None) -> Sequence[int]:
    return list(made.rows.values()) if made else []
