"""What is given back to the system, as the system counts it."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pyarrow as pa
import pytest

from egress import memory

BLOCKS, BLOCK = 500, 100_000
"""Smaller than what the C library maps, and so gives back, by itself."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_was_freed_goes_back() -> None:
    """One block that is still in use above the others keeps all of them from going back by themselves."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("not glibc: other C libraries keep nothing")
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:
        libc.free(block)

    before = resident()
    memory.give_back()

    assert before - resident() > BLOCKS * BLOCK // 2
    libc.free(blocks[-1])


def test_what_rows_were_unpacked_into_goes_back() -> None:
    """Arrow holds on to it, whatever the C library does."""
    pool = pa.default_memory_pool()
    if pool.backend_name == "system":
        pytest.skip("Arrow has none of its own here")
    buffers = [pa.allocate_buffer(1 << 20) for _ in range(50)]
    for buffer in buffers:
        ctypes.memset(buffer.address, 1, buffer.size)
    del buffers, buffer

    before = resident()
    memory.give_back()

    assert before - resident() > 25 << 20
