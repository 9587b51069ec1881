"""Deals blows to a running site, and notes what they cost."""

from __future__ import annotations

import heapq
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from egress.errors import EgressError
from tests.chaos.probe import Probe
from tests.chaos.schedule import BROKERS, COLLECTOR, FREEZE, KILL, LEADER, Blow
from tests.chaos.site import Site, until

PARTITION = 0
"""Of flows: whose leader is hit."""
WATCHED_S = 20.0
"""Of silence looked for after a leader fell."""
STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class Fall:
    """A leader that was killed or frozen, when, and which of the probe's partitions it led."""

    how: str
    at: float
    partitions: tuple[int, ...]


@dataclass
class Chaos:
    """One schedule on one site."""

    site: Site
    probe: Probe
    falls: list[Fall] = field(default_factory=list)
    dealt: list[Blow] = field(default_factory=list)
    missed: list[Blow] = field(default_factory=list)
    """Blows at a target that was not there: a collector that had come to its end, or brokers not yet in step."""
    deaths: list[tuple[str, int]] = field(default_factory=list)
    """Pieces that ended by themselves, with their exit codes; they are started again, as a supervisor does."""
    _down: set[str] = field(default_factory=set)

    def run(self, blows: Sequence[Blow], seconds: float, say: Callable[[str], None] = print) -> None:
        """Everything that is hit is up again at the end, and copies of all partitions are in step."""
        began, order = time.monotonic(), count()
        due = [(blow.at_s, next(order), self._begin, blow) for blow in blows]
        heapq.heapify(due)
        downed: dict[Blow, int] = {}
        while due or time.monotonic() < began + seconds:
            self.site.go_on_collecting()
            self._supervise()
            if not due or time.monotonic() < began + due[0][0]:
                time.sleep(STEP_S)
                continue
            _, _, act, blow = heapq.heappop(due)
            if act == self._begin:
                if not self._begin(blow, downed):
                    self.missed.append(blow)
                    continue
                say(str(blow))
                self.dealt.append(blow)
                heapq.heappush(due, (time.monotonic() - began + blow.down_s, next(order), self._end, blow))
            else:
                self._end(blow, downed)
        self.in_step()

    def pauses(self, how: str) -> list[float]:
        """Seconds that writing or reading paused after each fall of this kind."""
        return [
            self.probe.pause(fall.partitions, fall.at, fall.at + WATCHED_S) for fall in self.falls if fall.how == how
        ]

    def in_step(self) -> None:
        """Waits until every broker runs and holds all of what it should."""
        brokers = self.site.brokers
        topic = self.site.settings.topic("flows")

        def is_so() -> bool:
            with suppress(Exception):  # a cluster that is being rearranged answers with all sorts
                return all(len(brokers.in_sync(topic, each)) == len(brokers.nodes) for each in range(2))
            return False

        until(is_so, "copies in step")

    def _supervise(self) -> None:
        for name, piece in self.site.pieces.items():
            code = piece.process.poll() if piece.process is not None else None
            if code is not None and name not in self._down and not (name == COLLECTOR and code == 0):
                self.deaths.append((name, code))
                self._restart(name)

    def _begin(self, blow: Blow, downed: dict[Blow, int]) -> bool:
        if blow.whom == LEADER:
            return self._fell(blow, downed)
        if blow.whom == BROKERS:
            for node in self.site.brokers.nodes:
                self.site.brokers.stop(node)
            return True
        piece = self.site.pieces[blow.whom]
        if not piece.is_running:
            return False
        self._down.add(blow.whom)
        if blow.how == KILL:
            piece.kill()
        else:
            piece.signal(signal.SIGSTOP)
        return True

    def _end(self, blow: Blow, downed: dict[Blow, int]) -> bool:
        if blow.whom == LEADER:
            self._rises(blow, downed[blow])
        elif blow.whom == BROKERS:
            for node in self.site.brokers.nodes:
                self.site.brokers.go_on(node)
        elif blow.how == FREEZE:
            self.site.pieces[blow.whom].signal(signal.SIGCONT)
        else:
            self._restart(blow.whom)
        self._down.discard(blow.whom)
        return True

    def _restart(self, whom: str) -> None:
        if whom == COLLECTOR:
            self.site.collect(self.site.pace)
        else:
            self.site.pieces[whom].start()

    def _fell(self, blow: Blow, downed: dict[Blow, int]) -> bool:
        """Only where the others hold everything: of three, one may fail."""
        brokers, topic = self.site.brokers, self.site.settings.topic("flows")
        try:
            if len(brokers.in_sync(topic, PARTITION)) < len(brokers.nodes):
                return False
            node = brokers.leader(topic, PARTITION)
            led = tuple(each for each in self.probe.partitions if brokers.leader(self.probe.topic, each) == node)
        except (EgressError, OSError):
            return False
        downed[blow] = node
        self.falls.append(Fall(blow.how, time.monotonic(), led))
        if blow.how == KILL:
            brokers.kill(node)
        else:
            brokers.stop(node)
        return True

    def _rises(self, blow: Blow, node: int) -> None:
        if blow.how == KILL:
            self.site.brokers.restart(node, wait=False)
        else:
            self.site.brokers.go_on(node)
