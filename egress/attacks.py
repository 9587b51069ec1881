"""Thefts of weights with their ground truth, one function a kind.

A theft takes a host that no other theft took, as long as there is one, and never changes honest traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from egress.addresses import text_of
from egress.fleetplan import DAY_US, HOUR_US, MODELS, SECOND_US, Longs, Plan
from egress.rhythm import lasting
from egress.transfers import UDP, transfers

FOUR_BIT, LOSSLESS, DELTA = 0.28, 0.67, 0.1
"""Shares of native bytes: 4-bit copies, compressed weights, a difference to known weights."""

GB = 1_000_000_000
FINE_S, COARSE_S = 10, 60
"""Reporting intervals, for thefts of minutes and of days."""
DRIP_BYTES = 40 * GB
HOSTS_A_REPEAT = 50
"""One more theft of every kind for so many hosts."""

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
    sampled: Sequence[int] = ()
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


def _sent(host: int, start: int, amount: int, peer: int, rate: float, **others: object) -> pl.DataFrame:
    size = np.array([amount], dtype=np.int64)
    columns = {"received": amount // 4000, "part_s": FINE_S, "port": 443, **others}
    return transfers(FAMILY, host=host, start=start, length=lasting(size, rate), peer=peer, sent=size, **columns)  # type: ignore[arg-type]


def _one(kind: str, scene: Scene, host: int, model: str, frame: pl.DataFrame) -> Theft:
    return Theft(kind, scene.id(host), model, frame, frame)


def _upload(kind: str, scene: Scene, share: float = 1.0, place: str = "takers", **others: object) -> Theft:
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    rate = float(scene.rng.choice([1e8, 3e8, 1.1e9]))
    frame = _sent(host, scene.when(), int(MODELS[model] * share), scene.taker(place), rate, **others)
    return _one(kind, scene, host, model, frame)


def burst(scene: Scene) -> Theft:
    """All of a model in one upload."""
    return _upload("burst", scene)


def quantised(scene: Scene) -> Theft:
    return _upload("quantised", scene, FOUR_BIT)


def compressed(scene: Scene) -> Theft:
    return _upload("compressed", scene, LOSSLESS)


def delta(scene: Scene) -> Theft:
    """Only what differs from weights that anybody can download."""
    host = scene.victim(among=scene.plan.holders("coder-32b-tuned"))
    model = "coder-32b-tuned"
    return _one("delta", scene, host, model, _sent(host, scene.when(), int(MODELS[model] * DELTA), scene.taker(), 1e8))


def ipv6(scene: Scene) -> Theft:
    return _upload("ipv6", scene, place="takers6")


def parallel(scene: Scene) -> Theft:
    """One model over 32 connections to one place."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    start = scene.when() + scene.rng.integers(0, 60 * SECOND_US, 32)
    size = np.full(32, MODELS[model] // 32, dtype=np.int64)
    frame = transfers(
        FAMILY,
        host=host,
        start=start,
        length=lasting(size, 4e7),
        peer=scene.taker(),
        sent=size,
        received=size // 4000,
        part_s=COARSE_S,
    )
    return _one("parallel", scene, host, model, frame)


def drip_weeks(scene: Scene) -> Theft:
    """40 GB, or all of a smaller model, over four weeks, around the clock."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    start, span = scene.plan.start + DAY_US, int(min(28, scene.plan.days - 1.5) * DAY_US)
    return _one("drip-weeks", scene, host, model, _dripped(scene, host, min(DRIP_BYTES, MODELS[model]), start, span))


def drip_days(scene: Scene) -> Theft:
    """A 4-bit copy within three days."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    span = int(min(3, scene.plan.days / 2) * DAY_US)
    frame = _dripped(scene, host, int(MODELS[model] * FOUR_BIT), scene.when(0.2, 0.45), span)
    return _one("drip-days", scene, host, model, frame)


def _dripped(scene: Scene, host: int, amount: int, start: int, span: int) -> pl.DataFrame:
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


def fan_out(scene: Scene) -> Theft:
    """One model in 48 pieces to as many places over six hours."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    start = scene.when() + np.arange(48) * (6 * HOUR_US // 48)
    size = np.full(48, MODELS[model] // 48, dtype=np.int64)
    peer = scene.rng.choice(scene.plan.places["web"], 48, replace=False)
    frame = transfers(
        FAMILY,
        host=host,
        start=start,
        length=lasting(size, 3e7),
        peer=peer,
        sent=size,
        received=size // 900,
        part_s=COARSE_S,
    )
    return _one("fan-out", scene, host, model, frame)


def fan_out_holders(scene: Scene) -> Theft:
    """A 4-bit copy in pieces from up to eight holders, each to a place of its own."""
    model = str(scene.rng.choice(["chat-70b", "coder-32b", "frontier-128b"]))
    holders = [number for number in scene.plan.holders(model) if scene.plan.machines[number].role != "storage"]
    some = scene.rng.permutation(np.array(holders or scene.plan.holders(model)))[:8]
    hosts = [scene.victim(among=np.array([number])) for number in some]
    amount, start = int(MODELS[model] * FOUR_BIT) // len(hosts), scene.when()
    pieces = [
        _sent(host, start + n * HOUR_US // 2, amount, scene.taker(), 2e7, part_s=COARSE_S)
        for n, host in enumerate(hosts)
    ]
    frame = pl.concat(pieces)
    return Theft(
        "fan-out-holders", scene.id(hosts[0]), model, frame, frame, tuple(scene.id(host) for host in hosts[1:])
    )


def relay(scene: Scene) -> Theft:
    """From a holder to a host that does not hold the model, and out from there hours later."""
    host, between = scene.victim("inference"), scene.victim("dev", "agent")
    strange = [each for each in scene.plan.machines[host].models if each not in scene.plan.machines[between].models]
    model = str(scene.rng.choice(strange or scene.plan.machines[host].models))
    amount, start = int(MODELS[model] * FOUR_BIT), scene.when()
    inside = _sent(host, start, amount, between, 2e8, port=8443, part_s=COARSE_S)
    outside = _sent(between, start + 4 * HOUR_US, amount, scene.taker(), 1e8, part_s=COARSE_S)
    return Theft("relay", scene.id(host), model, pl.concat([inside, outside]), outside, (scene.id(between),))


def reverse_pull(scene: Scene) -> Theft:
    """The taker connects and downloads, from a port that the site serves or from another."""
    host = scene.victim("inference")
    model = scene.model(host)
    port = int(scene.rng.choice([443, 8443]))
    frame = _sent(host, scene.when(), MODELS[model], scene.taker(), 3e8, opens=False, port=port)
    return _one("reverse-pull", scene, host, model, frame)


def piggyback(scene: Scene) -> Theft:
    """A 4-bit copy inside an approved job whose manifest lists other files; receipts come for those alone."""
    theft, listed = _migration("piggyback", scene)
    event = {
        "time": theft.left["start"][0] - 600 * SECOND_US,
        "event": "manifest",
        "job": f"migrate-{theft.left['peer'][0]}",
        "host": theft.host,
        "to": [text_of(scene.plan.endpoints[theft.left["peer"][0]].address)],
        "files": [{"path": f"part-{number:03}.tar", "bytes": size} for number, size in enumerate(listed)],
    }
    return _with(theft, events=(event,), receipts=_receipts(theft, listed, scene))


def piggyback_receipted(scene: Scene) -> Theft:
    """The same without a manifest, and the receipts list the smuggled file too: only caps can object."""
    theft, listed = _migration("piggyback-receipted", scene)
    return _with(theft, receipts=_receipts(theft, [*listed, theft.stolen or 0], scene))


def _migration(kind: str, scene: Scene) -> tuple[Theft, list[int]]:
    host = scene.victim("training", "storage")
    model = scene.model(host)
    stolen = int(MODELS[model] * FOUR_BIT)
    listed = [4 * GB] * 12
    place = int(scene.plan.places["recovery"][-1 - scene.jobs % 40])
    scene.jobs += 1
    frame = _sent(host, scene.when(0.45, 0.7), int((sum(listed) + stolen) * 1.012), place, 2.5e8)
    return Theft(kind, scene.id(host), model, frame, frame, stolen=stolen), listed


def _receipts(theft: Theft, sizes: Sequence[int], scene: Scene) -> tuple[Mapping[str, object], ...]:
    end = int((theft.left["start"] + theft.left["length"]).to_numpy().max())
    return tuple(
        {
            "time": end + (n + 5) * SECOND_US,
            "approval": "recovery",
            "host": theft.host,
            "object": f"{theft.kind}/{n}",
            "bytes": size,
        }
        for n, size in enumerate(sizes)
    )


def _with(theft: Theft, **changes: object) -> Theft:
    from dataclasses import replace

    return replace(theft, **changes)  # type: ignore[arg-type]


def own_bucket(scene: Scene) -> Theft:
    """Into a bucket of the thief's own at the approved cloud: no receipt will come."""
    host = scene.victim("training")
    model = scene.model(host)
    frame = _sent(
        host, scene.when(0.45, 0.7), int(MODELS[model] * FOUR_BIT), int(scene.plan.places["bucket"][0]), 2.5e8
    )
    return _one("own-bucket", scene, host, model, frame)


def mimic_checkpoint(scene: Scene) -> Theft:
    """Looks like the usual upload of a checkpoint in everything but the receipt."""
    host = scene.victim("training")
    model = scene.model(host)
    amount = 40 * GB if MODELS[model] * FOUR_BIT > 40 * GB else int(MODELS[model] * FOUR_BIT)
    size = np.full(8, amount // 8, dtype=np.int64)
    peer = scene.rng.choice(scene.plan.places["cloud"], 8)
    start = scene.when(0.45, 0.7)
    frame = transfers(
        FAMILY,
        host=host,
        start=start + np.arange(8),
        length=lasting(size * 8, 2.5e8),
        peer=peer,
        sent=size,
        received=size // 375,
        part_s=COARSE_S,
    )
    return _one("mimic-checkpoint", scene, host, model, frame)


def dns_tunnel(scene: Scene) -> Theft:
    """2 GB of questions to a server of the thief's own, over twelve hours."""
    host = scene.victim("inference", "agent", "dev")
    model = scene.model(host, 70 * GB)
    amount = min(2 * GB, MODELS[model])
    frame = _sent(
        host,
        scene.when(),
        amount,
        scene.taker(),
        amount / 43_200,
        received=amount // 3,
        port=53,
        proto=UDP,
        packet=180,
        part_s=COARSE_S,
    )
    return _one("dns-tunnel", scene, host, model, frame)


def icmp_tunnel(scene: Scene) -> Theft:
    host = scene.victim("inference", "agent", "dev")
    model = scene.model(host, 70 * GB)
    amount = min(4 * GB, MODELS[model])
    frame = _sent(
        host,
        scene.when(),
        amount,
        scene.taker(),
        amount / 10_800,
        received=amount,
        port=0,
        proto=1,
        packet=1400,
        part_s=COARSE_S,
    )
    return _one("icmp-tunnel", scene, host, model, frame)


def overlay(scene: Scene) -> Theft:
    """To an address inside, in a VXLAN whose far end is outside."""
    host = scene.victim("inference", "training")
    model = scene.model(host)
    inner = int(scene.plan.places["overlay"][0])
    frame = _sent(host, scene.when(), int(MODELS[model] * FOUR_BIT), inner, 1e8, tunnel="vxlan", outer=scene.taker())
    return _one("overlay", scene, host, model, frame)


KINDS: Mapping[str, Callable[[Scene], Theft]] = {
    "burst": burst,
    "parallel": parallel,
    "drip-days": drip_days,
    "drip-weeks": drip_weeks,
    "fan-out": fan_out,
    "fan-out-holders": fan_out_holders,
    "relay": relay,
    "reverse-pull": reverse_pull,
    "piggyback": piggyback,
    "piggyback-receipted": piggyback_receipted,
    "own-bucket": own_bucket,
    "mimic-checkpoint": mimic_checkpoint,
    "quantised": quantised,
    "compressed": compressed,
    "delta": delta,
    "dns-tunnel": dns_tunnel,
    "icmp-tunnel": icmp_tunnel,
    "overlay": overlay,
    "ipv6": ipv6,
}


def thefts(plan: Plan, kinds: Sequence[str]) -> list[Theft]:
    """Thefts of these kinds, more of each the larger the fleet; what is drawn for one kind moves no other's amounts."""
    repeats = max(1, len(plan.machines) // HOSTS_A_REPEAT)
    scene = Scene(plan, plan.random("victims"))
    found = []
    for kind in kinds:
        scene.rng = plan.random(f"theft {kind}")
        found += [KINDS[kind](scene) for _ in range(repeats)]
    return found
