"""Hashing beside other work: a thread that digests what is read while it is being metered."""

from __future__ import annotations

from hashlib import sha256
from queue import SimpleQueue
from threading import Semaphore, Thread

HASHER = "egress-hasher"
"""Name of that thread."""


class HashAside:
    """A SHA-256 whose `update` returns at once; what it was given must stay as it is for `most` updates more."""

    def __init__(self, most: int) -> None:
        self._digest = sha256()
        self._waiting: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        self._room = Semaphore(most)
        self._thread = Thread(target=self._run, name=HASHER, daemon=True)
        self._thread.start()

    def update(self, data: bytes | memoryview) -> None:
        self._room.acquire()
        self._waiting.put(data)

    def hexdigest(self) -> str:
        """The digest of everything; the thread ends with it."""
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._digest.update(data)
            self._room.release()
