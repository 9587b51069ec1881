"""Hosts that came to hold a model nobody gave them: a copy inside the perimeter, on its way or at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from egress import words
from egress.amounts import MOST
from egress.charges import ModelCharges, series_of
from egress.config import Model
from egress.contracts import Destination, Finding, Level, ModelShare
from egress.episodes import Charged, Episode, episodes_of
from egress.explain import DETECTOR, uid
from egress.inventory import Inventory
from egress.levels import Rise, Series, windows
from egress.taint import Arrival, Path

SHARE = 4
"""A quarter of a model is a 4-bit copy of it."""

WINDOW = "7d"


def new_holders(charges: Sequence[ModelCharges], inventory: Inventory, watermark: int) -> Iterator[Finding]:
    """Hosts that received a quarter of a model within 7 days, from holders or over relays, outside any approval.

    A host that shares a model with the one that sent to it belongs to the same work: it is tainted without alarm, as
    are hosts that only pass packets on.
    """
    for each in charges:
        if each.model.is_assumed:
            continue
        for host, arrivals in sorted(each.relays.arrivals.items()):
            if each.relays.received(host) >= _threshold(each.model) and not inventory.is_transit(host):
                providers = {every.provider for every in arrivals}
                partners = {other for other in providers if _share_a_model(other, host, inventory)}
                strange = [every for every in arrivals if every.provider not in partners]
                yield from _findings(host, each, strange, watermark)


def _share_a_model(a: str, b: str, inventory: Inventory) -> bool:
    return not set(inventory.models_of(a)).isdisjoint(inventory.models_of(b))


def _findings(host: str, charges: ModelCharges, arrivals: Sequence[Arrival], watermark: int) -> Iterator[Finding]:
    if sum(arrival.bytes for arrival in arrivals) < _threshold(charges.model):
        return
    charged = _charged(charges.model, arrivals)
    for episode in episodes_of(f"host:{host}", [charged], list(_rises(charged.series)), watermark):
        inside = [each for each in arrivals if episode.minutes[0] <= each.minute <= episode.minutes[1]]
        largest = max(inside, key=lambda each: (each.bytes, each.provider))
        path = charges.relays.path(largest.provider, host)
        yield _finding(charges.model, episode, path, sum(each.bytes for each in inside))


def _threshold(model: Model) -> int:
    return -(-model.bytes // SHARE)


def _charged(model: Model, arrivals: Sequence[Arrival]) -> Charged:
    rows = pl.DataFrame(
        [(each.minute, each.first, each.last, min(each.bytes, MOST)) for each in arrivals],
        schema={"minute": pl.Int64, "first": pl.Int64, "last": pl.Int64, "bytes": pl.Int64},
        orient="row",
    ).sort("minute", maintain_order=True)
    return Charged(series_of(model, rows), rows)


def _rises(series: Series) -> Iterator[Rise]:
    threshold = _threshold(series.model)
    for name, since, sums in windows(series):
        if name != WINDOW:
            continue
        before = sums - series.amounts
        for index in ((sums >= threshold) & (before < threshold)).nonzero()[0]:
            needed = threshold - int(before[index])
            minute, begin = int(series.minutes[index]), int(since[index])
            crossings = ((Level.HIGH, needed),)
            yield Rise(minute, name, Level.HIGH, series.model, begin, False, crossings)


def _finding(model: Model, episode: Episode, path: Path, amount: int) -> Finding:
    share = ModelShare(model.id, amount, model.bytes)
    host = path[-1]
    part = words.share(share.fraction)
    reasons = (
        f"{amount:,} B came from {path[-2]} over {' > '.join(path)}: {part} of {model.id} ({words.size(model.bytes)}); "
        f"a new holder from 25 % in {WINDOW}",
        f"{host} does not hold {model.id}, and no approval covers this transfer",
    )
    return Finding(
        uid=uid(f"new holder:{host}:{model.id}", episode.start),
        detector=DETECTOR,
        subject=episode.subject,
        host=host,
        level=episode.level,
        title=f"{part} of {model.id} arrived at {host}, which does not hold it",
        bytes=amount,
        window=episode.window,
        start=episode.start,
        first_seen=episode.start,
        last_seen=episode.last_seen,
        level_times=episode.level_times,
        models=(share,),
        destinations=(Destination(host, "internal", amount),),
        path=path,
        reasons=reasons,
        is_closed=episode.is_closed,
        revision=episode.revision,
    )
