"""Thefts that hurry: all of it at once, in parallel, spread, relayed, pulled, in other protocols."""

from __future__ import annotations

import numpy as np
import polars as pl

from egress.fleetplan import HOUR_US, MODELS, SECOND_US
from egress.rhythm import lasting
from egress.theftscene import COARSE_S, DELTA, FAMILY, FOUR_BIT, GB, LOSSLESS, Scene, Theft, one, sent
from egress.transfers import UDP, Values, transfers

MOST_HOLDERS = 8


def _upload(kind: str, scene: Scene, share: float = 1.0, place: str = "takers", **others: Values) -> Theft:
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    rate = float(scene.rng.choice([1e8, 3e8, 1.1e9]))
    frame = sent(host, scene.when(), int(MODELS[model] * share), scene.taker(place), rate, **others)
    return one(kind, scene, host, model, frame)


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
    return one("delta", scene, host, model, sent(host, scene.when(), int(MODELS[model] * DELTA), scene.taker(), 1e8))


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
    return one("parallel", scene, host, model, frame)


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
    return one("fan-out", scene, host, model, frame)


def fan_out_holders(scene: Scene) -> Theft:
    """A 4-bit copy in pieces from up to eight holders, each to a place of its own."""
    model = str(scene.rng.choice(["chat-70b", "coder-32b", "frontier-128b"]))
    holders = [number for number in scene.plan.holders(model) if scene.plan.machines[number].role != "storage"]
    free = np.array(holders or scene.plan.holders(model))
    hosts: list[int] = []
    while free.size and len(hosts) < MOST_HOLDERS:
        hosts.append(scene.victim(among=free))
        free = free[free != hosts[-1]]
    amount, start = int(MODELS[model] * FOUR_BIT) // len(hosts), scene.when()
    pieces = [
        sent(host, start + n * HOUR_US // 2, amount, scene.taker(), 2e7, part_s=COARSE_S)
        for n, host in enumerate(hosts)
    ]
    frame = pl.concat(pieces)
    return Theft(
        "fan-out-holders", scene.id(hosts[0]), model, frame, frame, tuple(scene.id(host) for host in hosts[1:])
    )


def relay(scene: Scene) -> Theft:
    """From a holder to a host that does not hold the model, and out from there hours later."""
    host, between = scene.victim("inference"), scene.victim("dev")
    strange = [each for each in scene.plan.machines[host].models if each not in scene.plan.machines[between].models]
    model = str(scene.rng.choice(strange or scene.plan.machines[host].models))
    amount, start = int(MODELS[model] * FOUR_BIT), scene.when()
    inside = sent(host, start, amount, between, 2e8, port=8443, part_s=COARSE_S)
    outside = sent(between, start + 4 * HOUR_US, amount, scene.taker(), 1e8, part_s=COARSE_S)
    return Theft("relay", scene.id(host), model, pl.concat([inside, outside]), outside, (scene.id(between),))


def reverse_pull(scene: Scene) -> Theft:
    """The taker connects and downloads, from a port that the site serves or from another."""
    host = scene.victim("inference")
    model = scene.model(host)
    port = int(scene.rng.choice([443, 8443]))
    frame = sent(host, scene.when(), MODELS[model], scene.taker(), 3e8, opens=False, port=port)
    return one("reverse-pull", scene, host, model, frame)


def dns_tunnel(scene: Scene) -> Theft:
    """2 GB of questions to a server of the thief's own, over twelve hours."""
    host = scene.victim("inference", "agent", "dev")
    model = scene.model(host, 70 * GB)
    amount = min(2 * GB, MODELS[model])
    frame = sent(
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
    return one("dns-tunnel", scene, host, model, frame)


def icmp_tunnel(scene: Scene) -> Theft:
    host = scene.victim("inference", "agent", "dev")
    model = scene.model(host, 70 * GB)
    amount = min(4 * GB, MODELS[model])
    frame = sent(
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
    return one("icmp-tunnel", scene, host, model, frame)


def overlay(scene: Scene) -> Theft:
    """To an address inside, in a VXLAN whose far end is outside."""
    host = scene.victim("inference", "training")
    model = scene.model(host)
    inner = int(scene.plan.places["overlay"][0])
    frame = sent(host, scene.when(), int(MODELS[model] * FOUR_BIT), inner, 1e8, tunnel="vxlan", outer=scene.taker())
    return one("overlay", scene, host, model, frame)
