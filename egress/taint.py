"""Taint: weights that went from a holder to another host inside are charged when that host sends them out.

A host is charged at most for what it received before. Received bytes are kept in order of arrival, with the host that
each came from; the way from the holder is the one by which each host was tainted first. Within one minute everything
is received before anything is sent on, so a relay that streams is seen as well as one that stores.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

Path = tuple[str, ...]

HOPS_A_MINUTE = 8
"""A longer chain inside one minute is followed in the next ones; bounds the work where hosts talk in circles."""


class Edge(NamedTuple):
    """What one host inside sent to another in one minute; `covered` bytes of it under an approval."""

    minute: int
    src: str
    dst: str
    bytes: int
    covered: int
    first: int = 0
    last: int = 0


class Out(NamedTuple):
    """What left from one host in one minute."""

    minute: int
    host: str
    bytes: int


class Exit(NamedTuple):
    """Bytes `begin` to `end` of what left from `host` in a minute are of the model, and came from `provider`."""

    minute: int
    host: str
    begin: int
    end: int
    provider: str


class Arrival(NamedTuple):
    """Bytes of the model that came from `provider` in a minute, outside of any approval."""

    minute: int
    first: int
    last: int
    bytes: int
    provider: str


@dataclass
class _Received:
    """Tainted bytes that a host received, in order, as ends of stretches with one provider each."""

    ends: list[int] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    total: int = 0
    charged: int = 0

    def receive(self, amount: int, provider: str) -> None:
        self.total += amount
        if self.providers and self.providers[-1] == provider:
            self.ends[-1] = self.total
        else:
            self.ends.append(self.total)
            self.providers.append(provider)

    def charge(self, amount: int) -> Iterator[tuple[int, str]]:
        """The next bytes to be charged, by provider."""
        until = min(self.total, self.charged + amount)
        while self.charged < until:
            place = bisect_right(self.ends, self.charged)
            part = min(until, self.ends[place]) - self.charged
            self.charged += part
            yield part, self.providers[place]


class Relays:
    """One model's taint, folded over edges and exits in time order."""

    def __init__(self, holders: Iterable[str]) -> None:
        self.holders = frozenset(holders)
        self.exits: list[Exit] = []
        self.arrivals: dict[str, list[Arrival]] = defaultdict(list)
        self._received: dict[str, _Received] = defaultdict(_Received)
        self._carried: dict[tuple[str, str], int] = defaultdict(int)
        self._given_away = 0
        """What holders sent to others: nobody else can have more of the model than that."""

    def run(self, edges: Iterable[Edge], outs: Iterable[Out]) -> None:
        """Edges and exits in any order; edges into a holder are without effect, it is charged anyway."""
        by_minute: dict[int, tuple[list[Edge], list[Out]]] = defaultdict(lambda: ([], []))
        for edge in edges:
            if edge.dst not in self.holders:
                by_minute[edge.minute][0].append(edge)
        for out in outs:
            by_minute[out.minute][1].append(out)
        for minute in sorted(by_minute):
            self._pass_on(by_minute[minute][0])
            for out in by_minute[minute][1]:
                self._leave(out)

    def path(self, provider: str, host: str) -> Path:
        """From a holder to the provider, by the way on which each was tainted first, and on to the host."""
        way = [host, provider]
        while way[-1] not in self.holders:
            way.append(self._received[way[-1]].providers[0])
            if way[-1] == host:
                return self.path(self._received[host].providers[0], host)
        return tuple(reversed(way))

    def _pass_on(self, edges: list[Edge]) -> None:
        """Moves what each edge can carry, hop by hop: the hops of a chain may share a minute."""
        moved = [self._carry(edge, edge.bytes) for edge in edges]
        for _ in range(HOPS_A_MINUTE):
            more = [self._carry(edge, edge.bytes - done) for edge, done in zip(edges, moved, strict=True)]
            if not any(more):
                break
            moved = [done + further for done, further in zip(moved, more, strict=True)]
        for edge, amount in zip(edges, moved, strict=True):
            outside_approvals = min(amount, edge.bytes - edge.covered)
            if outside_approvals > 0:
                self.arrivals[edge.dst].append(Arrival(edge.minute, edge.first, edge.last, outside_approvals, edge.src))

    def _carry(self, edge: Edge, room: int) -> int:
        if not room:
            return 0
        src, dst = edge.src, edge.dst
        if src in self.holders:
            self._given_away += room
            amount = room
        else:
            # What a host got from another is nothing new to that one.
            fresh = self._received[src].total - self._carried[dst, src] - self._carried[src, dst]
            amount = min(room, fresh, self._given_away - self._received[dst].total)
        if amount <= 0:
            return 0
        self._carried[src, dst] += amount
        self._received[dst].receive(amount, src)
        return amount

    def _leave(self, out: Out) -> None:
        begin = 0
        for amount, provider in self._received[out.host].charge(out.bytes):
            self.exits.append(Exit(out.minute, out.host, begin, begin + amount, provider))
            begin += amount
