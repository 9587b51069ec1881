"""How kernels are compiled, and where their machine code is kept between runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys
from numba.np import linalg

F = TypeVar("F", bound=Callable[..., Any])


def _cache_folder() -> str:
    """A folder of the user's, named after the kernels' source.

    Numba looks only at the file of the outermost function: after an edit of a kernel that it calls, it would go on
    running the old machine code. And an installation may be read-only.
    """
    digest = sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(base) / "egress" / f"kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


def _no_blas() -> None:
    raise ImportError("kernels multiply no matrices")


# Before the first kernel is loaded numba imports scipy, if it is installed, only to learn whether BLAS is there: 0.2 s.
linalg.ensure_blas = _no_blas

_config: Any = numba.config
if not _config.CACHE_DIR:
    _config.CACHE_DIR = _cache_folder()
IS_CACHED = bool(_config.CACHE_DIR)
"""False where no folder can be written: kernels then compile anew in each process, about half a minute."""


class _MachineCode(FunctionCache):
    """Loads without declaring all that numba could compile, which takes 0.1 s; compiling declares it by itself."""

    def load_overload(self, sig: object, target_context: object) -> object:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


def kernel(function: F) -> F:
    """`function` as machine code that Python calls; it runs without the interpreter's lock."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    if IS_CACHED:
        compiled._cache = _MachineCode(function)  # type: ignore[no-untyped-call]
    return cast(F, compiled)


def step(function: F) -> F:
    """`function` as a part of kernels, always inlined: a call would pass every array in seven registers."""
    return cast(F, numba.njit(forceinline=True, nogil=True, error_model="numpy")(function))


def part(function: F) -> F:
    """`function` as a part of kernels that is called, not inlined: what few packets need would only be in the way."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))
