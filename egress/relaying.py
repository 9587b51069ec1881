"""Taint of all models, folded on from where nothing has changed since.

A memo, not a truth: each model's relays are what `taint.Relays` gives for all edges and exits, whatever was asked
before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress.memo import borders_before, borders_kept, first_change
from egress.taint import Edges, Out, Relays

NEVER = -(2**63)


@dataclass
class _Folded:
    """One model's last answer: what it followed from, and states of the fold before some hours."""

    holders: frozenset[str]
    leaving: frozenset[str]
    tainted: frozenset[str]
    outs: pl.DataFrame
    states: dict[int, Relays] = field(default_factory=dict)
    """By time: everything before it was folded, nothing from then on."""


class Relaying:
    """Folds of all models over one fleet's edges."""

    def __init__(self) -> None:
        self._edges: pl.DataFrame | None = None
        self._folded: dict[str, _Folded] = {}
        self.folded = 0
        """Edges folded so far, each time that one was."""

    def begin(self, edges: pl.DataFrame) -> None:
        """Takes all edges, in canonical order: before models are asked for."""
        changed = NEVER if self._edges is None else first_change(self._edges, edges, "minute")
        self._edges = edges
        for folded in self._folded.values():
            folded.states = _until(folded.states, changed)

    def relays(
        self, model: str, holders: Sequence[str], tainted: Collection[str], edges: pl.DataFrame, outs: pl.DataFrame
    ) -> Relays:
        """The model's relays. `edges` are those, of all that it was begun with, that lead to `tainted` hosts; `outs`
        what left from these, both in order of time."""
        now = _Folded(frozenset(holders), frozenset(outs["host"].unique()), frozenset(tainted), outs)
        now.states = self._usable(self._folded.get(model), now)
        last = max((int(frame["minute"][-1]) for frame in (edges, outs) if frame.height), default=0)
        relays = self._newest(now)
        begin = max(now.states, default=NEVER)
        for border in borders_before(last):
            if border > begin:
                self._fold(relays, _between(edges, begin, border), _between(outs, begin, border))
                now.states[border], begin = relays.copy(), border
        self._fold(relays, _from(edges, begin), _from(outs, begin))
        now.states = {border: now.states[border] for border in borders_kept(now.states)}
        self._folded[model] = now
        return relays

    def _usable(self, before: _Folded | None, now: _Folded) -> dict[int, Relays]:
        """States that rest on nothing that is other than it was."""
        if before is None or (before.holders, before.leaving, before.tainted) != (
            now.holders,
            now.leaving,
            now.tainted,
        ):
            return {}
        return _until(before.states, first_change(before.outs, now.outs, "minute"))

    def _newest(self, now: _Folded) -> Relays:
        if now.states:
            return now.states[max(now.states)].copy()
        relays = Relays(now.holders)
        relays.expect(now.leaving)
        return relays

    def _fold(self, relays: Relays, edges: pl.DataFrame, outs: pl.DataFrame) -> None:
        self.folded += edges.height
        columns = Edges(*(edges[name].to_list() for name in Edges._fields))
        relays.run(columns, map(Out._make, outs.select(Out._fields).iter_rows()))


def _until(states: dict[int, Relays], changed: int) -> dict[int, Relays]:
    return {border: state for border, state in states.items() if border <= changed}


def _between(frame: pl.DataFrame, begin: int, end: int) -> pl.DataFrame:
    return frame.filter(pl.col("minute").is_between(begin, end, closed="left"))


def _from(frame: pl.DataFrame, begin: int) -> pl.DataFrame:
    return frame.filter(pl.col("minute") >= begin)
