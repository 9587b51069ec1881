"""Where transfers go and what shape they have: what families of traffic have in common."""

from __future__ import annotations

import numpy as np
import polars as pl

from egress.fleetplan import MODELS, Longs, Plan
from egress.rhythm import lasting
from egress.transfers import transfers

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000


def everybody(plan: Plan) -> Longs:
    return np.arange(len(plan.machines), dtype=np.int64)


def pick(plan: Plan, rng: np.random.Generator, place: str, count: int) -> Longs:
    found: Longs = rng.choice(plan.places[place], count)
    return found


def keepers(plan: Plan, rng: np.random.Generator, host: Longs) -> Longs:
    """For each machine a storage host that holds the first of its models, if one does."""
    storage = plan.of_role("storage")
    chosen = rng.choice(storage, host.size)
    for model in MODELS:
        wants = np.array([each.number for each in plan.machines if each.models[0] == model], dtype=np.int64)
        keeping = np.intersect1d(plan.holders(model), storage)
        mask = np.isin(host, wants) & (keeping.size > 0)
        chosen[mask] = keeping[chosen[mask] % max(1, keeping.size)]
    found: Longs = chosen
    return found


def pulled(plan: Plan, rng: np.random.Generator, place: str, host: Longs, start: Longs, got: Longs) -> pl.DataFrame:
    """Requests and windows are all that a download sends."""
    peer = pick(plan, rng, place, host.size)
    return transfers(
        place, host=host, start=start, length=lasting(got, 2e8), peer=peer, sent=got // 20_000 + 2_000, received=got
    )


def uploaded(
    family: str, plan: Plan, rng: np.random.Generator, place: str, host: Longs, start: Longs, size: Longs
) -> pl.DataFrame:
    """Over eight connections, each of which leaves one object."""
    peers = [pick(plan, rng, place, host.size) for _ in range(8)]
    lines = [
        transfers(
            family,
            host=host,
            start=start + k,
            length=lasting(size, 2.5e8),
            peer=peers[k],
            sent=size // 8,
            received=size // 3000,
        )
        for k in range(8)
    ]
    return pl.concat(lines)
