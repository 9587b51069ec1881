"""Work on frames beside whoever reads them: on a thread of its own, in order, a few frames behind at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

import polars as pl

BEHIND = 2
"""Frames that wait at most: reading and summing take turns then, and memory stays bounded."""

Got = TypeVar("Got")


class Feeder(Generic[Got]):
    """Answers come in the order of the frames; an error of the work is raised by the next call.

    Polars releases the interpreter while it sums, so that a meter's kernels run meanwhile.
    """

    def __init__(self, work: Callable[[pl.DataFrame], Got]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feeder")
        self._under_way: deque[Future[Got]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def put(self, frame: pl.DataFrame) -> list[Got]:
        """What is done by now, in order; waits while too many frames are under way."""
        self._under_way.append(self._thread.submit(self._work, frame))
        return self._done(BEHIND)

    def finish(self) -> list[Got]:
        """What was still under way."""
        return self._done(0)

    def _done(self, behind: int) -> list[Got]:
        return [self._under_way.popleft().result() for _ in range(len(self._under_way) - behind)]
