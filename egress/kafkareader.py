"""Reads from the bus: in a group that shares partitions, or everything; what cannot be read costs itself only."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from egress.config import Kafka
from egress.deadletters import DeadLetters
from egress.errors import BusAway, BusError, TopicMissing
from egress.kafkaclient import MAX_MESSAGE_BYTES, REQUEST_TIMEOUT_MS, explain, made
from egress.kafkamembership import Membership
from egress.kafkawriter import CONNECT_S, Producer
from egress.messages import Message, Partition

Rebalanced = Callable[[Sequence[Partition]], None]

SESSION_MS = 10_000
"""A member that was killed is replaced after so long; one that comes back by its name within it, is not."""
HEARTBEAT_MS = 1_000
PAUSE_S = 0.1
NO_NOTES: Mapping[Partition, str] = {}


def _nothing(partitions: Sequence[Partition]) -> None:
    """For whoever does not mind which partitions it has."""


class Consumer:
    """One thread's reader. Not connected until it is polled.

    With a group, partitions are shared with its other members; `member` is a name that this one keeps over restarts,
    so that a restart moves nothing. Without a group (""), it reads all partitions of its topics, or what `assign` was
    given. The callbacks run inside `poll`, in the caller's thread: `on_assign` before any message of these partitions
    is given, so that it may `seek`; `on_revoke` after they went to somebody else, so all there is left to do is to
    forget them.
    """

    def __init__(
        self,
        settings: Kafka,
        group: str,
        topics: Sequence[str],
        on_assign: Rebalanced = _nothing,
        on_revoke: Rebalanced = _nothing,
        member: str = "",
        reads_from: Literal["earliest", "latest"] = "earliest",
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._member = member
        self._reads_from = reads_from
        self._short = {settings.topic(topic): topic for topic in topics}
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._producer: Producer | None = None
        self._dead_letters = dead_letters
        self._client: Any = None
        self._changes: deque[tuple[Callable[[list[Partition]], None], list[Any]]] = deque()
        self._by_hand: list[Partition] = []
        self._paused: set[Partition] = set()
        self._membership = Membership(group, member)
        self.assigned: frozenset[Partition] = frozenset()

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    def poll(self, timeout_s: float, most: int = 500) -> list[Message]:
        """The next messages, in order within each partition; none if none came in time, or no broker answers.

        What cannot be read is told to the dead letters and skipped. Raises BusError when refused for good.
        """
        until = time.monotonic() + timeout_s
        while True:
            left = max(0.0, until - time.monotonic())
            found = self._polled(left, most) if self.connect(min(CONNECT_S, max(left, PAUSE_S))) else []
            if found or time.monotonic() >= until:
                return found

    def connect(self, timeout_s: float = CONNECT_S) -> bool:
        """Tries to reach a broker; False: none answers now. Raises BusError when refused, or a topic is not there."""
        from kafka.errors import KafkaError

        if self._client is not None:
            return True
        until = time.monotonic() + timeout_s
        try:
            client = self._made(timeout_s)
        except KafkaError as error:
            return self._not_now(error, until)
        try:
            self._subscribe(client)
        except KafkaError as error:
            client.close(autocommit=False, timeout_ms=0)
            return self._not_now(error, until)
        except BusError:
            client.close(autocommit=False, timeout_ms=0)
            raise
        self._client = client
        self._carry_out_changes()
        return True

    def assign(self, partitions: Iterable[Partition]) -> None:
        """These and no others, from where `seek` or `reads_from` says; only without a group."""
        if self._group:
            raise ValueError("partitions of a group's member are the group's to assign")
        self._by_hand = sorted(partitions)
        self.assigned = frozenset(self._by_hand)
        if self._client is not None:
            self._client.assign([self._full(partition) for partition in self._by_hand])

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Goes on at this offset. Raises BusError where the partition is not ours."""
        if (topic, partition) not in self.assigned or self._client is None:
            raise BusError(f"{topic}/{partition} is not assigned to this consumer; seek in on_assign or after a poll")
        self._client.seek(self._full((topic, partition)), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Gives no message of these until they are resumed or assigned anew; keeps membership alive meanwhile."""
        wanted = [partition for partition in partitions if partition in self.assigned]
        self._paused.update(wanted)
        if wanted and self._client is not None:
            self._client.pause(*map(self._full, wanted))

    def resume(self, partitions: Iterable[Partition]) -> None:
        wanted = [partition for partition in partitions if partition in self.assigned]
        self._paused.difference_update(wanted)
        if wanted and self._client is not None:
            self._client.resume(*map(self._full, wanted))

    def commit(self, offsets: Mapping[Partition, int], notes: Mapping[Partition, str] = NO_NOTES) -> bool:
        """Notes for the group where to go on: each offset is that of the next message to read.

        A note, of up to 4 kB, is kept with its offset until the next commit of the partition: see `noted`.

        Partitions that are no longer ours are left out: their new owner may be further. False: the group is being
        rearranged or no broker answers, and nothing was noted; the next commit says it all again.
        """
        from kafka import errors
        from kafka.structs import OffsetAndMetadata

        ours = {
            self._full(at): OffsetAndMetadata(offset, notes.get(at, ""), -1)
            for at, offset in offsets.items()
            if at in self.assigned and self._client is not None and self._full(at) in self._client.assignment()
        }
        if not ours or self._client is None:
            return not offsets
        try:
            self._client.commit(ours, timeout_ms=REQUEST_TIMEOUT_MS)
        except (errors.CommitFailedError, errors.RebalanceInProgressError, errors.IllegalGenerationError):
            return False
        except (errors.UnknownMemberIdError, errors.RetriableError, errors.KafkaTimeoutError):
            return False
        except errors.KafkaError as error:
            raise explain(error, self._settings) from error
        return True

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """What the group noted last; partitions without a note are not in it. Raises BusAway if nobody answers."""
        return {at: offset for at, (offset, _) in self.noted(partitions).items()}

    def noted(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, str]]:
        """What the group noted last, each with the note that was committed with it. Raises BusAway like `committed`."""
        found = {at: self._noted(at) for at in partitions}
        return {at: (one.offset, one.metadata or "") for at, one in found.items() if one is not None}

    def begins(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Offsets of the oldest messages (of all assigned partitions). Raises BusAway if nobody answers."""
        return self._edges("beginning_offsets", partitions)

    def ends(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Offsets that the next messages will get (of all assigned partitions). Raises BusAway if nobody answers."""
        return self._edges("end_offsets", partitions)

    def positions(self) -> dict[Partition, int]:
        """Offset of the next message to be given, of each assigned partition that has found its place."""
        if self._client is None:
            return {}
        state = self._client._subscription.assignment  # its own `position` would wait for the network
        found = {at: state.get(self._full(at)) for at in sorted(self.assigned)}
        return {at: one.position.offset for at, one in found.items() if one is not None and one.position is not None}

    def has_read_all(self) -> bool:
        """Whether the group told what is ours and all that lies there was given out; False where nobody answers."""
        if self._client is None or self._changes or not self._membership.is_settled(self._client._coordinator):
            return False
        try:
            ends = self.ends()
        except BusAway:
            return False
        positions = self.positions()
        return all(positions.get(at, -1) >= end for at, end in ends.items())

    def close(self) -> None:
        """Leaves; a member with a name is kept its place for 10 s."""
        client, self._client = self._client, None
        self.assigned = frozenset()
        if client is not None:
            client.close(autocommit=False, timeout_ms=2_000)
        if self._producer is not None:
            self._producer.flush(2.0)
            self._producer.close()

    def _polled(self, timeout_s: float, most: int) -> list[Message]:
        from kafka import errors

        from egress.kafkabatches import Poison, make_room

        self._carry_out_changes()
        self._membership.keep(self._client._coordinator)
        make_room(self._client._fetcher)
        try:
            found = self._client.poll(timeout_ms=int(timeout_s * 1000), max_records=most)
        except Poison as poison:
            self._skip(poison)
            return []
        except (errors.RetriableError, errors.KafkaTimeoutError, errors.UnknownError):
            time.sleep(min(PAUSE_S, timeout_s))
            return []
        except errors.KafkaError as error:
            raise explain(error, self._settings) from error
        self._membership.must_be_the_only_one(self._client._coordinator)
        self._carry_out_changes()
        messages = (self._message(record) for records in found.values() for record in records)
        return [message for message in messages if (message.topic, message.partition) in self.assigned]

    def _message(self, record: Any) -> Message:
        headers = tuple((name, value or b"") for name, value in record.headers)
        topic = self._short[record.topic]
        written_us = max(record.timestamp, 0) * 1000
        return Message(topic, record.partition, record.offset, record.key, record.value, headers, written_us)

    def _skip(self, poison: Any) -> None:
        at = self._partition(poison.partition)
        records = poison.following - poison.offset
        message = Message(*at, poison.offset, None, None)
        self._letters().put(message, poison.reason, poison.what, records)
        if at in self.assigned:
            self._client.seek(poison.partition, poison.following)

    def _letters(self) -> DeadLetters:
        if self._dead_letters is None:
            self._producer = Producer(self._settings)
            self._dead_letters = DeadLetters(self._producer, self._group)
        return self._dead_letters

    def _made(self, timeout_s: float) -> Any:
        from kafka import KafkaConsumer
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

        from egress.kafkabatches import PartitionRecords

        client = made(
            KafkaConsumer,
            self._settings,
            timeout_s,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            group_id=self._group or None,
            group_instance_id=f"{self._group}-{self._member}" if self._member and self._group else None,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            enable_auto_commit=False,
            auto_offset_reset=self._reads_from,
            check_crcs=False,  # `kafkabatches` does
            fetch_max_bytes=self._settings.fetch_bytes,
            max_partition_fetch_bytes=max(2 * MAX_MESSAGE_BYTES, self._settings.fetch_bytes // 4),
        )
        client._fetcher.PartitionRecords = PartitionRecords
        return client

    def _not_now(self, error: Exception, until: float) -> bool:
        """False, after a pause, where a broker may answer later."""
        failure = explain(error, self._settings)
        if not isinstance(failure, BusAway):
            raise failure from error
        time.sleep(max(0.0, min(PAUSE_S, until - time.monotonic())))
        return False

    def _subscribe(self, client: Any) -> None:
        there = client.topics()
        for name in self._short:
            if name not in there:
                raise TopicMissing(
                    f"{name} is not there; `egress init --kafka` makes the topics"
                    if self._settings.prefix
                    else f"{name} is not there; check its name, and `kafka.servers` or --from"
                )
        if self._group:
            client.subscribe(topics=list(self._short), listener=self._listener(client))
            return
        if not self._by_hand:
            numbers = {topic: client.partitions_for_topic(name) for name, topic in self._short.items()}
            self._by_hand = sorted((topic, number) for topic, found in numbers.items() for number in found)
        self.assigned = frozenset(self._by_hand)
        client.assign([self._full(partition) for partition in self._by_hand])
        self._changes.append((self._take, [self._full(at) for at in self._by_hand]))

    def _listener(self, client: Any) -> Any:
        """Runs on the library's thread, where nothing may wait: notes what `poll` then tells on the caller's."""
        from kafka import ConsumerRebalanceListener

        changes, take, forget = self._changes, self._take, self._forget

        class Listener(ConsumerRebalanceListener):
            def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
                found = sorted(assigned)
                if found:
                    client.pause(*found)  # until on_assign had its say
                changes.append((take, found))

            def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
                changes.append((forget, sorted(revoked)))

            def on_partitions_lost(self, lost: Iterable[Any]) -> None:
                changes.append((forget, sorted(lost)))

        return Listener()

    def _carry_out_changes(self) -> None:
        while self._changes:
            carry_out, partitions = self._changes.popleft()
            if partitions:
                carry_out([self._partition(partition) for partition in partitions])

    def _take(self, partitions: list[Partition]) -> None:
        self.assigned |= frozenset(partitions)
        self._paused.difference_update(partitions)
        self._on_assign(partitions)
        self.resume(partition for partition in partitions if partition not in self._paused)

    def _forget(self, partitions: list[Partition]) -> None:
        self.assigned -= frozenset(partitions)
        self._paused.difference_update(partitions)
        self._on_revoke(partitions)

    def _noted(self, at: Partition) -> Any:
        return self._asked(lambda client: client.committed(self._full(at), metadata=True))

    def _edges(self, which: str, partitions: Iterable[Partition] | None) -> dict[Partition, int]:
        self._must_connect()
        wanted = sorted(self.assigned if partitions is None else partitions)
        if not wanted:
            return {}
        found = self._asked(lambda client: getattr(client, which)([self._full(at) for at in wanted]))
        return {self._partition(at): int(offset) for at, offset in found.items()}

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        from kafka.errors import KafkaError

        self._must_connect()
        try:
            return question(self._client)
        except KafkaError as error:
            raise explain(error, self._settings) from error

    def _must_connect(self) -> None:
        if not self.connect():
            raise BusAway(f"Kafka at {', '.join(self._settings.servers)}: no broker answers now")

    def _full(self, partition: Partition) -> Any:
        from kafka.structs import TopicPartition

        return TopicPartition(self._settings.topic(partition[0]), partition[1])

    def _partition(self, full: Any) -> Partition:
        return self._short[full.topic], int(full.partition)
