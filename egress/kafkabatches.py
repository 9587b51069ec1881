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
        self._position = position
        self._records = records

    def next_batch(self) -> Any:
        """The next batch, sound and not compressed; None at the end. Raises Poison."""
        try:
            batch = self._records.next_batch()
        except CorruptRecordError as error:
            raise self.poison(self._position, self._position + 1, "corrupt", str(error)) from error
        if batch is None:
            return None
        if batch.magic != MODERN or not 0 <= batch.last_offset_delta < MOST_RECORDS:
            raise self._unframed(batch, "old format" if batch.magic in (0, 1) else "corrupt")
        if not batch.validate_crc():
            raise self._unframed(batch, "corrupt")
        self._position = max(self._position, batch.base_offset)
        if batch.compression_type:
            what = f"a compressed batch of {batch.size_in_bytes} bytes; compression is off on topics of Egress"
            raise self.poison(batch.base_offset, batch.next_offset, "compressed", what)
        return batch

    def poison(self, offset: int, following: int, reason: str, what: str) -> Poison:
        offset = max(offset, self._position)
        return Poison(self._partition, offset, max(following, offset + 1), reason, what)

    def _unframed(self, batch: Any, reason: str) -> Poison:
        """A batch whose own word on where it ends cannot be taken: it goes on where the one behind it begins."""
        begin = self._position
        following = begin + 1
        try:
            behind = self._records.next_batch()
        except CorruptRecordError:
            behind = None
        if behind is not None and behind.magic == MODERN and begin < behind.base_offset < begin + MOST_RECORDS:
            following = behind.base_offset
        return self.poison(begin, following, reason, f"a batch of {batch.size_in_bytes} bytes fails its checksum")


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
            at = self.next_fetch_offset
            raise batches.poison(at, at + 1, "corrupt", f"{type(error).__name__}: {error}") from error
