"""One piece of work at a time on a thread of its own, so that the thread that polls never waits for it.

Threads cannot be killed: what nobody wants any more is told so, and ends where it next asks. Until then nothing else is
begun, so there are never two, and an interpreter that ends waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Generic, TypeVar

Result = TypeVar("Result")
Check = Callable[[], None]
"""What work calls between its steps; it raises where nobody waits for the result any more."""


class UnwantedError(Exception):
    """Raised inside work whose result nobody waits for any more; its state is half done and must not be used."""


def go_on() -> None:
    """The check of work that is always waited for."""


class Aside(Generic[Result]):
    """Takes work and gives its result once, to the thread that it was made for."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._running: Future[Result] | None = None
        self._dropped = Event()

    def is_free(self) -> bool:
        """Nothing runs, not even what was dropped, and no result waits."""
        if self._running is not None and self._dropped.is_set() and self._running.done():
            self._running = None
        return self._running is None

    def start(self, work: Callable[[Check], Result]) -> None:
        """Begins; `work` is given what to call between its steps. Only where `is_free`."""
        assert self.is_free()
        dropped = self._dropped = Event()

        def check() -> None:
            if dropped.is_set():
                raise UnwantedError

        self._running = self._pool.submit(work, check)

    def taken(self, timeout_s: float = 0.0) -> list[Result]:
        """The result if it is there within the time, once; raises what the work raised."""
        if self._running is None or self._dropped.is_set():
            return []
        if timeout_s and not self._running.done():
            wait([self._running], timeout_s)
        if not self._running.done():
            return []
        done, self._running = self._running, None
        return [done.result()]

    def drop(self) -> None:
        """Nobody wants the result any more."""
        self._dropped.set()

    def close(self) -> None:
        """As `drop`, for good; waits for nothing."""
        self.drop()
        self._pool.shutdown(wait=False)
