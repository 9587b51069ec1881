"""The partitions of flows that one member of the group sums: each from its snapshot on, published as it grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from egress import snapshots, taskstate, wire
from egress.config import Config, Kafka
from egress.inventory import Inventory
from egress.kafka import Consumer, DeadLetters, Message, read_all
from egress.messages import by_partition
from egress.outlet import Outlet, packed
from egress.partition import TABLES, PartitionTask
from egress.publications import headers_of
from egress.schema import FLOWS
from egress.service import Service
from egress.tasting import FATAL, Taster

FLOWS_SCHEMAS = {name: version for name, version in wire.SCHEMAS.items() if version.read is FLOWS}
PUBLISH_S = 2.0
PUBLISHING_SHARE = 0.1
"""Where finding out what changed takes long, it is done less often: so much of the time goes into it at most."""
BYTES_PER_S = 1_000_000
"""A large snapshot is written less often: so many bytes a second at most, on average."""


@dataclass
class Owned:
    """One partition that is ours and loaded."""

    task: PartitionTask
    slot: int
    careful_until: int
    """Offset up to which the one before us may have read what killed it."""
    saved_offset: int
    next_save: float
    has_news: bool = True


class Summing:
    """Tasks of the partitions that are ours. Whatever happens between two snapshots is read again from the log."""

    def __init__(
        self, config: Config, settings: Kafka, inventory: Inventory, running: Service, outlet: Outlet, dead: DeadLetters
    ) -> None:
        self._late_after = config.detect.late_after
        self._save_s = config.detect.snapshot_every / 1_000_000
        self._settings = settings
        self._inventory = inventory
        self._running = running
        self._metrics = running.metrics
        self._outlet = outlet
        self._dead = dead
        self._taster = Taster(inventory)
        self._owned: dict[int, Owned] = {}
        self._next_publication = 0.0

    @property
    def partitions(self) -> list[int]:
        return sorted(self._owned)

    @property
    def has_news(self) -> bool:
        return any(owned.has_news for owned in self._owned.values())

    def load(self, partition: int, consumer: Consumer) -> None:
        """Takes a partition from where its last owner got to. Raises BusAway if that cannot be found out now."""
        at = ("flows", partition)
        _, note = consumer.noted([at]).get(at, (0, ""))
        begin, end = consumer.begins([at])[at], consumer.ends([at])[at]
        found = self._found(partition, int(note) if note.isdecimal() else 0)
        for complaint in found.complaints:
            self._running.log.warning("snapshot_refused", partition=partition, why=complaint)
        task = found.state or PartitionTask(self._inventory, self._late_after, begin)
        if task.next_offset < begin:
            self._running.log.error("flows_lost", partition=partition, first=task.next_offset, next=begin)
        start = max(task.next_offset, begin)
        self._outlet.send("state", *snapshots.mark(_name(partition), snapshots.BEGUN), partition)
        self._outlet.flush()
        consumer.seek(*at, start)
        careful_until = end if found.was_killed else start
        saved = -1 if found.state is None else start
        self._owned[partition] = Owned(task, found.slot, careful_until, saved, self._after(self._save_s))
        self._running.log.info("summing", partition=partition, offset=start, end=end, is_careful=found.was_killed)

    def forget(self, partition: int) -> None:
        """The partition went to another member, who is not to think that we were killed."""
        if self._owned.pop(partition, None) is not None:
            self._outlet.send("state", *snapshots.mark(_name(partition), snapshots.ENDED), partition)
            self._metrics.forget("lag_messages", topic="flows", partition=str(partition))

    def take(self, messages: Iterable[Message]) -> None:
        """Feeds messages to their tasks; what cannot be read is dead-lettered and passed over."""
        for partition, found in by_partition(messages).items():
            owned = self._owned.get(partition)
            if owned is None:
                continue
            fatal = self._fatal(owned, found)
            for place, message in enumerate(found):
                self._metrics.add("received_messages", topic="flows")
                self._metrics.add("received_bytes", len(message.value or b""), topic="flows")
                self._take(owned.task, message, place in fatal)
            owned.has_news = True

    def publish(self, is_forced: bool = False) -> None:
        """Says what changed, every two seconds or less often."""
        began = self._running.clock()
        if not is_forced and began < self._next_publication:
            return
        for partition, owned in self._owned.items():
            if owned.has_news:
                self._publish(partition, owned)
        self._next_publication = self._after(max(PUBLISH_S, (self._running.clock() - began) / PUBLISHING_SHARE))

    def save(self, consumer: Consumer, is_forced: bool = False) -> None:
        """Writes the snapshot of the one partition that has waited longest; all of them where forced."""
        now = self._running.clock()
        moved = [each for each in self._owned.items() if each[1].task.next_offset != each[1].saved_offset]
        due = sorted(
            (each for each in moved if is_forced or each[1].next_save <= now), key=lambda each: each[1].next_save
        )
        for partition, owned in due if is_forced else due[:1]:
            self._save(partition, owned, consumer)

    def end(self, consumer: Consumer) -> None:
        """The last words of every task."""
        self.publish(is_forced=True)
        self.save(consumer, is_forced=True)
        for partition in self._owned:
            self._outlet.send("state", *snapshots.mark(_name(partition), snapshots.ENDED), partition)

    def close(self) -> None:
        self._taster.close()

    def _found(self, partition: int, start: int) -> snapshots.Found[PartitionTask]:
        def load(state: bytes) -> PartitionTask:
            return taskstate.load(state, self._inventory, self._late_after)

        found = snapshots.newest(_name(partition), read_all(self._settings, "state", [partition], start), load)
        if found.state is None and start:
            return snapshots.newest(_name(partition), read_all(self._settings, "state", [partition]), load)
        return found

    def _fatal(self, owned: Owned, messages: Sequence[Message]) -> set[int]:
        """Places of those that may have killed the one before us, and would."""
        return self._taster.fatal([message for message in messages if message.offset < owned.careful_until])

    def _take(self, task: PartitionTask, message: Message, is_fatal: bool) -> None:
        if is_fatal:
            self._refuse(task, message, FATAL, "reading it ended the process that tried")
            return
        try:
            header, flows = wire.decode(message.value, message.headers, FLOWS_SCHEMAS)
        except wire.WireError as error:
            self._refuse(task, message, error.reason, error.what)
            return
        if task.feed(header, flows, message.offset):
            self._metrics.add("summed_rows", flows.height)
        else:
            self._metrics.add("duplicate_messages")

    def _refuse(self, task: PartitionTask, message: Message, reason: str, what: str) -> None:
        where = f"{message.topic}/{message.partition}/{message.offset}"
        self._running.log.warning("dead_letter", where=where, reason=str(reason), what=what)
        self._metrics.add("dead_letters", topic=message.topic)
        self._dead.put(message, reason, what)
        task.skip(message.offset)

    def _publish(self, partition: int, owned: Owned) -> None:
        for kind, frame in owned.task.take_changes().items():
            for rows, value in packed(frame, TABLES[kind]):
                key = f"{partition}/{kind}".encode()
                self._outlet.send("sums", key, value, headers_of(kind, partition, rows))
            self._metrics.add("published_rows", frame.height)
        owned.has_news = False

    def _save(self, partition: int, owned: Owned, consumer: Consumer) -> None:
        self._publish(partition, owned)
        self._outlet.flush()  # a state forgets what it handed on, so that must have arrived
        state = taskstate.dump(owned.task)
        offsets: list[int] = []
        for record in snapshots.pieces(_name(partition), owned.slot, state):
            self._outlet.send("state", *record, partition, offsets.append)
        self._outlet.flush()
        owned.slot = (owned.slot + 1) % snapshots.SLOTS
        owned.saved_offset = owned.task.next_offset
        owned.next_save = self._after(max(self._save_s, len(state) / BYTES_PER_S))
        at = ("flows", partition)
        consumer.commit({at: owned.saved_offset}, {at: str(min(offsets))})
        self._metrics.add("snapshots")
        self._metrics.add("snapshot_bytes", len(state))

    def _after(self, seconds: float) -> float:
        return self._running.clock() + seconds


def _name(partition: int) -> str:
    return f"flows-{partition}"
