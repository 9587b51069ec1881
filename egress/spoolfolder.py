"""The folder of a spool: whose it is, and which files are in it."""

from __future__ import annotations

from pathlib import Path

from egress import folderlock
from egress.errors import StoreError
from egress.folderlock import HeldError

LOCK_NAME = "spool.lock"
LIVE = ".seg"
"""Records that wait."""
SHED = ".shed"
"""A segment that was given up: its tombstones, or, after a crash at the wrong moment, still its records."""
SHED_SUM = ".shedsum"
"""Tombstones in place of those in all `.shed` and `.shedsum` of a lower number."""
UNFINISHED = ".part"


class FolderLock(folderlock.FolderLock):
    """Holds a spool's folder for this process, and clears away what was not finished when another died."""

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(folder, "spool", LOCK_NAME, 0o700)
        except HeldError as error:
            by = f"process {error.holder}" if error.holder else "another process"
            raise StoreError(f"spool {folder}: in use by {by}; stop it, or name another folder") from error
        except OSError as error:
            raise StoreError(f"spool {folder}: {error.strerror}; name a folder that can be written") from error
        for path in folder.glob(f"*{UNFINISHED}"):
            path.unlink()
