"""Which partition a message goes to, for ever: what is sent again goes where it went, however many there are by then.

An epoch goes by the number of partitions that held when it began, as its name tells. A step to more of them holds for
what begins ten minutes later or after that: nobody has sent any of that when he hears of it, a minute late and with a
clock that is off by minutes. What begins in the future is pinned, by its name, before it is sent
(docs/decisions/0022).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from egress.messages import Message

STEP = b"flows"
"""Key of a step; others are names of epochs."""
LEAD_US = 600_000_000
"""Longer than FRESH_US and AHEAD_US together, by as much as clocks may differ."""
AHEAD_US = 120_000_000
FRESH_US = 60_000_000
"""So old what somebody knows of the growth may be when he meets an epoch first."""
_NAME = re.compile(r"(-?[0-9]{1,19})-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Growth:
    """How many partitions there were when. Steps that come later move nothing that was sent before."""

    first: int
    steps: tuple[tuple[int, int], ...] = ()
    """From when on (UTC microseconds), how many; both rise."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """Epochs that seemed to begin in the future when somebody met them first."""

    @property
    def last(self) -> int:
        return self.steps[-1][1] if self.steps else self.first

    def of(self, epoch: str) -> int:
        """Over how many partitions its messages are spread: the first number where nobody knows when it began."""
        begun = begun_at(epoch)
        if begun is None or epoch in self.pins:
            return self.pins.get(epoch, self.first)
        return next((count for start, count in reversed(self.steps) if start <= begun), self.first)

    def must_pin(self, epoch: str, now_us: int) -> bool:
        """Whether a step that nobody has made yet could move it."""
        begun = begun_at(epoch)
        return begun is not None and begun > now_us + AHEAD_US and epoch not in self.pins


def growth_of(messages: Iterable[Message], most: int) -> Growth | None:
    """What the topic says, oldest first; None where nothing was written yet.

    There are `most` partitions; what speaks of more is not believed, nor what was never a number of them.
    """
    first, steps, pins = 0, list[tuple[int, int]](), dict[str, int]()
    for message in messages:
        value, key = message.value or b"", message.key or b""
        count = int(value) if value.isdigit() and len(value) <= 9 else 0
        if key == STEP and not first:
            first = min(count, most)
        elif key == STEP and (steps[-1][1] if steps else first) < count <= most:
            start = message.written_us + LEAD_US
            steps.append((max(start, steps[-1][0] + 1) if steps else start, count))
        elif key != STEP and count in (first, *(number for _, number in steps)):
            pins.setdefault(key.decode(errors="replace"), count)
    return Growth(first, tuple(steps), pins) if first else None


def named(begun_us: int, digest: str) -> str:
    """An epoch's name, which tells when it began."""
    return f"{begun_us}-{digest}"


def begun_at(epoch: str) -> int | None:
    """UTC microseconds; None where the name does not tell."""
    told = _NAME.fullmatch(epoch)
    return int(told[1]) if told else None


@lru_cache(1 << 16)
def partition_of(key: bytes, count: int) -> int:
    """Where all clients of Kafka put a key, if there are so many partitions."""
    from kafka.partitioner.default import murmur2

    found: int = (murmur2(key) & 0x7FFFFFFF) % count
    return found
