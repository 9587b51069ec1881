"""The engine: flows in, findings out. Replay, live detection and evaluation run this one and no other.

What is kept are sums, so batch sizes and batch order cannot change a finding; judging them is a pure function.
Detectors score a window before they learn it, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from egress import conversations, coverage, findings, ledger, severity, signals, sums, suppressions, unseen
from egress.contracts import Detector, Finding
from egress.grouping import coded
from egress.inventory import Inventory, attributed
from egress.sightings import ENDS, Gathering
from egress.sums import Seen

Detectors = Callable[[], Iterable[Detector]]
"""Makes detectors that have learned nothing yet."""
Attach = Callable[[Sequence[Finding]], list[Finding]]
"""Gives findings their evidence."""
Recall = Callable[[pl.DataFrame, Sequence[Finding]], severity.Context]
"""Gives what bears on scores, for these and for the ledger's findings."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to say about everything seen so far, and what it is made of."""

    findings: list[Finding]
    """Worst first."""
    charged: list[Finding]
    """The ledger's own, before a detector added a word."""
    scores: pl.DataFrame
    """Columns of `signals.SCORES`."""
    known: severity.Context
    """By what the scores were rated."""


class Engine:
    """Charges flows to hosts and models, and says what to make of them when asked."""

    def __init__(self, inventory: Inventory, detectors: Detectors) -> None:
        self.inventory = inventory
        self._detectors = detectors
        self._totals = sums.Totals(lambda kind: kind.add)
        self._gathering = Gathering()

    def feed(self, flows: pl.DataFrame) -> pl.DataFrame:
        """Takes columns of FLOWS; returns them with `host` and `side`, one row for each watched side.

        Rows about the other side of a conversation between two watched hosts come after all others.
        """
        codes, ends = coded(flows, ENDS)
        sides = self.inventory.sides(ends)
        self._gathering.take(flows, codes, ends, sides.filter(pl.col("host") != ""))
        if self._gathering.is_full:
            self._sum()
        return attributed(flows, codes, sides)

    def feed_heartbeats(self, frame: pl.DataFrame) -> None:
        """Takes columns of HEARTBEATS, in any order and as often as they come."""
        self._totals.append_heartbeats(frame)

    def cells(self) -> pl.DataFrame:
        return self._seen().cells

    def pieces_of_cells(self) -> Iterator[pl.DataFrame]:
        """The same, one after the other."""
        self._sum()
        return self._totals.pieces_of_cells()

    def signals(self) -> pl.DataFrame:
        return self._seen().signals

    def coverage(self) -> coverage.Coverage:
        """What nobody saw of the hosts that sent heartbeats."""
        return coverage_of(self._seen(), self.inventory)

    def findings(self) -> list[Finding]:
        """Everything found in what was fed so far, worst first. Feed on and ask again: the answer covers all of it."""
        return self.judge().findings

    def judge(self) -> Judgement:
        """Findings with what they rest on: evaluation measures ledger and detectors apart, too."""
        seen = self._seen()
        return judge(seen, self.inventory, lambda queue: scores_of(signals.tied(seen.signals, queue), self._detectors))

    def _seen(self) -> Seen:
        self._sum()
        return self._totals

    def _sum(self) -> None:
        if self._gathering.height:
            for kind, part in sums.of_each_kind(self._gathering.give(), self.inventory):
                self._totals.append(kind.name, part)


def judge(
    state: Seen,
    inventory: Inventory,
    scored: Callable[[pl.DataFrame], pl.DataFrame],
    charge: Callable[[], list[Finding]] | None = None,
    attach: Attach | None = None,
    recall: Recall | None = None,
    cover: Callable[[], coverage.Coverage] | None = None,
) -> Judgement:
    """What to make of a state; `scored` is asked for scores of its signals, tied to what the ledger found in the queue.

    Who judges again and again hands in a `charge` (the ledger's findings), an `attach`, a `recall` and a `cover` that
    remember: the answer is the same.
    """
    charged = ledger.evaluate(state.cells, inventory) if charge is None else charge()
    scores = scored(severity.in_queue(charged))
    known = (
        severity.context(state.signals, state.cells, scores, charged, inventory)
        if recall is None
        else recall(scores, charged)
    )
    detected = findings.from_scores(scores, inventory, state.watermark, known)
    fused = findings.fuse(charged, detected)
    fused = conversations.attach(fused, state.conversations) if attach is None else attach(fused)
    unwatched = _unwatched(state, inventory) if cover is None else unseen.findings_of(cover(), inventory)
    every = findings.in_order([*suppressions.suppress(fused, inventory), *unwatched])
    return Judgement(every, charged, scores, known)


def scores_of(seen: pl.DataFrame, detectors: Detectors) -> pl.DataFrame:
    """Scores of every window in event-time order, by detectors that start anew: an answer teaches them nothing."""
    judges = tuple(detectors())
    windows = seen.select("window_start").with_row_index().group_by("window_start", maintain_order=True).agg("index")
    scores = [signals.SCORES.empty()]
    for number, rows in enumerate(windows["index"], 1):
        window = seen[rows]
        for detector in judges:
            scores.append(detector.score(window))
            if number < windows.height:  # nothing comes after the last
                detector.learn(window)
    return pl.concat(scores)


def coverage_of(state: Seen, inventory: Inventory) -> coverage.Coverage:
    return coverage.of(state.heartbeats, state.on_cards, state.cells, state.watermark, inventory)


def _unwatched(state: Seen, inventory: Inventory) -> list[Finding]:
    if state.heartbeats.is_empty():  # then nothing is added up that only they ask for
        return []
    return unseen.findings_of(coverage_of(state, inventory), inventory)
