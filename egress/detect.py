"""The engine: flows in, findings out. Replay, live detection and evaluation run this one and no other.

What it keeps are sums (ledger cells, signals, conversations), so batch sizes and batch order cannot change a finding.
Detectors score a window before they learn it, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from egress import cardbytes, conversations, coverage, findings, heartbeats, ledger, signals, unseen
from egress.contracts import Detector, Finding
from egress.inventory import Inventory
from egress.vantage import dated

PARTS_BEFORE_ADDING = 32
"""Partial sums held before they are added up: adding costs a sort, holding costs memory."""


@dataclass
class Sums:
    """Partial sums under one law of addition, which must be associative and commutative."""

    add: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
    parts: list[pl.DataFrame] = field(default_factory=list)

    def append(self, part: pl.DataFrame) -> None:
        self.parts.append(part)
        if len(self.parts) >= PARTS_BEFORE_ADDING:
            self.parts = [self.add(self.parts)]

    def total(self) -> pl.DataFrame:
        self.parts = [self.add(self.parts)]
        return self.parts[0]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to say about everything fed so far, and what it is made of."""

    findings: list[Finding]
    """Worst first."""
    charged: list[Finding]
    """The ledger's own, before a detector added a word."""
    scores: pl.DataFrame
    """Columns of `signals.SCORES`."""


class Engine:
    """Charges flows to hosts and models, and says what to make of them when asked."""

    def __init__(self, inventory: Inventory, detectors: Callable[[], Iterable[Detector]]) -> None:
        self.inventory = inventory
        self._detectors = detectors
        self._cells = Sums(ledger.add)
        self._signals = Sums(signals.add)
        self._conversations = Sums(conversations.add)
        self._on_cards = Sums(cardbytes.add)
        self._heartbeats = Sums(heartbeats.add)

    def feed(self, flows: pl.DataFrame) -> pl.DataFrame:
        """Takes columns of FLOWS; returns them with `host` and `side`, one row for each watched side."""
        rows = self.inventory.attribute(flows)
        watched = rows.filter(pl.col("host") != "")
        if watched.height:
            self._cells.append(ledger.cells_of(watched))
            self._signals.append(signals.of(watched, self.inventory))
            self._conversations.append(conversations.of(watched))
            self._on_cards.append(cardbytes.of(watched))
        return rows

    def feed_heartbeats(self, frame: pl.DataFrame) -> None:
        """Takes columns of HEARTBEATS, in any order and as often as they come."""
        self._heartbeats.append(frame)

    def cells(self) -> pl.DataFrame:
        return self._cells.total()

    def coverage(self) -> coverage.Coverage:
        """What nobody saw of the hosts that sent heartbeats."""
        cells, beats = self.cells(), self._heartbeats.total()
        return coverage.of(beats, self._on_cards.total(), cells, dated(cells).watermark, self.inventory)

    def findings(self) -> list[Finding]:
        """Everything found in what was fed so far, worst first. Feed on and ask again: the answer covers all of it."""
        return self.judge().findings

    def judge(self) -> Judgement:
        """Findings with what they rest on: evaluation measures ledger and detectors apart, too."""
        cells = self.cells()
        charged = ledger.evaluate(cells, self.inventory)
        scores = self._scores()
        detected = findings.from_scores(scores, self.inventory, dated(cells).watermark)
        fused = conversations.attach(findings.fuse(charged, detected), self._conversations.total())
        return Judgement(findings.in_order([*fused, *self._unseen()]), charged, scores)

    def _unseen(self) -> list[Finding]:
        if self._heartbeats.total().is_empty():
            return []
        return unseen.findings_of(self.coverage(), self.inventory)

    def _scores(self) -> pl.DataFrame:
        """Scores of every window in event-time order, by detectors that start anew: an answer teaches them nothing."""
        detectors = tuple(self._detectors())
        windows = self._signals.total().partition_by("window_start", maintain_order=True)
        scores = [signals.SCORES.empty()]
        for number, window in enumerate(windows, 1):
            for detector in detectors:
                scores.append(detector.score(window))
                if number < len(windows):  # nothing comes after the last
                    detector.learn(window)
        return pl.concat(scores)
