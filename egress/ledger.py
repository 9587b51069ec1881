"""The ledger: what left is charged to whoever sent it and compared with the models that the sender holds.

Pure and in integers. State is cells; everything else here is a fold over cells, inventory and lifecycle events in
event-time order, so batch sizes, order, restarts and duplicates cannot change a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from egress import accounts, explain, portions
from egress.cells import KEY, add, join, partial
from egress.certificate import certify
from egress.charges import ModelCharges, charged, charges_of
from egress.contracts import Finding
from egress.dating import DatedDays
from egress.days import Answers
from egress.edges import edges_of, views_of
from egress.episodes import Charged, episodes_of
from egress.inventory import Inventory
from egress.levels import ladder, rises
from egress.newholders import new_holders
from egress.proof import prove
from egress.relaying import Relaying
from egress.schema import CELLS
from egress.sightings import sightings
from egress.vantage import dated, largest_view

DECIDED = ["sensor", "proto"]
"""Of entries, what nobody asks about any more once approvals and time have put them in order."""

__all__ = ["add", "cells_of", "certify", "evaluate", "evaluate_again", "join"]


def cells_of(flows: pl.DataFrame) -> pl.DataFrame:
    """CELLS of attributed FLOWS, in canonical order; rows about no host are left out."""
    return partial(sightings(flows.filter(pl.col("host") != ""))).sort(KEY)


@dataclass
class Memo:
    """What was made of the cells last time: whoever asks again and again keeps it and hands it in."""

    days: Answers = field(default_factory=lambda: Answers(packs=True))
    relaying: Relaying = field(default_factory=Relaying)


def evaluate(cells: pl.DataFrame, inventory: Inventory) -> list[Finding]:
    """Findings of everything in the cells, in order of start and subject; without evidence, which is kept beside."""
    clock = dated(cells)
    watermark = clock.watermark
    del cells  # of a long recording half of the ledger's memory
    entries, edges = _of_days(clock.cells, inventory)
    del clock
    return _judged(prove(entries, inventory, watermark), edges, watermark, inventory, None)


def evaluate_again(clock: DatedDays, inventory: Inventory, memo: Memo) -> list[Finding]:
    """The same, for the work that days need whose cells changed since it was asked last."""
    answers = memo.days.of(clock.days, lambda day: _of_days(day, inventory), inventory)
    parts, between = zip(*(answers or [_of_days(_NO_CELLS, inventory)]), strict=True)
    entries, edges = accounts.in_order(parts), pl.concat(between)
    del answers, parts, between
    return _judged(prove(entries, inventory, clock.watermark), edges, clock.watermark, inventory, memo.relaying)


_NO_CELLS = dated(CELLS.empty()).cells


def _judged(
    entries: pl.DataFrame, edges: pl.DataFrame, watermark: int, inventory: Inventory, relaying: Relaying | None
) -> list[Finding]:
    """Findings of entries with their final account, and of edges, when the data has reached that time."""
    charges = charges_of(entries, edges, inventory, relaying)
    del entries
    hosts = _of_hosts(charges, inventory, watermark)
    models = _of_models(charges, inventory, watermark, hosts)
    found = [*hosts, *models, *new_holders(charges, inventory, watermark)]
    return sorted(found, key=lambda finding: (finding.start, finding.subject, finding.uid))


def _of_days(cells: pl.DataFrame, inventory: Inventory) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Entries that left, in time order, as approvals divide them, and edges inside; of dated cells of whole UTC days.

    A part of the hosts after the other, in their order: what is made on the way is several times as much.
    """
    but_to = _full_holders(cells, inventory)
    entries, views = [], []
    for part in portions.by_value(cells, "host"):
        seen = largest_view(part, inventory.config.fleet.disjoint)
        sent = accounts.sent(seen, inventory)
        entries.append(accounts.in_order([accounts.approved(accounts.left(sent), inventory)]).drop(DECIDED))
        views.append(views_of(seen, sent, inventory, but_to))
    return pl.concat(entries, rechunk=True), edges_of(views)


def _full_holders(seen: pl.DataFrame, inventory: Inventory) -> list[str]:
    """Hosts that hold every model: they pay for all that they send, whatever they were sent."""
    known = {*seen["host"].unique(), *(host.id for host in inventory.config.fleet.hosts)}
    return sorted(host for host in known if len(inventory.models_of(host)) == len(inventory.config.models))


def _of_hosts(charges: Sequence[ModelCharges], inventory: Inventory, watermark: int) -> list[Finding]:
    found = []
    for host, models in sorted(_by_host(charges, inventory).items()):
        every = [rise for each in models for rise in rises(each.series)]
        for episode in episodes_of(f"host:{host}", models, every, watermark):
            found.append(explain.finding_of(episode, host, models, inventory))
    return found


def _by_host(charges: Sequence[ModelCharges], inventory: Inventory) -> dict[str, list[Charged]]:
    """All models of each host whose whole sum reaches a level of any; no window can hold more."""
    sums = [(each, each.of_hosts().group_by("host").agg(pl.col("bytes").cast(pl.Int128).sum())) for each in charges]
    enough = [total.filter(pl.col("bytes") >= ladder(each.model)[0][0])["host"] for each, total in sums]
    reaching = pl.concat([pl.Series([], dtype=pl.String), *enough]).unique().implode()
    found: dict[str, list[Charged]] = {}
    for each in charges:
        rows = each.of_hosts().filter(pl.col("host").is_in(reaching))
        for (host,), part in rows.group_by("host", maintain_order=True):
            found.setdefault(str(host), []).append(charged(each.model, str(host), part, inventory))
    return found


def _of_models(
    charges: Sequence[ModelCharges], inventory: Inventory, watermark: int, of_hosts: Sequence[Finding]
) -> list[Finding]:
    """Episodes of models over all their holders, where no holder's own episode explains the level."""
    found = []
    for each in charges:
        rows = each.of_model()
        has_one_host = rows["host"].n_unique() < 2 and each.model.tolerated_bytes_per_day is None
        if each.model.is_assumed or rows.is_empty() or has_one_host:
            continue
        every = charged(each.model, "", rows, inventory)
        for episode in episodes_of(f"model:{each.model.id}", [every], list(rises(every.series)), watermark):
            finding = explain.finding_of(episode, "", [every], inventory)
            if finding.level > max((other.level for other in of_hosts if _explains(other, finding)), default=0):
                found.append(finding)
    return found


def _explains(of_host: Finding, of_model: Finding) -> bool:
    is_about = any(share.id == of_model.models[0].id for share in of_host.models)
    return is_about and of_host.start <= of_model.last_seen and of_host.last_seen >= of_model.start
