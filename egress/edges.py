"""Who sent how much to whom inside, minute by minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import polars as pl

from egress.accounts import is_left, stayed
from egress.approvals import approve, cap, is_outside
from egress.inventory import Inventory
from egress.schema import NO_ADDRESS

TIMES = ("minute", "first", "last")


def edges_of(views: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """minute, src, dst, bytes, covered, first, last: what watched or unlisted hosts inside sent each other, in order.

    Both sides' cells tell of it where both are watched; the larger one counts. `views` are those of all hosts.
    """
    key = ["minute", "src", "dst"]
    sums = pl.col("sent", "received", "gone", "covered").cast(pl.Int128).sum()
    edges = pl.concat(views).group_by(key).agg(sums, pl.col("first").min(), pl.col("last").max())
    edges = edges.with_columns(bytes=pl.max_horizontal("sent", pl.col("received") - pl.col("gone")))
    return edges.filter(pl.col("bytes") > 0).select(*key, "bytes", "covered", "first", "last").sort(key)


def views_of(seen: pl.DataFrame, sent: pl.DataFrame, inventory: Inventory, but_to: Sequence[str] = ()) -> pl.DataFrame:
    """What some hosts' cells tell of edges.

    What left inside a tunnel to a host inside is charged to its sender already, and not passed on. `sent` are the
    entries of `seen` (`accounts.sent`); edges to hosts of `but_to` are left out.
    """
    peers = _peers(seen, inventory)
    ends = peers.columns[:-1]
    wanted = peers.filter(~pl.col("peer").is_in(but_to))
    if wanted.is_empty():  # as where all inside hold the same models
        sent = sent.clear()
    covered = cap(approve(stayed(sent), inventory), inventory.config.approvals)
    received = seen.filter((pl.col("received") > 0) & ~pl.col("host").is_in(but_to))
    received = received.with_columns(pl.col("minute", "first", "last").cast(pl.Int64))
    views = (
        covered.join(wanted, on=ends).select(*TIMES, "covered", sent="bytes", src="host", dst="peer"),
        received.join(peers, on=ends).select(*TIMES, "received", src="peer", dst="host"),
        sent.filter(is_left()).join(wanted, on=ends).select(*TIMES, gone="bytes", src="host", dst="peer"),
    )
    is_edge = (pl.col("src") != "") & (pl.col("src") != pl.col("dst"))
    return pl.concat([view.filter(is_edge) for view in views], how="diagonal")


def _peers(cells: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """remote_ip, outer_ip, peer: the host inside that the other side of some cells is; none for the outside."""
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
    return peers.filter((pl.col("peer") != "") & ~is_strange)


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
