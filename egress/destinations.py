"""Where bytes went, in groups that a person recognises."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

import polars as pl

from egress.addresses import network_text, text_of
from egress.config import Approval
from egress.contracts import Destination
from egress.proof import UNAPPROVED
from egress.schema import V4_MAPPED_PREFIX

if TYPE_CHECKING:
    from tldextract import TLDExtract

MOST_LISTED = 10
"""Addresses and names shown of one group; the largest come first."""


def destinations(charges: pl.DataFrame, approvals: Sequence[Approval]) -> tuple[Destination, ...]:
    """Groups of what was charged, by bytes, then by name. Their bytes add up to the charges' exactly."""
    grouped = with_groups(charges, approvals)
    found = [
        Destination(str(group), str(account), _sum(part), _addresses(part), _names(part))
        for (group, account), part in grouped.group_by("group", "account", maintain_order=True)
    ]
    return tuple(sorted(found, key=lambda each: (-each.bytes, each.group, each.account)))


def with_groups(charges: pl.DataFrame, approvals: Sequence[Approval]) -> pl.DataFrame:
    """Adds `group`: the approval; else the registrable domain of a name that DNS gave; else the /24 or /48.

    The network is that of the inner address, of the outer one where the inner is not outside.
    """
    away = pl.when("inner_is_outside").then("remote_ip").otherwise("outer_ip")
    keys = charges.select("account", "approval", "name", "name_from", away=away).unique()
    groups = [_group(key, approvals) for key in keys.iter_rows()]
    named = keys.with_columns(group=pl.Series(groups, dtype=pl.String))
    on = ["account", "approval", "name", "name_from", "away"]
    return charges.with_columns(away=away).join(named, on=on, how="left", maintain_order="left")


def _group(key: tuple[str, int, str, str, bytes], approvals: Sequence[Approval]) -> str:
    account, approval, name, name_from, away = key
    if account != UNAPPROVED:
        return approvals[approval].id
    domain = registrable(name) if name_from == "dns" else ""
    return domain or peer_text(away)


def peer_text(address: bytes) -> str:
    """The /24 or /48 that an address lies in, as people write it."""
    bits = 120 if address.startswith(V4_MAPPED_PREFIX) else 48
    return network_text(IPv6Network((address, bits), strict=False))


def registrable(name: str) -> str:
    """`example.co.uk` of `files.example.co.uk`; empty for a name under no public suffix."""
    return _suffixes()(name.rstrip(".").lower()).top_domain_under_public_suffix if name else ""


@cache
def _suffixes() -> TLDExtract:
    # Imported late: it brings an HTTP client along. The snapshot inside the package is used, never the network.
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)


def _sum(charges: pl.DataFrame) -> int:
    return int(charges["bytes"].cast(pl.Int128).sum() or 0)


def _addresses(charges: pl.DataFrame) -> tuple[str, ...]:
    """Addresses outside that were involved: inner, and outer of a tunnel."""
    inner = charges.filter(pl.col("inner_is_outside")).select("bytes", address="remote_ip")
    outer = charges.filter(pl.col("outer_is_outside")).select("bytes", address="outer_ip")
    return tuple(text_of(address) for address in _largest(pl.concat([inner, outer]), "address"))


def _names(charges: pl.DataFrame) -> tuple[str, ...]:
    return tuple(str(name) for name in _largest(charges.filter(pl.col("name") != ""), "name"))


def _largest(charges: pl.DataFrame, column: str) -> list[bytes]:
    sums = charges.group_by(column).agg(pl.col("bytes").cast(pl.Int128).sum())
    return sums.sort("bytes", column, descending=[True, False])[column].head(MOST_LISTED).to_list()
