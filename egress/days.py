"""What is kept of each UTC day: opened only by whoever has to look at it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Day:
    """Rows of one kind whose time is of one day."""

    number: int
    """UTC days since 1970."""
    version: int
    """Another one as soon as a row may be another; a keeper never uses one again, and says nothing of another's."""
    opened: Callable[[], pl.DataFrame]
    """The rows, made anew each time, in the order of the whole."""
