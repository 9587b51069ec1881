"""Memory that nobody uses any more goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Of what was freed, the C library keeps much for later: 80 MB after reading a large capture. Others keep none.

    Arrow's own keeps as much again, where rows were unpacked.
    """
    arrow = sys.modules.get("pyarrow")  # who has not imported it has none of its memory
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
