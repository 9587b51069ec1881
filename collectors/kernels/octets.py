"""Reading and mixing machine words inside kernels.

Everything in a kernel is int64, whatever its sign means, because numba turns int64 with uint64 into floats. Nothing
here checks bounds: whoever calls has compared the position with the end of the captured bytes. Kernels get arrays and
hand on pointers to them: numba counts references to arrays, at every call and every slice, which cost 200 ns a packet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped] # ships no types
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from collectors.kernels.compiled import step
from collectors.kernels.row_types import Bytes, Words

_WORD = ir.IntType(64)

Place = TypeVar("Place", Bytes, Words, NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint64])


class _Same(Protocol):
    def __call__(self, array: Place) -> Place: ...


class _Moved(Protocol):
    def __call__(self, place: Place, count: int) -> Place: ...


class _Stored(Protocol):
    def __call__(self, buffer: Bytes, at: int, word: int) -> None: ...


class _Touched(Protocol):
    def __call__(self, array: Place, at: int) -> None: ...


def _compiled(definition: Callable[..., Any]) -> Any:
    """What a kernel can call; the annotation where it is bound says how."""
    return intrinsic(definition)


def _load(bits: int, is_big: bool) -> Callable[[Bytes, int], int]:
    def load(typing_context: Any, buffer: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.gep(arguments[0], [arguments[1]])
            place = builder.bitcast(place, ir.IntType(bits).as_pointer())
            value = builder.load(place, align=1)
            if is_big and bits > 8:
                value = builder.bswap(value)
            return builder.zext(value, _WORD) if bits < 64 else value

        return types.int64(buffer, types.int64), generate

    loaded: Callable[[Bytes, int], int] = _compiled(load)
    return loaded


u8 = _load(8, True)
be16 = _load(16, True)
be32 = _load(32, True)
be64 = _load(64, True)
le16 = _load(16, False)
le32 = _load(32, False)


def _fold(typing_context: Any, left: Any, right: Any) -> Any:
    """Both halves of the 128-bit product of two words, xor-ed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.trunc(builder.lshr(product, wide(64)), _WORD)
        return builder.xor(high, builder.trunc(product, _WORD))

    return types.int64(types.int64, types.int64), generate


fold: Callable[[int, int], int] = _compiled(_fold)


def _shift_right(typing_context: Any, word: Any, bits: Any) -> Any:
    """`word` moved right with zeros coming in."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.lshr(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


shift_right: Callable[[int, int], int] = _compiled(_shift_right)


def _is_below(typing_context: Any, left: Any, right: Any) -> Any:
    """`left < right` as unsigned words."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.icmp_unsigned("<", arguments[0], arguments[1])

    return types.boolean(types.int64, types.int64), generate


is_below: Callable[[int, int], bool] = _compiled(_is_below)


def _pointer(typing_context: Any, array: Any) -> Any:
    """The array's data without its size and reference count; the caller of the kernel keeps the array alive."""

    of_items: Any = types.CPointer

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return of_items(array.dtype)(array), generate


pointer: _Same = _compiled(_pointer)


def _beyond(typing_context: Any, place: Any, count: Any) -> Any:
    """Pointer to what stands `count` items behind `place`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return place(place, types.int64), generate


beyond: _Moved = _compiled(_beyond)


def _put64(typing_context: Any, buffer: Any, at: Any, word: Any) -> Any:
    """Store a word big-endian."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), _WORD.as_pointer())
        builder.store(builder.bswap(arguments[2]), place, align=1)
        return context.get_dummy_value()

    return types.none(buffer, types.int64, types.int64), generate


put64: _Stored = _compiled(_put64)


def _touch(typing_context: Any, array: Any, at: Any) -> Any:
    """Ask the processor to fetch the cache line of `array[at]`, and go on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        name = "llvm.prefetch.p0" if "ptr" in str(place.type) and "*" not in str(place.type) else "llvm.prefetch.p0i8"
        prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(prefetch, [place, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


touch: _Touched = _compiled(_touch)


@step
def mix(word: int) -> int:
    """A bijection that spreads every bit over all others (the finaliser of MurmurHash3, public domain)."""
    word ^= shift_right(word, 33)
    word *= -49064778989728563  # 0xff51afd7ed558ccd
    word ^= shift_right(word, 33)
    word *= -4265267296055464877  # 0xc4ceb9fe1a85ec53
    return word ^ shift_right(word, 33)
