"""What thefts of weights have in common: their ground truth, and how victims, moments and places are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from egress.addresses import text_of
from egress.fleetplan import DAY_US, MODELS, SECOND_US, Longs, Plan
from egress.rhythm import lasting
from egress.sensors import Outage
from egress.sitepolicy import Policy
from egress.transfers import Values, transfers

GB = 1_000_000_000
FOUR_BIT, LOSSLESS, DELTA = 0.28, 0.67, 0.1
"""Shares of native bytes: 4-bit copies, compressed weights, a difference to known weights."""
FINE_S, COARSE_S = 10, 60
"""Reporting intervals, for thefts of minutes and of days."""
FAMILY = "theft"


@dataclass(frozen=True, slots=True)
class Theft:
    """Ground truth of one theft, and the traffic, receipts and manifests that it made."""

    kind: str
    host: str
    model: str
    frame: pl.DataFrame
    left: pl.DataFrame
    """Those of the transfers that crossed the perimeter with weights in them."""
    via: tuple[str, ...] = ()
    """Other hosts that took part."""
    receipts: tuple[Mapping[str, object], ...] = ()
    events: tuple[Mapping[str, object], ...] = ()
    outages: tuple[Outage, ...] = ()
    """When whose sensor was made silent for it."""
    stolen: int | None = None
    """Bytes of weights, where the transfers hold something else too."""

    def label(self, number: int, plan: Plan) -> dict[str, object]:
        places = self.left["peer"].unique().sort()
        outer = self.left["outer"].unique().sort()
        away = [*(outer.filter(outer >= 0) if outer.max() != -1 else places)]
        destinations = [text_of(plan.endpoints[place].address) for place in away]
        ends = self.left["start"] + self.left["length"]
        sent = self.stolen if self.stolen is not None else int(self.left["sent"].sum())
        return {
            "id": f"{self.kind}-{number}",
            "kind": self.kind,
            "host": self.host,
            "role": next(each.role for each in plan.machines if each.id == self.host),
            "hosts": [self.host, *self.via],
            "model": self.model,
            "model_bytes": MODELS[self.model],
            "destination": destinations[0],
            "destinations": destinations,
            "start": int(self.left["start"].to_numpy().min()),
            "end": int(ends.to_numpy().max()),
            "bytes": sent,
            "path": [self.host, *self.via, destinations[0]],
        }


@dataclass
class Scene:
    """Where thefts happen: hands out victims, moments and places, all by chance from the seed."""

    plan: Plan
    rng: np.random.Generator
    policy: Policy
    sampled: Sequence[int] = ()
    """Machines without a sensor of their own."""
    taken: dict[int, int] = field(default_factory=dict)
    jobs: int = 0
    """Jobs so far: each goes to an address of its own, since a manifest speaks about all that a host sends to one."""

    def victim(self, *roles: str, among: Longs | None = None) -> int:
        """A machine that fewest thefts took before."""
        pool = self.plan.of_role(*roles) if among is None else among
        order = self.rng.permutation(pool).tolist()
        chosen = int(min(order, key=lambda number: self.taken.get(number, 0)))
        self.taken[chosen] = self.taken.get(chosen, 0) + 1
        return chosen

    def model(self, host: int, most: int = 2**62) -> str:
        """One of those that the machine holds."""
        held = [model for model in self.plan.machines[host].models if MODELS[model] <= most]
        return str(self.rng.choice(held or self.plan.machines[host].models))

    def when(self, low: float = 0.45, high: float = 0.8) -> int:
        """Late enough that a site knows its traffic, early enough that a deadline passes."""
        return self.plan.start + int(self.plan.days * DAY_US * self.rng.uniform(low, high))

    def taker(self, place: str = "takers") -> int:
        return int(self.rng.choice(self.plan.places[place]))

    def id(self, host: int) -> str:
        return self.plan.machines[host].id


def sent(host: int, start: int, amount: int, peer: int, rate: float, **others: Values) -> pl.DataFrame:
    size = np.array([amount], dtype=np.int64)
    columns: dict[str, Values] = {"received": amount // 4000, "part_s": FINE_S, "port": 443, **others}
    return transfers(FAMILY, host=host, start=start, length=lasting(size, rate), peer=peer, sent=size, **columns)


def one(kind: str, scene: Scene, host: int, model: str, frame: pl.DataFrame) -> Theft:
    return Theft(kind, scene.id(host), model, frame, frame)


def dripped(scene: Scene, host: int, amount: int, start: int, span: int) -> pl.DataFrame:
    """Pieces every 40 minutes or so to one place."""
    count = max(1, span // (2400 * SECOND_US))
    weight = scene.rng.uniform(0.5, 1.5, count)
    size = (amount * weight / weight.sum()).astype(np.int64)
    begin = start + np.arange(count) * (span // count) + scene.rng.integers(0, span // count // 2, count)
    return transfers(
        FAMILY,
        host=host,
        start=begin,
        length=lasting(size, 1e6),
        peer=scene.taker(),
        sent=size,
        received=size // 500,
        part_s=COARSE_S,
    )
