"""What the bus carries, as its readers get it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Partition = tuple[str, int]
"""Topic (short name) and number."""


@dataclass(frozen=True, slots=True)
class Message:
    """One record; `topic` is the short name."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    written_us: int = 0
    """By the broker's clock: when it got there, never when it happened."""


def by_partition(messages: Iterable[Message]) -> dict[int, list[Message]]:
    """Messages of one topic by its partitions, each in the order they came."""
    found: dict[int, list[Message]] = {}
    for message in messages:
        found.setdefault(message.partition, []).append(message)
    return found
