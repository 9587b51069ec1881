"""Evidence that findings had last time, looked up again only where its conversations went on.

A memo, not a truth: findings get exactly what `conversations.attach` gives them, whatever was asked before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from egress.addresses import bytes_of
from egress.contracts import Finding
from egress.conversations import ADDRESSES, CONVERSATIONS, attach
from egress.days import Day

Evidence = tuple[Mapping[str, object], ...]


class _About(NamedTuple):
    """What evidence follows from, beside conversations."""

    hosts: frozenset[str]
    """Empty: all."""
    addresses: frozenset[bytes]
    """Empty: all."""

    @classmethod
    def of(cls, finding: Finding) -> _About:
        addresses = frozenset(bytes_of(address) for place in finding.destinations for address in place.addresses)
        return cls(frozenset([finding.host] if finding.host else finding.path), addresses)

    def is_touched(self, talked: Mapping[str, frozenset[bytes]]) -> bool:
        """Whether one of the hosts talked to one of the addresses."""
        met = [talked[host] for host in (self.hosts or talked) if host in talked]
        return any(not self.addresses or not self.addresses.isdisjoint(each) for each in met)


class Witnessing:
    """Evidence by what it is about; conversations that came are told to it before it is asked."""

    def __init__(self) -> None:
        self._known: dict[_About, Evidence] = {}
        self._came: list[pl.DataFrame] = []
        self.asked = 0
        """Findings whose conversations were looked for, each time that they were."""

    def note(self, came: pl.DataFrame) -> None:
        """Conversations of which more may be known now than before."""
        self._came.append(came.select("host", *ADDRESSES).unique())

    def attach(self, findings: Sequence[Finding], conversations: Sequence[Day]) -> list[Finding]:
        """The findings, each with its evidence among all `conversations`, of which a day lies open at a time."""
        talked, self._came = _talked(self._came), []
        known = {about: evidence for about, evidence in self._known.items() if not about.is_touched(talked)}
        abouts = [_About.of(finding) for finding in findings]
        news = {about: finding for about, finding in zip(abouts, findings, strict=True) if about not in known}
        found = attach(list(news.values()), _of_hosts(news, conversations)) if news else []
        self.asked += len(news)
        known |= {about: finding.evidence for about, finding in zip(news, found, strict=True)}
        self._known = {about: known[about] for about in abouts}
        return [replace(finding, evidence=known[about]) for about, finding in zip(abouts, findings, strict=True)]


def _of_hosts(abouts: Iterable[_About], conversations: Sequence[Day]) -> pl.DataFrame:
    """The conversations that evidence could be among."""
    each = [about.hosts for about in abouts]
    hosts = pl.Series(sorted(frozenset().union(*each)), dtype=pl.String)
    is_asked = pl.lit(True) if frozenset() in each else pl.col("host").is_in(hosts.implode())
    return pl.concat([CONVERSATIONS.empty(), *(day.opened().filter(is_asked) for day in conversations)])


def _talked(came: Sequence[pl.DataFrame]) -> dict[str, frozenset[bytes]]:
    """By host, every address that stands in its conversations."""
    if not came:
        return {}
    rows = pl.concat(came)
    ends = pl.concat([rows.select("host", end=name) for name in ADDRESSES]).group_by("host").agg(pl.col("end").unique())
    return {host: frozenset(met) for host, met in ends.iter_rows()}
