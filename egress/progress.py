"""Progress on a terminal while inputs are read: bytes, rate and time left; silent anywhere else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Rate

from egress.contracts import Tally


class Watch:
    """Draws how far reading has come, and says after Ctrl-C that it should end."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._is_stopping = False

    def __call__(self, tally: Tally) -> bool:
        self._bar.update(self._task, completed=sum(one.bytes for one in tally.inputs))
        return not self._is_stopping

    def stop(self, number: int, frame: FrameType | None) -> None:
        """The first Ctrl-C ends reading at the next batch; the second ends the process as usual."""
        self._is_stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def watching(paths: Sequence[Path], console: Console, is_quiet: bool) -> Iterator[Watch]:
    """A `Watch` over inputs whose sizes are known (standard input's is not)."""
    with _bar(paths, console, is_quiet) as (bar, task):
        watch = Watch(bar, task)
        before = signal.signal(signal.SIGINT, watch.stop)
        try:
            yield watch
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def drawing(paths: Sequence[Path], console: Console, is_quiet: bool) -> Iterator[Callable[[Tally], bool]]:
    """The same for who sees to signals by himself: draws, and never says stop."""
    with _bar(paths, console, is_quiet) as (bar, task):
        yield Watch(bar, task)


@contextmanager
def _bar(paths: Sequence[Path], console: Console, is_quiet: bool) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), Rate(), TimeRemainingColumn())
    total = sum(path.stat().st_size for path in paths if path.is_file()) or None
    with Progress(*columns, console=console, transient=True, disable=is_quiet or not console.is_terminal) as bar:
        yield bar, bar.add_task("reading", total=total)
