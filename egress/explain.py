"""From an episode to a finding: how much of which model, where to, and why, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import product
from typing import Any

import polars as pl

from egress import words
from egress.addresses import text_of
from egress.cells import HOUR_US
from egress.charges import PATH_SEPARATOR
from egress.config import Approval, Model
from egress.contracts import Finding, Level, ModelShare
from egress.destinations import destinations
from egress.episodes import Charged, Episode
from egress.inventory import Inventory
from egress.levels import LIFETIME, ladder, peak
from egress.proof import UNAPPROVED
from egress.schema import NO_ADDRESS

DETECTOR = "ledger"

REFERENCES = ((100, "all of it"), (67, "a lossless copy"), (50, "an 8-bit copy"), (28, "a 4-bit copy"))
"""Percent of native size, and what a transfer of that size would be."""


def finding_of(episode: Episode, host: str, charged: Sequence[Charged], inventory: Inventory) -> Finding:
    """The finding that an episode is. `charged` are the models that its subject was charged for."""
    inside = {each.series.model.id: _within(each.charges, episode.minutes) for each in charged}
    shares = _shares(charged, inside)
    first = inside[shares[0].id]
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
        title=_title(episode.subject, host, shares[0], where[0].group),
        bytes=shares[0].bytes,
        window=episode.window,
        start=episode.start,
        first_seen=episode.start,
        last_seen=episode.last_seen,
        level_times=dict(sorted(level_times.items())),
        models=shares,
        destinations=where,
        path=(*_hosts_of(first, host), *where[0].addresses[:1]),
        reasons=(*_reasons(episode, charged, first, inventory), *([raised] if raised else [])),
        is_closed=episode.is_closed,
        revision=episode.revision,
    )


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


def _shares(charged: Sequence[Charged], inside: dict[str, pl.DataFrame]) -> tuple[ModelShare, ...]:
    """The models by how much of them it could be; those that nothing was charged to are left out."""
    models = [each.series.model for each in charged if inside[each.series.model.id].height]
    shares = [ModelShare(model.id, _sum(inside[model.id]), model.bytes, model.is_assumed) for model in models]
    return tuple(sorted(shares, key=lambda share: (-share.fraction, share.id)))


def _sum(charges: pl.DataFrame) -> int:
    return int(charges["bytes"].cast(pl.Int128).sum() or 0)


def _title(subject: str, host: str, share: ModelShare, group: str) -> str:
    who = host or "several hosts"
    what = "an assumed model" if share.is_assumed else share.id
    return f"{words.share(share.fraction)} of {what} left {who} for {group}"


def _size_match(shares: Sequence[ModelShare], inventory: Inventory) -> str:
    """What the transfer has the size of, within what compression and headers change; empty for nothing known."""
    for share in shares:
        model = inventory.model(share.id)
        sizes = [("", model.bytes), *((" file", size) for size in sorted(set(model.shards)))]
        for (kind, size), (percent, copy) in product(() if model.is_assumed else sizes, REFERENCES):
            if size * percent * 995 <= share.bytes * 100_000 and share.bytes * 10_000 <= size * percent * 106:
                return f"{share.bytes:,} B is the size of {share.id}{kind} ({size:,} B), {copy}"
    return ""


def _reasons(
    episode: Episode, charged: Sequence[Charged], charges: pl.DataFrame, inventory: Inventory
) -> Iterator[str]:
    yield _level_reason(episode, charged)
    yield from _account_reasons(charges, inventory.config.approvals)
    yield from _wire_reasons(charges)


def _level_reason(episode: Episode, charged: Sequence[Charged]) -> str:
    worst = next(rise for rise in episode.rises if rise.level == episode.level and rise.window == episode.window)
    series = next(each.series for each in charged if each.series.model.id == worst.model.id)
    total = peak(series, episode.window, episode.minutes)
    span = "since the last review" if episode.window == LIFETIME else f"in {episode.window}"
    fraction = words.share(total / worst.model.bytes)
    return (
        f"{total:,} B {span} is {fraction} of {worst.model.id} ({words.size(worst.model.bytes)}); "
        f"{episode.level.word} from {_percent(worst.model, episode.level, worst.is_retiring)}"
    )


def _percent(model: Model, level: Level, is_retiring: bool) -> str:
    steps = ladder(model)
    place = [reached for _, reached in steps].index(level)
    threshold = steps[max(0, place - is_retiring)][0]
    return f"{100 * threshold / model.bytes:.4g} %" + (f" while {model.id} is retiring" if is_retiring else "")


def _account_reasons(charges: pl.DataFrame, approvals: Sequence[Approval]) -> Iterator[str]:
    explained = charges.filter((pl.col("account") == UNAPPROVED) & (pl.col("why") != ""))
    sums = explained.group_by("why", "approval").agg(pl.col("bytes").cast(pl.Int128).sum())
    for why, index, amount in sums.sort("why", "approval").iter_rows():
        yield _ACCOUNT_REASONS[why].format(**_words_of(approvals[index]), amount=amount)


_ACCOUNT_REASONS = {
    "day": "{amount:,} B beyond the {day:,} B that approval {id} allows a host a day",
    "peer": "{amount:,} B beyond the {peer:,} B that approval {id} allows a peer a day",
    "expired": "{amount:,} B after approval {id} expired at {expires}",
    "receipt": "{amount:,} B under approval {id} without a receipt within {deadline} h",
    "manifest": "{amount:,} B under approval {id} beyond what its manifests list",
}


def _words_of(approval: Approval) -> dict[str, object]:
    return {
        "id": approval.id,
        "day": approval.bytes_per_day,
        "peer": approval.bytes_per_peer_per_day or 0,
        "expires": words.moment(approval.expires),
        "deadline": approval.receipt_deadline // HOUR_US,
    }


def _wire_reasons(charges: pl.DataFrame) -> Iterator[str]:
    """What the packets themselves say: tunnels, who connected, clocks."""
    for path, amount in _sums(charges.filter(pl.col("path") != ""), "path"):
        yield f"{amount:,} B were relayed: {' > '.join(path.split(PATH_SEPARATOR))}"
    tunnels = charges.filter(pl.col("outer_ip") != NO_ADDRESS)
    for tunnel, outer, amount in _sums(tunnels, "tunnel", "outer_ip"):
        yield f"{amount:,} B went inside {tunnel or 'a tunnel'} to {text_of(outer)}"
    for port, amount in _sums(charges.filter(pl.col("served_port") > 0), "served_port"):
        yield f"{amount:,} B were fetched: the other side connected to port {port} here"
    misdated = _sum(charges.filter(pl.col("is_misdated")))
    if misdated:
        yield f"{misdated:,} B carry a time far from all others (clock error); charged at the nearest credible minute"


MOST_NAMED = 3


def _sums(charges: pl.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    sums = charges.group_by(columns).agg(pl.col("bytes").cast(pl.Int128).sum())
    ordered = sums.sort("bytes", *columns, descending=[True, *(False for _ in columns)])
    yield from ordered.head(MOST_NAMED).iter_rows()
