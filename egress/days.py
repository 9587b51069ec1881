"""What is kept of each UTC day: opened only by whoever has to look at it again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from egress.portions import Packed, opened, packed


@dataclass(frozen=True, slots=True)
class Day:
    """Rows of one kind whose time is of one day."""

    number: int
    """UTC days since 1970."""
    version: Hashable
    """Another one as soon as a row may be another; a keeper never uses one again, and says nothing of another's."""
    opened: Callable[[], pl.DataFrame]
    """The rows, made anew each time, in the order of the whole."""


class Daily(Protocol):
    """What is kept by days."""

    def days(self, kind: str) -> list[Day]:
        """The days that there are of a kind of sums, or of heartbeats, in order."""


Frames = tuple[pl.DataFrame, ...]
Step = Callable[[pl.DataFrame], Frames]


@dataclass
class Answers:
    """What a step said of each day, which follows from the day's rows alone.

    A memo, not a truth: answers are what the step gives when it is asked about every day.
    """

    packs: bool = False
    """Answers are large: those that did not change lie packed until somebody asks again."""
    asked: int = 0
    """Days that the step was asked about, each time that it was."""
    _known: dict[int, tuple[Hashable, Sequence[pl.DataFrame | Packed]]] = field(default_factory=dict)
    """By day, its version and the answer."""
    _rests_on: object = None

    def of(self, days: Iterable[Day], step: Step, rests_on: object) -> list[Frames]:
        """What `step` gives for each of the days, in their order; only those that changed are opened.

        `rests_on` is what else the answers follow from: where it is another object, every day is asked about again.
        """
        if self._rests_on is not rests_on:
            self._known, self._rests_on = {}, rests_on
        self._known = {day.number: (day.version, self._answer(day, step)) for day in days}
        return [tuple(map(opened, answer)) for _, answer in self._known.values()]

    def _answer(self, day: Day, step: Step) -> Sequence[pl.DataFrame | Packed]:
        version, answer = self._known.get(day.number, (None, ()))
        if version == day.version:
            return (
                [packed(part) if isinstance(part, pl.DataFrame) else part for part in answer] if self.packs else answer
            )
        self.asked += 1
        return step(day.opened())
