"""Where bytes went, in groups that a person recognises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any

import polars as pl

from egress.addresses import PRIVATE, lies_in, network_text, text_of
from egress.approvals import peer_of
from egress.config import Approval
from egress.contracts import Destination
from egress.proof import UNAPPROVED
from egress.schema import ADDRESS_BYTES, V4_MAPPED_PREFIX

if TYPE_CHECKING:
    from tldextract import TLDExtract

GROUP = ["group", "account"]
PLACE = ["remote_ip", "outer_ip", "name", "name_from", "approval", "account"]
"""What decides the group, and what is listed of it."""

MOST_GROUPS = 1000
"""Groups listed of one finding; a flood to random addresses has millions."""

NAMES_KEPT = 65_536
"""Names whose domain is remembered: the same few are asked about again and again, and the list is long."""

MOST_LISTED = 10
"""Addresses and names shown of one group; the largest come first."""


def destinations(charges: pl.DataFrame, approvals: Sequence[Approval]) -> tuple[Destination, ...]:
    """Groups of what was charged, by bytes, then by name. Their bytes add up to the charges' exactly.

    Beyond the largest 1,000, one entry an account says how many more groups there were, and how much went to them.
    """
    # A place got many charges: groups are asked for once for each.
    total, sides = pl.col("bytes").cast(pl.Int128).sum(), pl.col("inner_is_outside", "outer_is_outside").first()
    grouped = with_groups(charges.group_by(PLACE).agg(total, sides), approvals)
    sums = grouped.group_by(GROUP).agg(pl.col("bytes").cast(pl.Int128).sum())
    sums = sums.sort("bytes", *GROUP, descending=[True, False, False])
    largest = sums.head(MOST_GROUPS)
    shown = grouped.join(largest.select(GROUP), on=GROUP, how="semi")
    listed = largest.join(_addresses(shown), on=GROUP, how="left", maintain_order="left")
    listed = listed.join(_names(shown), on=GROUP, how="left", maintain_order="left")
    found = [
        Destination(group, account, total, tuple(map(text_of, addresses or ())), tuple(names or ()))
        for group, account, total, addresses, names in listed.iter_rows()
    ]
    rest = sums.slice(MOST_GROUPS).group_by("account").agg(pl.len(), pl.col("bytes").sum()).sort("account")
    found += [Destination(f"{count:,} more", account, total) for account, count, total in rest.iter_rows()]
    return tuple(found)


def with_groups(charges: pl.DataFrame, approvals: Sequence[Approval]) -> pl.DataFrame:
    """Adds `group`: the approval; else the registrable domain of a name that DNS gave; else the /24 or /48.

    The network is that of the inner address, of the outer one where the inner is private or not outside.
    """
    is_inner = pl.col("inner_is_outside") & ~(pl.col("outer_is_outside") & lies_in(pl.col("remote_ip"), PRIVATE))
    away = pl.when(is_inner).then("remote_ip").otherwise("outer_ip")
    is_named = pl.col("name_from") == "dns"
    domain = pl.when(is_named).then("name").otherwise(pl.lit(""))
    named = charges.with_columns(peer=peer_of(away), domain=domain)
    networks = _translated(named["peer"], lambda peer: peer_text(peer.ljust(ADDRESS_BYTES, b"\0")))
    domains = _translated(named["domain"], registrable)
    named = named.join(networks, on="peer", how="left", maintain_order="left")
    named = named.join(domains, on="domain", how="left", maintain_order="left")
    ids = pl.col("approval").replace_strict(range(len(approvals)), [each.id for each in approvals], default="")
    group = (
        pl.when(pl.col("account") != UNAPPROVED)
        .then(ids)
        .when(pl.col("domain_text") != "")
        .then("domain_text")
        .otherwise("peer_text")
    )
    return named.with_columns(group=group).drop("peer", "domain", "peer_text", "domain_text")


def _translated(values: pl.Series, text: Callable[[Any], str]) -> pl.DataFrame:
    """Each value once, and its text as `NAME_text`."""
    distinct = values.unique()
    texts = pl.Series(f"{values.name}_text", [text(value) for value in distinct], dtype=pl.String)
    return pl.DataFrame([distinct, texts])


def peer_text(address: bytes) -> str:
    """The /24 or /48 that an address lies in, as people write it."""
    if address.startswith(V4_MAPPED_PREFIX):
        return ".".join(map(str, address[12:15])) + ".0/24"
    return network_text(IPv6Network((address, 48), strict=False))


@lru_cache(NAMES_KEPT)
def registrable(name: str) -> str:
    """`example.co.uk` of `files.example.co.uk`; empty for what is no name under a public suffix.

    An unlisted last label counts as one (the list's own default rule), so private zones have domains too.
    """
    parts = _suffixes()(name.rstrip(".").lower())
    if parts.suffix or parts.ipv4 or parts.ipv6:
        return parts.top_domain_under_public_suffix
    labels = [label for label in (*parts.subdomain.split("."), parts.domain) if label]
    return ".".join(labels[-2:]) if len(labels) > 1 else ""


@cache
def _suffixes() -> TLDExtract:
    # Imported late: it brings an HTTP client along. The snapshot inside the package is used, never the network.
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)


def _addresses(grouped: pl.DataFrame) -> pl.DataFrame:
    """Addresses outside that were involved: inner, and outer of a tunnel."""
    inner = grouped.filter(pl.col("inner_is_outside")).select(*GROUP, "bytes", addresses="remote_ip")
    outer = grouped.filter(pl.col("outer_is_outside")).select(*GROUP, "bytes", addresses="outer_ip")
    return _largest(pl.concat([inner, outer]), "addresses", lies_in(pl.col("addresses"), PRIVATE))


def _names(grouped: pl.DataFrame) -> pl.DataFrame:
    return _largest(grouped.filter(pl.col("name") != "").select(*GROUP, "bytes", names="name"), "names")


def _largest(charges: pl.DataFrame, column: str, is_lesser: pl.Expr | None = None) -> pl.DataFrame:
    """For each group a list of what most of its bytes went to, the largest first; `is_lesser` comes later of equals."""
    sums = charges.group_by(*GROUP, column).agg(pl.col("bytes").cast(pl.Int128).sum())
    ranked = sums.with_columns(lesser=pl.lit(False) if is_lesser is None else is_lesser)
    ordered = ranked.sort("bytes", "lesser", column, descending=[True, False, False])
    return ordered.group_by(GROUP, maintain_order=True).agg(pl.col(column).head(MOST_LISTED))
