"""From an episode to a finding: how much of which model, where to, and why, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import product

import polars as pl

from egress import words
from egress.charges import PATH_SEPARATOR
from egress.contracts import Finding, ModelShare
from egress.destinations import destinations
from egress.episodes import Charged, Episode
from egress.inventory import Inventory
from egress.levels import LIFETIME, NAMES, Rise, peak
from egress.reasons import reasons, total_of

DETECTOR = "ledger"

REFERENCES = ((100, "all of it"), (67, "a lossless copy"), (50, "an 8-bit copy"), (28, "a 4-bit copy"))
"""Percent of native size, and what a transfer of that size would be."""


def finding_of(episode: Episode, host: str, charged: Sequence[Charged], inventory: Inventory) -> Finding:
    """The finding that an episode is. `charged` are the models that its subject was charged for."""
    inside = {each.series.model.id: _within(each.charges, episode.minutes) for each in charged}
    shares = _shares(episode, charged, inside)
    first = inside[shares[0].id]
    rise = _explaining(episode, shares[0])
    series = next(each.series for each in charged if each.series.model.id == shares[0].id)
    most = peak(series, rise.window, episode.minutes)
    match = _size_match(shares, inventory)
    level = episode.level.raised() if match else episode.level
    raised = f"{match}; one level up" if level != episode.level else match
    level_times = {**episode.level_times, level: episode.level_times.get(level, episode.last_seen)}
    where = destinations(first, inventory.config.approvals)
    return Finding(
        uid=uid(episode.subject, episode.start),
        detector=DETECTOR,
        subject=episode.subject,
        host=host,
        level=level,
        title=_title(host, shares[0], where[0].group, most if rise.window == LIFETIME else 0),
        bytes=shares[0].bytes,
        window=rise.window,
        start=episode.start,
        first_seen=episode.start,
        last_seen=episode.last_seen,
        level_times=dict(sorted(level_times.items())),
        models=shares,
        destinations=where,
        path=(*_hosts_of(first, host), *where[0].addresses[:1]),
        reasons=(*reasons(rise, most, first, inventory), *([raised] if raised else [])),
        is_closed=episode.is_closed,
        revision=episode.revision,
    )


def _explaining(episode: Episode, share: ModelShare) -> Rise:
    """The rise of the shortest window that brought the model to the episode's level."""
    rises = (rise for rise in episode.rises if rise.model.id == share.id and rise.level == episode.level)
    return min(rises, key=lambda rise: (NAMES.index(rise.window), rise.minute))


def _hosts_of(charges: pl.DataFrame, host: str) -> tuple[str, ...]:
    """The hosts that most of the bytes passed."""
    ways = charges.group_by("path", "host").agg(pl.col("bytes").cast(pl.Int128).sum())
    path, sender, _ = ways.sort("bytes", "path", "host", descending=[True, False, False]).row(0)
    return tuple(path.split(PATH_SEPARATOR)) if path else (host or sender,)


def uid(subject: str, start: int) -> str:
    """The same episode has the same id in every run."""
    return sha256(f"{DETECTOR}|{subject}|{start}".encode()).hexdigest()[:32]


def _within(charges: pl.DataFrame, minutes: tuple[int, int]) -> pl.DataFrame:
    return charges.filter(pl.col("minute").is_between(*minutes))


def _shares(episode: Episode, charged: Sequence[Charged], inside: Mapping[str, pl.DataFrame]) -> tuple[ModelShare, ...]:
    """The models by level, those that the host holds before those that it relayed, then by how much it could be.

    A small model that passed through can be there many times over, beside all of a large one. Models that nothing was
    charged to are left out.
    """
    reached = {rise.model.id: rise.level for rise in sorted(episode.rises, key=lambda rise: rise.level)}
    models = [each.series.model for each in charged if inside[each.series.model.id].height]
    shares = [ModelShare(model.id, total_of(inside[model.id]), model.bytes, model.is_assumed) for model in models]

    def rank(share: ModelShare) -> tuple[int, bool, float, str]:
        is_relayed = bool((inside[share.id]["path"] != "").all())
        return -reached.get(share.id, 0), is_relayed, -share.fraction, share.id

    return tuple(sorted(shares, key=rank))


def _title(host: str, share: ModelShare, group: str, lifetime: int) -> str:
    """`lifetime`: bytes since the last review, where these are what it is about; 0 elsewhere."""
    who = host or "several hosts"
    what = "an assumed model" if share.is_assumed else share.id
    now = words.share(share.fraction)
    if lifetime > 2 * share.bytes:
        since = words.share(lifetime / share.native_bytes)
        return f"{since} of {what} left {who} since the last review, {now} of it now for {group}"
    return f"{now} of {what} left {who} for {group}"


def _size_match(shares: Sequence[ModelShare], inventory: Inventory) -> str:
    """What the transfer has the size of, within what compression and headers change; empty for nothing known."""
    for share in shares:
        model = inventory.model(share.id)
        sizes = [("", model.bytes), *((" file", size) for size in sorted(set(model.shards)))]
        for (kind, size), (percent, copy) in product(() if model.is_assumed else sizes, REFERENCES):
            if size * percent * 995 <= share.bytes * 100_000 and share.bytes * 10_000 <= size * percent * 106:
                return f"{share.bytes:,} B is the size of {share.id}{kind} ({size:,} B), {copy}"
    return ""
