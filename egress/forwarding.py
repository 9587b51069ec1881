"""`egress collect goflow`: from topics that others fill to our own, each row once (docs/decisions/0021).

Where slices end is noted with the group's offset before they are sent, and the offset moves when all of them has
arrived. Who begins after a crash finds both, and sends again what may not have arrived, under the same numbers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from egress import registry
from egress.config import Config, Kafka
from egress.errors import BusAway, BusError, UsageError
from egress.growth import partition_of
from egress.inventory import Inventory
from egress.kafka import Consumer, DeadLetters, Message, Partition, Producer
from egress.kafkawait import connected
from egress.metrics import OTHER, REFUSALS
from egress.offsetcuts import Part, Slice, part_of, promised
from egress.segments import Parcel
from egress.service import Service
from egress.shipper import count_sent
from egress.translating import Refusal, Translated, Translator, rules_of

SENSOR = "goflow2"
POLL_S = 0.05
MOST_MESSAGES = 5_000
"""Taken at once: they are small."""
ROUND_S = 10.0
"""Messages wait no longer than this for others to travel with."""
ROUND_MESSAGES = 65_536
"""So many make a round at once: 30 MB, and as many rows as travel well where 30 hosts share them."""
ROUND_BYTES = 32 << 20
STOP_S = 10.0
"""What is on its way may still arrive when asked to stop."""
RETRY_S = 0.5
LOOK_S = 10.0
MOST_NAME = 200
"""Of a sensor: headers are 253 B at most."""
NOT_OURS = "no_address"
"""ARP and the like, which sFlow samples too: counted, and no dead letters."""
HINTS = {"compressed": "let goflow2 send without -transport.kafka.compression; what is compressed is not opened"}

Step = Literal["note", "send", "settle"]


@dataclass(frozen=True, slots=True)
class Request:
    """What to read, from where, as whom."""

    topics: tuple[str, ...]
    encoding: str
    """`protobuf` or `json`."""
    config: Config
    target: Kafka
    source: tuple[str, ...] = ()
    """Servers of another Kafka that has the topics; everything else is as for `target`."""
    sensor: str = SENSOR
    member: str = ""

    @property
    def group(self) -> str:
        """Of whoever reads these topics for this sensor; named after the prefix, as topics are."""
        return f"{self.target.prefix}.collect-{self.sensor}"


def forward(request: Request, running: Service, until_idle_s: float | None = None) -> None:
    """Runs until asked to stop, or until nothing came for so long and all of it has arrived.

    Raises UsageError for a sensor whose name cannot travel, BusError where one of the two Kafkas refuses for good, or,
    with `until_idle_s`, where the topics' does not answer at the start.
    """
    longest = max(len(_sensor(request.sensor, (topic, 0)).encode()) for topic in request.topics)
    if longest > MOST_NAME:
        raise UsageError(f"--sensor and the topic's name take {longest} B together, at most {MOST_NAME} can travel")
    with closing(Producer(request.target)) as producer:
        Forwarding(request, running, producer).run(until_idle_s)


class Forwarding:
    """Reads, cuts, sends and commits, on one thread, one round after the other."""

    def __init__(self, request: Request, running: Service, producer: Producer) -> None:
        self._request = request
        self._running = running
        self._metrics = running.metrics
        self._producer = producer
        self._dead = DeadLetters(producer, "collect")
        self._told: Counter[str] = Counter()
        self._reader = registry.rows_reader(f"goflow-{request.encoding}")
        self._inventory = Inventory(request.config)
        self._rules = rules_of(request.config, request.encoding, request.sensor)
        # without a prefix topics go by the names that they have
        self._from = replace(request.target, servers=request.source or request.target.servers, prefix="")
        callbacks = (self._assigned, self._drop, request.member)
        self._source = Consumer(self._from, request.group, request.topics, *callbacks, dead_letters=self._dead)
        self._parts: dict[Partition, Part] = {}
        self._translators: dict[Partition, Translator] = {}
        self._to_load: set[Partition] = set()
        """Partitions that were assigned and that nobody reads before it is known from where."""
        self._round: dict[Partition, Slice] = {}
        self._step: Step = "note"
        """What is to be done with the round next."""
        self._outbox: deque[tuple[Partition, Parcel | Refusal]] = deque()
        self._since: float | None = None
        """When the oldest of what waits was read."""
        self._paused: set[Partition] = set()
        self._retry_at = 0.0
        self._look_at = 0.0

    def run(self, until_idle_s: float | None) -> None:
        idle_s = float("inf") if until_idle_s is None else until_idle_s
        with closing(self._source) as source:
            if not connected(source, self._from, self._running, until_idle_s is None):
                return
            busy_at = self._running.clock()
            while not self._running.stop.is_set():
                self._load()
                is_busy = self._read() or self._round or self._to_load or self._paused
                is_idle = not is_busy and self._running.clock() - busy_at >= idle_s and source.has_read_all()
                self._move(is_idle)
                self._balance()
                self._show()
                if is_idle and not self._round and not any(part.waiting for part in self._parts.values()):
                    break
                busy_at = self._running.clock() if is_busy else busy_at
            self._finish()

    def _read(self) -> bool:
        """Whether anything came. Also while a round is on its way: who does not poll loses its partitions."""
        found = self._source.poll(POLL_S, MOST_MESSAGES)
        for message in found:
            part = self._parts.get((message.topic, message.partition))
            if part is not None:
                _must_follow(message, part)
                part.take(message)
        if self._since is None and found:
            self._since = self._running.clock()
        return bool(found)

    def _is_old(self) -> bool:
        return self._since is not None and self._running.clock() - self._since >= ROUND_S

    def _is_full(self) -> bool:
        parts = self._parts.values()
        messages, size = sum(len(part.waiting) for part in parts), sum(part.bytes for part in parts)
        return messages >= ROUND_MESSAGES or size >= ROUND_BYTES

    def _move(self, is_idle: bool = False) -> None:
        """One step of the round; between two of them partitions may go to others."""
        if not self._round:
            self._begin(is_idle or self._is_old() or self._is_full())
        elif self._step == "send":
            self._send()
        elif self._commit():
            if self._step == "note":
                self._step = "send"
            else:
                self._round.clear()

    def _begin(self, is_due: bool) -> None:
        self._step = "note"
        try:
            partitions = self._producer.partitions("flows") if is_due else 0
        except BusAway:
            return
        for place, part in self._parts.items():
            while place not in self._round and (cut := part.slice(is_due, partitions)) is not None:
                translated = self._translators[place].translated(cut)
                if not cut.is_known:
                    self._put(cut, translated)
        if is_due:
            self._since = None

    def _put(self, cut: Slice, translated: Translated) -> None:
        self._round[cut.place] = cut
        self._outbox += ((cut.place, refusal) for refusal in translated.refusals)
        self._outbox += ((cut.place, parcel) for parcel in translated.parcels)
        self._metrics.add("read_rows", translated.rows)
        self._metrics.add("unfit_rows", translated.unfit)
        self._metrics.add("taken_messages", translated.taken)

    def _commit(self) -> bool:
        """Offsets up to which all has arrived, and the ends of all slices that were cut."""
        if self._running.clock() < self._retry_at:
            return False
        parts = [self._parts[place] for place in self._round]
        notes = {part.place: part.note(self._rules) for part in parts}
        if self._source.commit({part.place: part.sent for part in parts}, notes):
            return True
        self._running.log.warning("commit_failed", why="the group is being rearranged, or no broker answers")
        self._retry_at = self._running.clock() + RETRY_S
        return False

    def _send(self) -> None:
        """Hands over what fits, until all of the round has arrived."""
        self._metrics.set("is_connected", int(self._producer.is_connected or self._producer.connect()))
        while self._outbox and self._give(*self._outbox[0]):
            self._outbox.popleft()
        if self._outbox:
            self._producer.serve(POLL_S)
        elif self._producer.flush(POLL_S):
            self._step = "settle"
            for place, cut in self._round.items():
                self._parts[place].arrived(cut)

    def _give(self, place: Partition, each: Parcel | Refusal) -> bool:
        if isinstance(each, Parcel):
            told = partial(count_sent, self._metrics, each)
            to = partition_of(each.key, self._parts[place].spread)
            return self._producer.offer(each.topic, each.key, each.value, each.headers, to, told)
        if each.reason == NOT_OURS:
            self._metrics.add("refused_messages", reason=NOT_OURS)
        else:
            self._dead.put(each.message, each.reason, each.what)
        return True

    def _balance(self) -> None:
        """Reading stops where sending does not keep up; polling goes on.

        Of partitions that are read again one goes on: their slices are what they are, however much else waits.
        """
        held: set[Partition] = set()
        if self._is_full():
            behind = [place for place, part in self._parts.items() if part.is_behind]
            held = set(self._parts) - set(sorted(behind)[:1])
        self._source.pause(held - self._paused)
        self._source.resume(self._paused - held)
        self._paused = held

    def _assigned(self, places: Sequence[Partition]) -> None:
        """Partitions are ours, once we know where to go on in them."""
        self._source.pause(places)
        self._to_load |= set(places)

    def _load(self) -> None:
        """Each new partition from where its epoch begins."""
        if not self._to_load or self._running.clock() < self._retry_at:
            return
        places = sorted(self._to_load)
        try:
            oldest, newest = self._source.begins(places), self._source.ends(places)
            noted = self._source.noted(places)
        except BusAway as error:
            self._running.log.warning("not_loaded", why=str(error))
            self._retry_at = self._running.clock() + RETRY_S
            return
        for place in places:
            self._start(place, range(oldest[place], newest[place] + 1), *noted.get(place, (0, "")))
        self._to_load -= set(places)
        self._running.log.info("assigned", partitions=_listed(places))
        self._source.resume(places)

    def _start(self, place: Partition, left: range, offset: int, note: str) -> None:
        part = part_of(place, left, offset, note, self._rules)
        if promised(note) > offset and not part.ends:
            why = "the inventory or the version is another, or the topic lost messages; some rows may count twice"
            self._running.log.warning("epoch_not_continued", where=_listed([place]), offset=offset, why=why)
        self._parts[place] = part
        sensor = _sensor(self._request.sensor, place)
        self._translators[place] = Translator(self._reader, self._inventory, sensor, self._rules)
        self._source.seek(*place, part.begin)

    def _drop(self, places: Sequence[Partition]) -> None:
        """They are another's, who sends again what has not arrived."""
        self._to_load -= set(places)
        self._paused -= set(places)
        for place in places:
            self._parts.pop(place, None)
            self._translators.pop(place, None)
            self._round.pop(place, None)
        self._outbox = deque(each for each in self._outbox if each[0] not in places)
        self._running.log.info("revoked", partitions=_listed(places))

    def _show(self) -> None:
        if self._running.clock() < self._look_at:
            return
        self._look_at = self._running.clock() + LOOK_S
        self._tell_refusals()
        try:
            ends = self._source.ends()
        except BusAway:
            return
        behind = (max(0, end - self._parts[place].sent) for place, end in ends.items() if place in self._parts)
        self._metrics.set("source_lag_messages", sum(behind))

    def _tell_refusals(self) -> None:
        """What went to the dead letters since the last look."""
        for reason, number in sorted((self._dead.by_reason - self._told).items()):
            self._metrics.add("refused_messages", number, reason=reason if reason in REFUSALS else OTHER)
            hint = HINTS.get(reason, "each is told in the dead letters, by topic, partition and offset")
            self._running.log.warning("refused", reason=reason, messages=number, hint=hint)
        self._told = self._dead.by_reason.copy()

    def _finish(self) -> None:
        """What is on its way may arrive; where nothing is, whoever comes next begins anew, and reads nothing again."""
        until = self._running.clock() + STOP_S
        while self._round and self._step != "note" and self._running.clock() < until:
            self._move()
        settled = {place: part.sent for place, part in self._parts.items() if part.is_settled}
        self._source.commit(settled)
        self._tell_refusals()
        if self._round:
            self._running.log.warning("left_unsent", hint="it is read and sent again by whoever starts next")


def _must_follow(message: Message, part: Part) -> None:
    if message.offset < part.next:
        where = f"{message.topic}/{message.partition}"
        raise BusError(
            f"{where}: offset {message.offset} came after {part.next - 1}; was the topic made again? start anew"
        )


def _sensor(name: str, place: Partition) -> str:
    return f"{name}:{place[0]}/{place[1]}"


def _listed(places: Sequence[Partition]) -> str:
    return ",".join(f"{topic}/{partition}" for topic, partition in sorted(places))
