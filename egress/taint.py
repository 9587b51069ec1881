"""Taint: weights that went from a holder to another host inside are charged when that host sends them out.

A host is charged at most for what it received before. Received bytes are kept in order of arrival, with the host that
each came from; the way from the holder is the one by which each host was tainted first. Within one minute everything
is received before anything is sent on, so a relay that streams is seen as well as one that stores.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
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


class Edges(NamedTuple):
    """Columns of edges, in order of time. There may be millions, and an object each would cost more than the fold."""

    minute: Sequence[int]
    src: Sequence[str]
    dst: Sequence[str]
    bytes: Sequence[int]
    covered: Sequence[int]
    first: Sequence[int]
    last: Sequence[int]

    @classmethod
    def of(cls, edges: Iterable[Edge]) -> Edges:
        """In any order."""
        ordered = sorted(edges, key=lambda edge: edge.minute)
        return cls(
            [edge.minute for edge in ordered],
            [edge.src for edge in ordered],
            [edge.dst for edge in ordered],
            [edge.bytes for edge in ordered],
            [edge.covered for edge in ordered],
            [edge.first for edge in ordered],
            [edge.last for edge in ordered],
        )


@dataclass
class _Received:
    """Tainted bytes that a host received and that leave from it, in order, as ends of stretches with one provider."""

    ends: list[int] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    charged: int = 0

    def copy(self) -> _Received:
        return _Received(self.ends.copy(), self.providers.copy(), self.charged)

    def receive(self, total: int, provider: str) -> None:
        if self.providers and self.providers[-1] == provider:
            self.ends[-1] = total
        else:
            self.ends.append(total)
            self.providers.append(provider)

    def charge(self, amount: int) -> Iterator[tuple[int, str]]:
        """The next bytes to be charged, by provider."""
        until = min(self.ends[-1], self.charged + amount) if self.ends else 0
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
        self._totals: dict[str, int] = {}
        """What hosts received; with `_givers`, whom they had the first of it from."""
        self._givers: dict[str, str] = {}
        self._leaving: dict[str, _Received] = {}
        """Of hosts from which anything left: only there it matters which byte came from whom."""
        self._carried: dict[tuple[str, str], int] = {}
        self._grown: set[str] = set()
        """Hosts that received anything this minute, and ..."""
        self._bound: set[int] = set()
        """... edges that wait for holders to give away more: all others that wait can carry no more."""
        self._given_away = 0
        """What holders sent to others: nobody else can have more of the model than that."""

    def expect(self, hosts: Iterable[str]) -> None:
        """Says from which hosts something will leave, where not all that happened is run at once."""
        for host in hosts:
            self._leaving.setdefault(host, _Received())

    def copy(self) -> Relays:
        """Another fold that goes on from here."""
        other = Relays(self.holders)
        other.exits = self.exits.copy()
        other.arrivals.update((host, arrivals.copy()) for host, arrivals in self.arrivals.items())
        other._totals, other._givers = self._totals.copy(), self._givers.copy()
        other._leaving = {host: received.copy() for host, received in self._leaving.items()}
        other._carried, other._given_away = self._carried.copy(), self._given_away
        return other

    def run(self, edges: Edges, outs: Iterable[Out]) -> None:
        """Exits in any order. Edges into a holder are without effect, it is charged anyway. What is run later must lie
        in later minutes, and leave from no host that left nothing before, unless that was expected."""
        left: dict[int, list[Out]] = defaultdict(list)
        for out in outs:
            left[out.minute].append(out)
            self._leaving.setdefault(out.host, _Received())
        end = 0
        for minute in sorted({*edges.minute, *left}):
            begin, end = end, bisect_right(edges.minute, minute, end)
            if begin < end:
                self._pass_on(edges, range(begin, end))
            for out in left.get(minute, ()):
                self._leave(out)

    def received(self, host: str) -> int:
        """Bytes of the model that came to a host, under approvals or not."""
        return self._totals.get(host, 0)

    def path(self, provider: str, host: str) -> Path:
        """From a holder to the provider, by the way on which each was tainted first, and on to the host."""
        way = [host, provider]
        while way[-1] not in self.holders:
            way.append(self._givers[way[-1]])
            if way[-1] == host:
                return self.path(self._givers[host], host)
        return tuple(reversed(way))

    def _pass_on(self, edges: Edges, minute: Iterable[int]) -> None:
        """Moves what each edge of a minute can carry, hop by hop: the hops of a chain may share a minute."""
        moved: dict[int, int] = {}
        self._grown.clear()
        self._bound.clear()
        waiting = self._carry(edges, minute, moved, is_first=True)
        for _ in range(HOPS_A_MINUTE):
            before = sum(moved.values())
            waiting = self._carry(edges, waiting, moved, is_first=False)
            if sum(moved.values()) == before:
                break
        for at in sorted(moved):
            outside_approvals = min(moved[at], edges.bytes[at] - edges.covered[at])
            if outside_approvals > 0:
                arrival = Arrival(edges.minute[at], edges.first[at], edges.last[at], outside_approvals, edges.src[at])
                self.arrivals[edges.dst[at]].append(arrival)

    def _carry(self, edges: Edges, places: Iterable[int], moved: dict[int, int], is_first: bool) -> list[int]:
        """One hop over each of these edges. Adds what they carried to `moved`; gives those that have room left."""
        waiting = []
        for at in places:
            src, dst = edges.src[at], edges.dst[at]
            if dst in self.holders:
                continue
            if not is_first and src not in self._grown and at not in self._bound:
                waiting.append(at)
                continue
            room = edges.bytes[at] - moved.get(at, 0)
            if src in self.holders:
                self._given_away += room
                amount = room
            else:
                fresh, limit = self._fresh(src, dst), self._given_away - self._totals.get(dst, 0)
                amount = min(room, fresh, limit)
                if amount < room:
                    waiting.append(at)
                if limit < fresh:
                    self._bound.add(at)
                if amount <= 0:
                    continue
                self._carried[src, dst] = self._carried.get((src, dst), 0) + amount
            moved[at] = moved.get(at, 0) + amount
            self._receive(dst, amount, src)
        return waiting

    def _fresh(self, src: str, dst: str) -> int:
        """What one host that is no holder could pass on; what it got from the other is nothing new to that one."""
        got = self._totals.get(src, 0)
        if not got:
            return 0
        return got - self._carried.get((dst, src), 0) - self._carried.get((src, dst), 0)

    def _receive(self, host: str, amount: int, provider: str) -> None:
        total = self._totals[host] = self._totals.get(host, 0) + amount
        self._givers.setdefault(host, provider)
        self._grown.add(host)
        if host in self._leaving:
            self._leaving[host].receive(total, provider)

    def _leave(self, out: Out) -> None:
        begin = 0
        for amount, provider in self._leaving[out.host].charge(out.bytes):
            self.exits.append(Exit(out.minute, out.host, begin, begin + amount, provider))
            begin += amount
