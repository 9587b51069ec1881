"""Progress on a terminal while inputs are read: bytes, rate and time left; silent anywhere else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from egress.contracts import Tally

if TYPE_CHECKING:
    from rich.console import Console

Draw = Callable[[int], None]
"""Takes the bytes read so far."""


class Watch:
    """Draws how far reading has come, and says after Ctrl-C that it should end."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._is_stopping = False

    def __call__(self, tally: Tally) -> bool:
        self._draw(sum(one.bytes for one in tally.inputs))
        return not self._is_stopping

    def stop(self, number: int, frame: FrameType | None) -> None:
        """The first Ctrl-C ends reading at the next batch; the second ends the process as usual."""
        self._is_stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def watching(paths: Sequence[Path], console: Console | None) -> Iterator[Watch]:
    """A `Watch` over inputs whose sizes are known (standard input's is not); without a console nothing is drawn."""
    with _bar(paths, console) as draw:
        watch = Watch(draw)
        before = signal.signal(signal.SIGINT, watch.stop)
        try:
            yield watch
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def drawing(paths: Sequence[Path], console: Console | None) -> Iterator[Callable[[Tally], bool]]:
    """The same for who sees to signals by himself: draws, and never says stop."""
    with _bar(paths, console) as draw:
        yield Watch(draw)


@contextmanager
def _bar(paths: Sequence[Path], console: Console | None) -> Iterator[Draw]:
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Rate

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), Rate(), TimeRemainingColumn())
    total = sum(path.stat().st_size for path in paths if path.is_file()) or None
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda done: bar.update(task, completed=done)
