"""Bytes as the kernels see them: a NumPy array for machine code, a checked list of integers without it.

Machine code reads past the end of an array without a word. With `NUMBA_DISABLE_JIT=1` the same functions run in Python
over `Octets`, where an index outside 0..size raises IndexError, so that a fuzzer sees it.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt


class Octets:
    """As much of an array of bytes as kernels use; every place is an int and every access is checked."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, at: int | slice) -> int | bytes:
        return bytes(self._data[at]) if isinstance(at, slice) else self._data[self._checked(at)]

    def __setitem__(self, at: int, value: int) -> None:
        self._data[self._checked(at)] = int(value)

    def tobytes(self) -> bytes:
        return bytes(self._data)

    def _checked(self, at: int) -> int:
        if not 0 <= at < len(self._data):
            raise IndexError(f"byte {at} of {len(self._data)}")
        return int(at)


def octets(data: bytes) -> Octets | npt.NDArray[np.uint8]:
    return Octets(data) if numba.config.DISABLE_JIT else np.frombuffer(bytearray(data), np.uint8)


def room(size: int) -> Octets | npt.NDArray[np.uint8]:
    return octets(bytes(size))


def taken(array: Octets | npt.NDArray[np.uint8], start: int, end: int) -> bytes:
    return array.tobytes()[start:end]
