"""Hosts that came to hold a model nobody gave them: a copy inside the perimeter, on its way or at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from egress import words
from egress.cells import MINUTE_US
from egress.charges import ModelCharges, series_of
from egress.config import Model
from egress.contracts import Destination, Finding, Level, ModelShare
from egress.episodes import Charged, Episode, episodes_of
from egress.explain import DETECTOR, uid
from egress.inventory import Inventory
from egress.levels import Rise, Series, windows
from egress.taint import Piece

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
        arrived: dict[str, list[Piece]] = {}
        for piece in each.arrivals:
            src, dst = piece.path[-2:]
            if piece.uncovered and not inventory.is_transit(dst) and not _share_a_model(src, dst, inventory):
                arrived.setdefault(dst, []).append(piece)
        for host in sorted(arrived):
            yield from _findings(host, each.model, arrived[host], watermark)


def _share_a_model(a: str, b: str, inventory: Inventory) -> bool:
    return not set(inventory.models_of(a)).isdisjoint(inventory.models_of(b))


def _findings(host: str, model: Model, pieces: list[Piece], watermark: int) -> Iterator[Finding]:
    charged = _charged(model, pieces)
    for episode in episodes_of(f"host:{host}", [charged], list(_rises(charged.series)), watermark):
        inside = [piece for piece in pieces if episode.minutes[0] <= piece.minute <= episode.minutes[1]]
        yield _finding(host, model, episode, inside)


def _charged(model: Model, pieces: list[Piece]) -> Charged:
    rows = pl.DataFrame(
        [(piece.minute, piece.minute, piece.minute + MINUTE_US - 1, piece.uncovered) for piece in pieces],
        schema={"minute": pl.Int64, "first": pl.Int64, "last": pl.Int64, "bytes": pl.Int64},
        orient="row",
    ).sort("minute", maintain_order=True)
    return Charged(series_of(model, rows), rows)


def _rises(series: Series) -> Iterator[Rise]:
    threshold = -(-series.model.bytes // SHARE)
    for name, since, sums in windows(series):
        if name != WINDOW:
            continue
        before = sums - series.amounts
        for index in ((sums >= threshold) & (before < threshold)).nonzero()[0]:
            needed = threshold - int(before[index])
            minute, begin = int(series.minutes[index]), int(since[index])
            crossings = ((Level.HIGH, needed),)
            yield Rise(minute, name, Level.HIGH, series.model, begin, False, crossings)


def _finding(host: str, model: Model, episode: Episode, pieces: list[Piece]) -> Finding:
    amount = sum(piece.uncovered for piece in pieces)
    share = ModelShare(model.id, amount, model.bytes)
    path = max(pieces, key=lambda piece: (piece.uncovered, piece.path)).path
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
