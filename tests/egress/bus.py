"""A bus in memory, for what happens around the real one: away, slow, refusing, acknowledging late or never."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from egress.errors import BusError

Message = tuple[str, bytes, bytes, tuple[tuple[str, bytes], ...]]


@dataclass
class MemoryBus:
    """What several producers, one after the other, left on the topics."""

    is_there: bool = True
    room: int = 1 << 30
    """Messages taken from now on; then no room."""
    refusals: list[str] = field(default_factory=list)
    """Said, one at a time, by the next sends."""
    keeps: int = 0
    """Acknowledges nothing until so many wait; 0: at once."""
    messages: list[Message] = field(default_factory=list)
    connections: int = 0

    def connect(self) -> MemoryProducer:
        return MemoryProducer(self)


@dataclass
class MemoryProducer:
    bus: MemoryBus
    waiting: list[Callable[[int, int], None]] = field(default_factory=list)

    def connect(self, timeout_s: float = 1.0) -> bool:
        self.bus.connections += self.bus.is_there
        return self.bus.is_there

    def offer(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = (),
        partition: int | None = None,
        on_ack: Callable[[int, int], None] | None = None,
    ) -> bool:
        if self.bus.refusals:
            raise BusError(self.bus.refusals.pop(0))
        if not self.bus.is_there or self.bus.room <= 0:
            return False
        self.bus.room -= 1
        self.bus.messages.append((topic, key, value or b"", headers))
        if on_ack is not None:
            self.waiting.append(on_ack)
        return True

    def serve(self, timeout_s: float = 0.0) -> int:
        if not self.waiting:
            time.sleep(timeout_s)
        if len(self.waiting) < self.bus.keeps and timeout_s == 0.0:
            return 0
        served, self.waiting = self.waiting, []
        for number, on_ack in enumerate(reversed(served)):
            on_ack(0, number)
        return len(served)

    def flush(self, timeout_s: float) -> bool:
        self.serve(timeout_s)
        return True

    def close(self) -> None:
        self.waiting = []
