"""Findings of what nobody saw, with a level of their own.

Bytes that a card sent beyond the flows are measured: they rise by the ledger's ladder. A silence says only what could
have been, so it is medium at most. An innocent gap and a guilty one look alike: neither is called a theft here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from egress import findings, silences, words
from egress.cells import MINUTE_US
from egress.charges import series_of
from egress.config import Model
from egress.contracts import Destination, Finding, Level, ModelShare
from egress.coverage import Coverage
from egress.episodes import Charged, Episode, episodes_of
from egress.inventory import Inventory
from egress.levels import LIFETIME, peak, rises
from egress.reviews import accepts, flags_within, life_since, retirements
from egress.silences import DETECTOR, Event

ACCOUNT = "gap"
NOWHERE = "unknown"
NEAR_US = 5 * MINUTE_US
"""A silence so close to a gap belongs to it: the card is read when the sensor is back."""
ALIKE = "a sensor that was overwhelmed and a copy that was hidden look alike here: ask what the host did"


def findings_of(coverage: Coverage, inventory: Inventory) -> list[Finding]:
    """Episodes of gaps and of silences, worst first. A silence in or beside a gap is a reason of that gap's finding."""
    gaps = coverage.gaps.filter(pl.col("beyond") > 0).with_columns(bytes="beyond")
    by_host = {str(host): part for (host,), part in gaps.group_by("host", maintain_order=True)}
    events = silences.events_of(coverage)
    found: list[Finding] = []
    for host in sorted(coverage.hosts):
        models = [inventory.model(model) for model in inventory.models_of(host)]
        measured = list(_of_gaps(host, by_host[host], models, coverage.until, inventory)) if host in by_host else []
        beside: list[list[Event]] = [[] for _ in measured]
        alone: list[Event] = []
        for event in events.get(host, []):
            near = next((place for place, one in enumerate(measured) if _is_beside(one, event)), None)
            (alone if near is None else beside[near]).append(event)
        found += [_told(one, mine, inventory) for one, mine in zip(measured, beside, strict=True)]
        found += silences.findings_of(host, alone, coverage, inventory)
    return findings.in_order(found)


def _of_gaps(
    host: str, gaps: pl.DataFrame, models: Sequence[Model], until: int, inventory: Inventory
) -> Iterator[Finding]:
    """A host that holds no model may have been handed one: it is measured by those of the site, for information."""
    asked = models or inventory.config.models
    charged = [each for model in asked if (each := _charged(model, host, gaps, inventory)).charges.height]
    every = [rise for each in charged for rise in rises(each.series)]
    for episode in episodes_of(f"host:{host}", charged, every, until):
        finding = _finding(episode, host, charged)
        yield finding if models else _for_information(finding)


def _charged(model: Model, host: str, gaps: pl.DataFrame, inventory: Inventory) -> Charged:
    rows = gaps.filter(~accepts(host, model.id, inventory))
    series = series_of(model, rows)
    since = life_since(host, model.id, series.minutes, inventory)
    total = np.concatenate([series.amounts[:0], [0], np.cumsum(series.amounts)])
    drained = total[np.searchsorted(series.minutes, since)]
    flags = flags_within(series.minutes, retirements(model.id, inventory))
    return Charged(replace(series, is_retiring=flags, drained=drained, since=since), rows)


def _finding(episode: Episode, host: str, charged: Sequence[Charged]) -> Finding:
    inside = {each.series.model.id: _sum(each.charges, episode.minutes) for each in charged}
    shares = [
        ModelShare(each.id, inside[each.id], each.bytes, each.is_assumed) for each in (x.series.model for x in charged)
    ]
    shares = sorted((share for share in shares if share.bytes), key=lambda share: (-share.fraction, share.id))
    first = shares[0]
    what = "an assumed model" if first.is_assumed else first.id
    return Finding(
        uid=findings.uid_of(DETECTOR, episode.subject, episode.start),
        detector=DETECTOR,
        subject=episode.subject,
        host=host,
        level=episode.level,
        title=f"{host} sent {words.share(first.fraction)} of {what} beyond what its flows show",
        bytes=first.bytes,
        window=episode.window,
        start=episode.start,
        first_seen=episode.start,
        last_seen=episode.last_seen,
        level_times=episode.level_times,
        models=tuple(shares),
        destinations=(Destination(NOWHERE, ACCOUNT, first.bytes),),
        path=(host,),
        reasons=(
            f"{first.bytes:,} B left its network card that no flow explains; frames and segments are allowed for",
            _level_reason(episode, charged),
            ALIKE,
        ),
        is_closed=episode.is_closed,
        revision=episode.revision,
    )


def _sum(charges: pl.DataFrame, minutes: tuple[int, int]) -> int:
    inside = charges.filter(pl.col("minute").is_between(*minutes))
    return int(inside["bytes"].cast(pl.Int128).sum() or 0)


def _level_reason(episode: Episode, charged: Sequence[Charged]) -> str:
    worst = next(rise for rise in episode.rises if rise.level == episode.level and rise.window == episode.window)
    series = next(each.series for each in charged if each.series.model.id == worst.model.id)
    total = peak(series, episode.window, episode.minutes)
    span = "since the last review" if episode.window == LIFETIME else f"in {episode.window}"
    part = f"{words.share(total / worst.model.bytes)} of {worst.model.id} ({words.size(worst.model.bytes)})"
    return f"{total:,} B {span} could be {part}" + (", which is retiring: one level up" if worst.is_retiring else "")


def _for_information(finding: Finding) -> Finding:
    reason = f"{finding.host} holds no model: what it was handed may be among these bytes; info at most"
    times = {Level.INFO: min(finding.level_times.values())}
    return replace(finding, level=Level.INFO, level_times=times, reasons=(*finding.reasons, reason))


def _is_beside(finding: Finding, event: Event) -> bool:
    return event.start <= finding.last_seen + NEAR_US and event.end >= finding.first_seen - NEAR_US


def _told(finding: Finding, events: Sequence[Event], inventory: Inventory) -> Finding:
    """The gap's finding with the silences beside it as reasons; they may raise it to medium."""
    if not events:
        return finding
    models = [inventory.model(model) for model in inventory.models_of(finding.host)]
    level_times = silences.level_times(events, models, inventory)
    times = {**{level: time for level, time in level_times.items() if level > finding.level}, **finding.level_times}
    return replace(
        finding,
        level=max(times),
        level_times=dict(sorted(times.items())),
        reasons=(*finding.reasons, *silences.reasons(events)),
        revision=finding.revision + len(events),
    )
