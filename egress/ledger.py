"""The ledger: what left is charged to whoever sent it and compared with the models that the sender holds.

Pure and in integers. State is cells; everything else here is a fold over cells, inventory and lifecycle events in
event-time order, so batch sizes, order, restarts and duplicates cannot change a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from egress import accounts, explain
from egress.cells import add, cells_of, join
from egress.config import Model
from egress.contracts import Finding
from egress.episodes import Charged, episodes_of
from egress.inventory import Inventory
from egress.levels import Series, ladder, numbers
from egress.vantage import dated, largest_view

__all__ = ["add", "cells_of", "evaluate", "join"]


def evaluate(cells: pl.DataFrame, inventory: Inventory) -> list[Finding]:
    """Findings of everything in the cells, in order of start and subject; without evidence, which is kept beside."""
    clock = dated(cells)
    seen = largest_view(clock.cells, inventory.config.fleet.disjoint)
    left = accounts.charge(accounts.left(seen, inventory), inventory, clock.watermark)
    charges = _charges(accounts.excess(left, inventory), inventory)
    found = list(_host_findings(charges, inventory, clock.watermark))
    return sorted(found, key=lambda finding: (finding.start, finding.subject, finding.uid))


def _charges(excess: pl.DataFrame, inventory: Inventory) -> dict[str, pl.DataFrame]:
    """For each model what is charged to it, by host."""
    excess = excess.filter(pl.col("bytes") > 0)
    hosts = excess["host"].unique().to_list()
    charges = {}
    for model in inventory.config.models:
        held = excess.filter(pl.col("host").is_in(inventory.holders_of(model.id, hosts)))
        charges[model.id] = held.sort("host", "minute", maintain_order=True)
    return charges


def _host_findings(charges: Mapping[str, pl.DataFrame], inventory: Inventory, watermark: int) -> Iterator[Finding]:
    for host in sorted(_reaching(charges, inventory)):
        charged = [
            Charged(_series(inventory.model(model), part), part)
            for model, rows in charges.items()
            if (part := rows.filter(pl.col("host") == host)).height
        ]
        for episode in episodes_of(f"host:{host}", charged, watermark):
            yield explain.finding_of(episode, host, charged, inventory)


def _reaching(charges: Mapping[str, pl.DataFrame], inventory: Inventory) -> set[str]:
    """Hosts whose whole sum reaches any level; no window can hold more."""
    reaching: set[str] = set()
    for model, rows in charges.items():
        sums = rows.group_by("host").agg(pl.col("bytes").cast(pl.Int128).sum())
        lowest = ladder(inventory.model(model))[0][0]
        reaching.update(sums.filter(pl.col("bytes") >= lowest)["host"])
    return reaching


def _series(model: Model, charges: pl.DataFrame) -> Series:
    sums = charges.group_by("minute").agg(pl.col("bytes").cast(pl.Int128).sum()).sort("minute")
    none = np.zeros(sums.height, dtype=np.int64)
    return Series(model, sums["minute"].to_numpy(), numbers(sums["bytes"].to_list()), none.astype(bool), none, none)
