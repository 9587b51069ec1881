"""`collectors.octets` in Python: the same words, and an IndexError for every byte that was not captured.

Intrinsics exist only in machine code, so without it this module takes their place (`install`). `fence` says where the
bytes end that the kernel may look at: its own frame's, not the buffer's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

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


def signed(word: int) -> int:
    word &= MASK
    return word - (1 << 64) if word >> 63 else word


def _load(buffer: Sequence[int], at: int, size: int, order: str) -> int:
    start, end = _fences[-1] if _fences else (0, len(buffer))
    if not max(start, 0) <= at <= at + size <= min(end, len(buffer)):
        raise IndexError(f"bytes {at}..{at + size} of {start}..{end}")
    return signed(int.from_bytes(bytes(buffer[int(at) : int(at) + size]), "big" if order == "big" else "little"))


def u8(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 1, "big")


def be16(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 2, "big")


def be32(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 4, "big")


def be64(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 8, "big")


def le16(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 2, "little")


def le32(buffer: Sequence[int], at: int) -> int:
    return _load(buffer, at, 4, "little")


def fold(left: int, right: int) -> int:
    product = (int(left) & MASK) * (int(right) & MASK)
    return signed(product >> 64 ^ product)


def shift_right(word: int, bits: int) -> int:
    return signed((int(word) & MASK) >> bits)


def is_below(left: int, right: int) -> bool:
    return int(left) & MASK < int(right) & MASK


def touch(array: object, at: int) -> None:
    """Nothing to fetch."""


def mix(word: int) -> int:
    word = int(word) & MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * factor & MASK
    return signed(word ^ word >> 33)


def install() -> None:
    """Before anything of `collectors` is imported."""
    module = ModuleType("collectors.octets")
    names = ("u8", "be16", "be32", "be64", "le16", "le32", "fold", "shift_right", "is_below", "touch", "mix")
    for name in names:
        setattr(module, name, globals()[name])
    sys.modules["collectors.octets"] = module
