"""What the bus carries, as its readers get it."""

from __future__ import annotations

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
