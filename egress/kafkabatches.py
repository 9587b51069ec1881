"""Reads what a broker sent batch by batch, so that one bad batch costs itself and nothing else.

The client library unpacks compressed batches without a limit (306 kB became 937 MB), and turns for ever on a record
that it cannot read. So batches are looked at here before it unpacks them. It is reached through the one class that the
library's fetcher makes for each partition's answer; a test with a real broker fails when that changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.structs import TopicPartition

MODERN = 2
"""Magic of the batch format that has checksums and offsets worth trusting; brokers have written it since 0.11."""
MOST_RECORDS = 1_000_000
"""No batch that a broker takes holds more."""


class Poison(Exception):
    """Records that cannot be read: from `offset`, going on at `following`."""

    def __init__(self, partition: TopicPartition, offset: int, following: int, reason: str, what: str) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}, offset {offset}: {what}")
        self.partition = partition
        self.offset = offset
        self.following = following
        self.reason = reason
        self.what = what


class Batches:
    """The batches of one answer; stands in for the library's own reader of them."""

    def __init__(self, partition: TopicPartition, position: int, records: Any) -> None:
        self._partition = partition
        self._records = records
        self.position = position
        """Offset behind what was given so far."""

    def next_batch(self) -> Any:
        """The next batch, sound and not compressed; None at the end. Raises Poison."""
        batch = self._framed()
        while batch is not None and not _is_sound(batch):
            batch = self._behind(batch)
        if batch is None:
            return None
        begin, self.position = self.position, batch.next_offset
        if batch.compression_type:
            what = f"a compressed batch of {batch.size_in_bytes} bytes; compression is off on topics of Egress"
            raise self.poison(max(begin, batch.base_offset), self.position, "compressed", what)
        return batch

    def poison(self, offset: int, following: int, reason: str, what: str) -> Poison:
        return Poison(self._partition, offset, max(following, offset + 1), reason, what)

    def _framed(self) -> Any:
        try:
            batch = self._records.next_batch()
            while batch is not None and batch.magic == MODERN and batch.next_offset <= self.position:
                batch = self._records.next_batch()  # it was given, or told, before
        except CorruptRecordError as error:
            raise self.poison(self.position, self.position + 1, "corrupt", str(error)) from error
        return batch

    def _behind(self, batch: Any) -> Any:
        """What follows a batch whose own word on where it ends cannot be taken; the batch itself is told if it is new.

        A broker that believes the broken head goes on sending the batch before the one that was asked for.
        """
        begin = self.position
        try:
            following = self._records.next_batch()
        except CorruptRecordError:
            following = None
        if following is not None and following.magic == MODERN and following.base_offset == begin:
            return following
        end = begin + 1
        if following is not None and following.magic == MODERN and begin < following.base_offset < begin + MOST_RECORDS:
            end = following.base_offset
        if batch.magic != MODERN:
            raise self.poison(begin, end, "old format", f"a batch in the format of magic {batch.magic}")
        raise self.poison(begin, end, "corrupt", f"a batch of {batch.size_in_bytes} bytes fails its checksum")


def _is_sound(batch: Any) -> bool:
    return batch.magic == MODERN and 0 <= batch.last_offset_delta < MOST_RECORDS and bool(batch.validate_crc())


_Answer: Any = Fetcher.PartitionRecords


class PartitionRecords(_Answer):  # type: ignore[misc]
    """One partition's answer. Its checksums are looked at in `Batches`, so the library is told not to."""

    def take(self, n: int | None = None) -> list[Any]:
        try:
            return list(super().take(n))
        except Exception:
            self.drain()  # else the library goes on asking it for ever, at full speed
            raise

    def _unpack_records(self, tp: TopicPartition, records: Any, *deserializers: Any) -> Iterator[Any]:
        batches = Batches(tp, self.fetch_offset, records)
        try:
            yield from super()._unpack_records(tp, batches, *deserializers)
        except Poison:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise batches.poison(self.next_fetch_offset, batches.position, "corrupt", what) from error


def make_room(fetcher: Any) -> None:
    """Before each poll: the library gives out what it kept of a paused partition only where no other was before it.

    An answer that was given out to its end stays in that place, and what was kept then never comes (3.0.12).
    """
    if not fetcher._next_partition_records:
        fetcher._next_partition_records = None
