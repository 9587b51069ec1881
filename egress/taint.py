"""Taint: weights that went from a holder to another host inside are charged when that host sends them out.

A host is charged at most for what it received before; the path is kept. Within one minute everything is received
before anything is sent on, so a relay that streams is seen as well as one that stores.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

from egress.accounts import left, stayed
from egress.approvals import approve, cap, is_outside
from egress.inventory import Inventory
from egress.schema import NO_ADDRESS

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """What one host inside sent to another in one minute; `covered` bytes of it under an approval."""

    minute: int
    src: str
    dst: str
    bytes: int
    covered: int


@dataclass(frozen=True, slots=True)
class Out:
    """An entry that left: its row, and how much of it counts."""

    minute: int
    row: int
    host: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the model that took a path: `row` of the entry with which they left, or where they arrived."""

    minute: int
    bytes: int
    path: Path
    row: int = -1
    uncovered: int = 0


@dataclass
class _Received:
    """Tainted bytes that a host received, in order, as ends of stretches with one path each."""

    ends: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.ends[-1] if self.ends else 0

    def receive(self, amount: int, path: Path) -> None:
        if self.paths and self.paths[-1] == path:
            self.ends[-1] += amount
        else:
            self.ends.append(self.total + amount)
            self.paths.append(path)

    def stretch(self, begin: int, end: int) -> Iterator[tuple[int, Path]]:
        """Bytes `begin` to `end` of what was received, by path."""
        while begin < end:
            place = bisect_right(self.ends, begin)
            until = min(end, self.ends[place])
            yield until - begin, self.paths[place]
            begin = until


@dataclass
class _Move:
    """What an edge can still carry, and what of a model arrived over it."""

    edge: Edge
    room: int
    arrived: int = 0
    path: Path = ()


def edges_of(seen: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """minute, src, dst, bytes, covered: what watched or unlisted hosts inside sent each other, in order.

    Both sides' cells tell of it where both are watched; the larger one counts. What left inside a tunnel to a host
    inside is charged to its sender already, and not passed on.
    """
    sent = cap(approve(stayed(seen, inventory), inventory), inventory.config.approvals)
    received = seen.filter(pl.col("received") > 0).with_columns(pl.col("minute").cast(pl.Int64))
    views = (
        _with_peer(sent, inventory).select("minute", "covered", sent="bytes", src="host", dst="peer"),
        _with_peer(received, inventory).select("minute", "received", src="peer", dst="host"),
        _with_peer(left(seen, inventory), inventory).select("minute", gone="bytes", src="host", dst="peer"),
    )
    key = ["minute", "src", "dst"]
    is_edge = (pl.col("src") != "") & (pl.col("dst") != "") & (pl.col("src") != pl.col("dst"))
    sums = [view.filter(is_edge).group_by(key).agg(pl.exclude(key).cast(pl.Int128).sum()) for view in views]
    edges = pl.concat(sums, how="diagonal").group_by(key).agg(pl.exclude(key).sum())
    edges = edges.with_columns(bytes=pl.max_horizontal("sent", pl.col("received") - pl.col("gone")))
    return edges.filter(pl.col("bytes") > 0).select(*key, "bytes", "covered").sort(key)


def _with_peer(cells: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Cells with `peer`, the host inside that the other side is; empty for the outside."""
    ends = cells.select("remote_ip", "outer_ip").unique()
    as_flows = ends.select(
        host=pl.lit(""),
        side=pl.lit(""),
        src_ip="remote_ip",
        outer_src_ip="outer_ip",
        dst_ip=pl.lit(NO_ADDRESS),
        outer_dst_ip=pl.lit(NO_ADDRESS),
    )
    # What comes out of a stranger's tunnel was not sent by our host, whatever the inner address says.
    is_strange = is_outside(inventory, "outer_ip")
    peers = ends.with_columns(inventory.attribute(as_flows)["host"].alias("peer"))
    peers = peers.with_columns(peer=pl.when(is_strange).then(pl.lit("")).otherwise("peer"))
    return cells.join(peers, on=["remote_ip", "outer_ip"], how="left", maintain_order="left")


def reachable(edges: pl.DataFrame, holders: Iterable[str]) -> set[str]:
    """Hosts, other than holders, that bytes of a holder could have come to by any number of hops."""
    onward: dict[str, list[str]] = defaultdict(list)
    for src, dst in edges.select("src", "dst").unique(maintain_order=True).iter_rows():
        onward[src].append(dst)
    known = set(holders)
    found: list[str] = list(known)
    while found:
        news = [dst for dst in onward[found.pop()] if dst not in known]
        known.update(news)
        found += news
    return known - set(holders)


class Relays:
    """One model's taint, folded over edges and exits in time order."""

    def __init__(self, holders: Iterable[str]) -> None:
        self.holders = frozenset(holders)
        self.arrived: list[Piece] = []
        self.left: list[Piece] = []
        self._received: dict[str, _Received] = defaultdict(_Received)
        self._forwarded: dict[tuple[str, str], int] = defaultdict(int)
        self._charged: dict[str, int] = defaultdict(int)

    def run(self, edges: Iterable[Edge], outs: Iterable[Out]) -> None:
        """Edges and exits in any order; those into a holder are without effect, it is charged anyway."""
        by_minute: dict[int, tuple[list[Edge], list[Out]]] = defaultdict(lambda: ([], []))
        for edge in edges:
            by_minute[edge.minute][0].append(edge)
        for out in outs:
            by_minute[out.minute][1].append(out)
        for minute in sorted(by_minute):
            self._pass_on(by_minute[minute][0])
            for out in by_minute[minute][1]:
                self._leave(out)

    def _pass_on(self, edges: list[Edge]) -> None:
        """Moves what each edge can carry until nothing moves: the hops of a chain may share a minute."""
        moves = [_Move(edge, edge.bytes) for edge in edges if edge.dst not in self.holders]
        while sum(self._carry(move) for move in moves):
            pass
        for move in moves:
            if move.arrived:
                uncovered = min(move.arrived, max(0, move.edge.bytes - move.edge.covered))
                self.arrived.append(Piece(move.edge.minute, move.arrived, move.path, uncovered=uncovered))

    def _carry(self, move: _Move) -> int:
        edge = move.edge
        if edge.src in self.holders:
            pieces: list[tuple[int, Path]] = [(move.room, (edge.src,))]
        else:
            done, source = self._forwarded[edge.src, edge.dst], self._received[edge.src]
            pieces = list(source.stretch(done, done + min(move.room, source.total - done)))
        moved = sum(amount for amount, _ in pieces)
        self._forwarded[edge.src, edge.dst] += moved
        move.room -= moved
        for amount, path in pieces:
            # What a host gave away and got back is nothing new to it.
            if amount and edge.dst not in path:
                move.arrived, move.path = move.arrived + amount, (*path, edge.dst)
                self._received[edge.dst].receive(amount, move.path)
        return moved

    def _leave(self, out: Out) -> None:
        source, done = self._received[out.host], self._charged[out.host]
        amount = min(out.bytes, source.total - done)
        self._charged[out.host] += amount
        self.left += [Piece(out.minute, part, path, out.row) for part, path in source.stretch(done, done + amount)]
