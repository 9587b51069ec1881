"""`collectors.kernels.octets` in Python: the same words and pointers, with an IndexError for what lies outside.

Intrinsics exist only in machine code, so without it this module takes their place (`install`). `fence` says where the
bytes end that a decoder may look at: its own frame's, not the buffer's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import numpy.typing as npt

LOADS = ("u8", "be16", "be32", "be64", "le16", "le32")
MASK = (1 << 64) - 1
_fences: list[tuple[int, int]] = []


@contextmanager
def fence(start: int, end: int) -> Iterator[None]:
    """Loads inside this block stay within start..end."""
    _fences.append((start, end))
    try:
        yield
    finally:
        _fences.pop()


def signed(word: int) -> np.int64:
    """As a machine word, which wraps in what the kernel does with it."""
    low = int(word) & MASK
    return np.int64(low - (1 << 64) if low >> 63 else low)


class Pointer:
    """An array's items from `base` on, as `pointer` and `beyond` give them; writing wraps as machine words do."""

    __slots__ = ("base", "flat")

    def __init__(self, flat: npt.NDArray[np.generic], base: int = 0) -> None:
        self.flat = flat
        self.base = base

    def __getitem__(self, at: int) -> np.generic:
        return self.flat[self.place(at, 1)]

    def __setitem__(self, at: int, value: int) -> None:
        place = self.place(at, 1)
        self.flat[place] = signed(value) if self.flat.dtype == np.int64 else int(value) & MASK >> self.unused

    @property
    def unused(self) -> int:
        """Bits of a machine word beyond an item's."""
        return 64 - 8 * self.flat.itemsize

    def place(self, at: int, count: int) -> int:
        start = self.base + int(at)
        if not 0 <= start <= start + count <= self.flat.size:
            raise IndexError(f"items {start}..{start + count} of {self.flat.size}")
        return start


def pointer(array: npt.NDArray[np.generic]) -> Pointer:
    """Kernels take it of whole arrays only."""
    return Pointer(array.reshape(-1))


def beyond(place: Pointer, count: int) -> Pointer:
    return Pointer(place.flat, place.base + int(count))


def _load(buffer: Pointer, at: int, size: int, order: str) -> np.int64:
    place = buffer.place(at, size)
    if _fences and not _fences[-1][0] <= place <= place + size <= _fences[-1][1]:
        raise IndexError(f"bytes {place}..{place + size}, outside of the frame at {_fences[-1]}")
    return signed(int.from_bytes(buffer.flat[place : place + size].tobytes(), "big" if order == "big" else "little"))


def u8(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 1, "big")


def be16(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 2, "big")


def be32(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 4, "big")


def be64(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 8, "big")


def le16(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 2, "little")


def le32(buffer: Pointer, at: int) -> np.int64:
    return _load(buffer, at, 4, "little")


def put64(buffer: Pointer, at: int, word: int) -> None:
    place = buffer.place(at, 8)
    stored = (int(word) & MASK).to_bytes(8, "big")
    buffer.flat[place : place + 8] = np.frombuffer(stored, np.uint8)


def fold(left: int, right: int) -> np.int64:
    product = (int(left) & MASK) * (int(right) & MASK)
    return signed(product >> 64 ^ product)


def shift_right(word: int, bits: int) -> np.int64:
    return signed((int(word) & MASK) >> int(bits))


def is_below(left: int, right: int) -> bool:
    return int(left) & MASK < int(right) & MASK


def touch(array: object, at: int) -> None:
    """Nothing to fetch."""


def mix(word: int) -> np.int64:
    word = int(word) & MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * factor & MASK
    return signed(word ^ word >> 33)


def install() -> None:
    """Before anything of `collectors` is imported."""
    module = ModuleType("collectors.kernels.octets")
    for name in (*LOADS, "put64", "pointer", "beyond", "fold", "shift_right", "is_below", "touch", "mix"):
        setattr(module, name, globals()[name])
    sys.modules["collectors.kernels.octets"] = module
