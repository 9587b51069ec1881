"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copymode

UNFINISHED = ".part"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what `path` is to hold: it gets its name when all of it is there, and none if that fails.

    Folders are made. A path that leads elsewhere (`/dev/stdout`, a pipe, a link) is written to as it is.
    """
    if leads_elsewhere(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        if path.exists():
            unfinished.touch()
            copymode(path, unfinished)  # who may read it stays as somebody chose
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def leads_elsewhere(path: Path) -> bool:
    """Whether what stands there is something else than a file of its own."""
    return path.is_symlink() or (path.exists() and not path.is_file())
