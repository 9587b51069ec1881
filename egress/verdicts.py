"""What is found in the sums of all partitions, said on the bus by whoever owns the one partition of sums.

Besides the sums it reads heartbeats, declarations and the findings themselves, all of them: another member may have
written there, before it was stopped or while it was believed dead. It keeps silent until it has read what was there
when it began, because a part of the sums would make other findings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress

from egress import declared, findingjson, memory, registry, snapshots, wire
from egress.aside import Aside, Check
from egress.config import Config, Kafka
from egress.contracts import Level
from egress.detect import Detectors
from egress.errors import EgressError
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.judging import Changes, Judge, value_of
from egress.kafka import Consumer, DeadLetters, Message, Partition, read_all
from egress.outlet import Outlet
from egress.packing import WireError, unpack
from egress.partition import MOST_SUMS_BYTES, TABLES
from egress.publications import kind_of, task_of
from egress.service import Service
from egress.tasting import FATAL, Taster

SUMS: Partition = ("sums", 0)
OTHERS = ("heartbeats", "lifecycle", "findings")
NAME = "judge"
NEXT = f"{NAME}-next"
"""Key of the offsets that a snapshot goes on at."""
RUN = "judging"
"""Whose last word says how the judge before us ended."""
STATE_PARTITION = 0
JUDGE_S = 2.0
REST = 1.0
"""After a judgement at least as long a rest, so that half a core stays for what else the member does."""
LAST_WORDS_S = 10.0
"""So long a stop waits for a judgement under way; without it, what came since the last snapshot is read again."""
MOST_MESSAGES = 200
BEATS_SCHEMAS = {name: version for name, version in wire.SCHEMAS.items() if version.read is HEARTBEATS}


class Verdicts:
    """A judge on the bus."""

    def __init__(
        self,
        config: Config,
        settings: Kafka,
        running: Service,
        outlet: Outlet,
        dead: DeadLetters,
        aside: Aside[Changes],
        detectors: Detectors = registry.detectors,
    ) -> None:
        self._settings = settings
        self._running = running
        self._metrics = running.metrics
        self._outlet = outlet
        self._dead = dead
        self._save_s = config.detect.snapshot_every / 1_000_000
        self._judge = Judge(Inventory(config), detectors)
        self._taster = Taster(Inventory(config))
        self._next: dict[Partition, int] = {}
        """Offsets to go on at, of what a snapshot holds."""
        self._until: dict[Partition, int] = {}
        """What there was to read when we began."""
        self._was_killed = False
        self._mine: set[int] = set()
        """Offsets of findings that we said and have not read yet."""
        self._others = Consumer(settings, "", OTHERS, self._begin, dead_letters=dead)
        self._group: Consumer | None = None
        self._is_changed = True
        self._aside = aside
        self._judged_since: float | None = None
        """When the judgement under way began. Until it is done the judge is its, and nothing is read that bears on it:
        the bus keeps that."""
        self._next_judgement = 0.0
        self._next_save = running.clock() + self._save_s
        self.levels: dict[str, Level] = {}
        """Of what the bus holds, by uid."""

    def load(self, group: Consumer) -> None:
        """Takes over the judging. Raises BusAway if what there is cannot be found out now."""
        self._restore()
        self._others.connect()
        self._until = {**self._others.ends(), **group.ends([SUMS])}
        begin = group.begins([SUMS])[SUMS]
        start = self._next.get(SUMS, begin)
        if start < begin:
            self._running.log.error("sums_lost", first=start, next=begin)
        self._say_run(snapshots.BEGUN)
        self._outlet.flush()
        group.seek(*SUMS, max(begin, start))
        self._group = group
        self._running.log.info("judging", offset=start, end=self._until[SUMS], is_careful=self._was_killed)

    @property
    def has_caught_up(self) -> bool:
        """Everything was read that was there when we began."""
        positions = self._positions()
        return all(positions.get(at, -1) >= end for at, end in self._until.items())

    @property
    def is_idle(self) -> bool:
        """Everything that was read was judged, and said."""
        return self.has_caught_up and not self._is_changed and not self.is_judging

    @property
    def is_judging(self) -> bool:
        return self._judged_since is not None

    def take(self, messages: Sequence[Message]) -> None:
        """Reads states of sums, or what else there is to know."""
        doubtful = [message for message in messages if self._is_doubtful(message)]
        fatal = {doubtful[place].offset for place in self._taster.fatal(doubtful)}
        for message in messages:
            self._metrics.add("received_messages", topic=message.topic)
            self._metrics.add("received_bytes", len(message.value or b""), topic=message.topic)
            if message.offset in fatal and self._is_doubtful(message):
                self._refuse(message, FATAL, "reading it ended the process that tried")
            else:
                self._read(message)

    def read_others(self) -> int:
        """Reads what the group does not share out; says how many messages that were."""
        if self.is_judging:
            return 0
        messages = self._others.poll(0.0, MOST_MESSAGES)
        by_topic: dict[Partition, list[Message]] = {}
        for message in messages:
            by_topic.setdefault((message.topic, message.partition), []).append(message)
        if any(topic == "findings" for topic, _ in by_topic):
            self._outlet.flush()  # to know our own by their offsets
        for found in by_topic.values():
            self.take(found)
        return len(messages)

    def judge(self) -> None:
        """Has judged what changed, as often as there is time for, and says what came of it; waits for nothing."""
        self._say_what_was_judged()
        is_due = self._is_changed and self.has_caught_up and self._running.clock() >= self._next_judgement
        if is_due and not self.is_judging and self._aside.is_free():
            self._is_changed = False
            self._judged_since = self._running.clock()
            if self._group is not None:
                self._group.pause([SUMS])
            self._aside.start(self._judged)

    def _judged(self, check: Check) -> Changes:
        changes = self._judge.judge(check)
        memory.give_back()  # days lay open for it: a site's machine is as large as what stays between judgements
        return changes

    def _say_what_was_judged(self, timeout_s: float = 0.0) -> None:
        for changes in self._aside.taken(timeout_s) if self._judged_since is not None else ():
            took = self._running.clock() - (self._judged_since or 0.0)
            self._judged_since = None
            self._say_all(changes)
            self._next_judgement = self._running.clock() + max(JUDGE_S, REST * took)
            self._metrics.add("judgements")
            self._metrics.add("judging_seconds", took)
            if self._group is not None:
                self._group.resume([SUMS])

    def _say_all(self, changes: Changes) -> None:
        for finding in changes.publish:
            self._say(finding.uid, value_of(finding))
            self.levels[finding.uid] = finding.level
        for uid in changes.withdraw:
            self._say(uid, None)
            self.levels.pop(uid, None)
        self._metrics.add("said_findings", len(changes.publish) + len(changes.withdraw))
        self._show()

    def save(self, is_forced: bool = False) -> None:
        """Writes what changed since the last time, and from where to go on; not while it is judged."""
        now = self._positions()
        if self.is_judging or now == self._next or (self._running.clock() < self._next_save and not is_forced):
            return
        self._outlet.flush()  # what the state says was said must have been
        size = 0
        for key, value in self._judge.state():
            self._outlet.send("state", f"{NAME}/{key}".encode(), value, partition=STATE_PARTITION)
            size += len(value or b"")
        offsets = {f"{topic}/{partition}": offset for (topic, partition), offset in sorted(now.items())}
        self._outlet.send("state", NEXT.encode(), json.dumps(offsets).encode(), partition=STATE_PARTITION)
        self._outlet.flush()
        self._next = now
        if self._group is not None and SUMS in now:
            self._group.commit({SUMS: now[SUMS]})
        self._next_save = self._running.clock() + self._save_s
        self._metrics.add("snapshots")
        self._metrics.add("snapshot_bytes", size)

    def end(self) -> None:
        """The last words."""
        self._say_what_was_judged(LAST_WORDS_S)
        self.save(is_forced=True)
        self._say_run(snapshots.ENDED)

    def close(self) -> None:
        """Whatever is being judged is not said: its sums may be another's by now."""
        if self.is_judging:
            self._aside.drop()
        self._others.close()
        self._taster.close()
        for level in Level:
            self._metrics.forget("findings", level=level.word)

    def _restore(self) -> None:
        saved = {
            (message.key or b"").decode("utf-8", "replace"): message.value
            for message in read_all(self._settings, "state", [STATE_PARTITION])
        }
        own = ((key.removeprefix(f"{NAME}/"), value) for key, value in saved.items() if key.startswith(f"{NAME}/"))
        self._was_killed = saved.get(f"{RUN}/run") not in (None, snapshots.ENDED)
        try:
            complaints = self._judge.restore([(key, value) for key, value in own if value is not None])
            self._next = _offsets(saved.get(NEXT))
        except (EgressError, ValueError, KeyError) as problem:
            complaints = [f"the snapshot cannot be used, everything is read again: {problem}"]
        for complaint in complaints:
            self._running.log.warning("snapshot_refused", task=NAME, why=complaint)

    def _begin(self, partitions: Iterable[Partition]) -> None:
        """Findings are read from their begin, to know what holds; there are few of them."""
        for at in partitions:
            if at in self._next and at[0] != "findings":
                self._others.seek(*at, self._next[at])

    def _positions(self) -> dict[Partition, int]:
        """Offsets up to which everything was taken."""
        group = self._group.positions() if self._group is not None else {}
        return {**self._others.positions(), **{at: offset for at, offset in group.items() if at == SUMS}}

    def _is_doubtful(self, message: Message) -> bool:
        """The judge before us may have read it last."""
        is_before = message.offset < self._until.get((message.topic, message.partition), 0)
        return self._was_killed and is_before and message.topic in ("sums", "heartbeats")

    def _say(self, uid: str, value: bytes | None) -> None:
        self._outlet.send("findings", uid.encode(), value, acknowledged=self._mine.add)

    def _say_run(self, word: bytes) -> None:
        self._outlet.send("state", *snapshots.mark(RUN, word), STATE_PARTITION)

    def _read(self, message: Message) -> None:
        try:
            self._understand(message)
        except WireError as error:
            self._refuse(message, error.reason, error.what)
        except ValueError as error:
            self._refuse(message, wire.Reason.IMPOSSIBLE_VALUE, str(error))

    def _understand(self, message: Message) -> None:
        if message.topic == "sums":
            kind = kind_of(message.headers)
            if kind not in TABLES:
                raise WireError(wire.Reason.UNKNOWN_SCHEMA, f"sums of kind {kind!r:.60} are not known here")
            sums = unpack(message.value or b"", TABLES[kind], MOST_SUMS_BYTES)
            self._judge.join(kind, sums, task_of(message.headers))
        elif message.topic == "heartbeats":
            self._judge.feed_heartbeats(wire.decode(message.value, message.headers, BEATS_SCHEMAS)[1])
        elif message.topic == "lifecycle":
            self._judge.learn_of([declared.parse(message.value or b"")])
        elif message.offset in self._mine:
            self._mine.discard(message.offset)
            return
        else:
            self._saw((message.key or b"").decode("utf-8", "replace"), message.value)
        self._is_changed = True

    def _saw(self, uid: str, value: bytes | None) -> None:
        self._judge.saw(uid, value)
        self.levels.pop(uid, None)
        if value is not None:
            with suppress(KeyError, TypeError, AttributeError):
                self.levels[uid] = findingjson.decode(value.decode("utf-8", "surrogatepass")).level

    def _refuse(self, message: Message, reason: str, what: str) -> None:
        where = f"{message.topic}/{message.partition}/{message.offset}"
        self._running.log.warning("dead_letter", where=where, reason=str(reason), what=what)
        self._metrics.add("dead_letters", topic=message.topic)
        self._dead.put(message, reason, what)

    def _show(self) -> None:
        for level in Level:
            self._metrics.set("findings", sum(each == level for each in self.levels.values()), level=level.word)


def _offsets(value: bytes | None) -> dict[Partition, int]:
    found = {}
    for name, offset in json.loads(value or b"{}").items():
        topic, _, partition = name.rpartition("/")
        found[topic, int(partition)] = int(offset)
    return found
