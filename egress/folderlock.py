"""A folder that belongs to one process at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from egress.errors import StoreError


class HeldError(Exception):
    """Another holds the folder."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder
        """Its process id, as it wrote it down; empty if it could not."""


class FolderLock:
    """Holds a folder for this process; the system lets go of it whenever the process ends, however it ends."""

    def __init__(self, folder: Path, what: str, lock_name: str, folder_mode: int = 0o777) -> None:
        """Raises StoreError for a folder that is not of this kind, HeldError, and OSError where it cannot be made."""
        _refuse_foreign(folder, what, lock_name)
        folder.mkdir(parents=True, exist_ok=True, mode=folder_mode)
        self._file = os.open(folder / lock_name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, folder_mode & 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise HeldError(holder if holder.isdecimal() else "") from error
        with suppress(OSError):  # a full disk: the process id is a courtesy
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _refuse_foreign(folder: Path, what: str, lock_name: str) -> None:
    """Anything but an empty folder or one of this kind is left alone: files would be scattered among somebody's."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{what} {folder}: a file, not a folder; name another place")
    if folder.is_dir() and not (folder / lock_name).exists() and any(folder.iterdir()):
        raise StoreError(f"{what} {folder}: has files in it that are not a {what}'s; name an empty or a new folder")
