"""Finds messages that kill whoever reads them, by letting a process read them that nobody will miss.

Bytes that nobody vouches for go through native code, and a fault there ends the process, not the message. So after a
crash the messages that may have caused it are tried here first: all at once, and one by one where that was fatal.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from egress import wire
from egress.arrivals import SENSORS
from egress.errors import EgressError
from egress.inventory import Inventory
from egress.messages import Message
from egress.packing import unpack
from egress.partition import MOST_SUMS_BYTES, TABLES, PartitionTask
from egress.schema import FLOWS

FATAL = "fatal"
"""Why such a message is put aside."""
PATIENCE_S = 60.0
"""A batch takes a tenth of a second; what takes this long has hung."""
LATE_AFTER = 7_200_000_000


class Taster:
    """A process that reads as a task does and keeps nothing. Started when it is first needed."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def fatal(self, messages: Sequence[Message]) -> set[int]:
        """Which of the messages, by their place in the list, nobody survives."""
        if not messages or self._survives(messages):
            return set()
        return {place for place, message in enumerate(messages) if not self._survives([message])}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _survives(self, messages: Sequence[Message]) -> bool:
        pipe = self._started()
        try:
            pipe.send(messages)
            if pipe.poll(PATIENCE_S):
                return bool(pipe.recv())
        except (EOFError, OSError):
            pass
        self.close()
        return False

    def _started(self) -> Connection:
        if self._pipe is None:
            spawn = get_context("spawn")  # a fork would share threads that it does not have
            self._pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_taste, args=(theirs, self._inventory), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe


def _taste(pipe: Connection, inventory: Inventory) -> None:
    """Runs in the other process, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    while True:
        try:
            messages: Sequence[Message] = pipe.recv()
        except (EOFError, OSError):  # closed, or killed in the middle of a message
            return
        task = PartitionTask(inventory, LATE_AFTER)
        for place, message in enumerate(messages):
            with suppress(EgressError, ValueError):
                _try(message, task, place)
        task.take_changes()
        with suppress(OSError):  # nobody waits for it any more
            pipe.send(True)


def _try(message: Message, task: PartitionTask, place: int) -> None:
    if message.topic == "sums":
        kind = dict(message.headers).get("kind", b"").decode("ascii", "replace")
        unpack(message.value or b"", TABLES.get(kind, SENSORS), MOST_SUMS_BYTES)
        return
    header, frame = wire.decode(message.value, message.headers)
    if message.topic == "flows" and frame.columns == list(FLOWS.names):
        task.feed(header, frame, place)
