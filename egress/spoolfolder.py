"""The folder of a spool: whose it is, and which files are in it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from egress.errors import StoreError

LOCK_NAME = "spool.lock"
LIVE = ".seg"
"""Records that wait."""
SHED = ".shed"
"""A segment that was given up: its tombstones, or, after a crash at the wrong moment, still its records."""
SHED_SUM = ".shedsum"
"""Tombstones in place of those in all `.shed` and `.shedsum` of a lower number."""
UNFINISHED = ".part"


class FolderLock:
    """Holds a spool's folder for this process; the system lets go of it whenever the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        _refuse_foreign(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"spool {folder}: {error.strerror}; name a folder that can be written") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            by = f"process {holder}" if holder.isdecimal() else "another process"
            raise StoreError(f"spool {folder}: in use by {by}; stop it, or name another folder") from error
        with suppress(OSError):  # a full disk: the process id is a courtesy
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        for path in folder.glob(f"*{UNFINISHED}"):
            path.unlink()

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"spool {folder}: a file, not a folder; name another place")
    if folder.is_dir() and not (folder / LOCK_NAME).exists() and any(folder.iterdir()):
        raise StoreError(f"spool {folder}: has files in it that are not a spool's; name an empty or a new folder")
