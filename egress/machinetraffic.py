"""What AI machines exchange whatever people do: serving, training, storage, upkeep. Volumes: `docs/simulation.md`."""

from __future__ import annotations

import numpy as np
import polars as pl

from egress.fleetplan import DAY_US, HOUR_US, MINUTE_US, MODELS, SECOND_US, Longs, Plan
from egress.rhythm import OFFICE, USERS, around, by_chance, lasting, regularly
from egress.trafficshapes import GB, KB, MB, everybody, keepers, pick, pulled, uploaded
from egress.transfers import UDP, transfers

BRIEF_US = 5 * MINUTE_US
"""What runs all day is written as a few minutes of every hour: bytes an hour are right, and minutes are what costs."""


def telemetry(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Scraped from outside, once a minute, 240 kB: the host answers."""
    host, start = regularly(plan, rng, everybody(plan), HOUR_US)
    sent = around(rng, 60 * 240 * KB, 0.15, host.size)
    place = plan.places["monitoring"][host % 2]
    return transfers(
        "telemetry",
        host=host,
        start=start,
        length=MINUTE_US // 2,
        peer=place,
        sent=sent,
        received=90 * KB,
        opens=False,
        port=9100,
        part_s=900,
    )


def names(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Questions to the site's resolver."""
    host, start = regularly(plan, rng, everybody(plan), HOUR_US)
    asked = around(rng, 120, 0.6, host.size)
    return transfers(
        "names",
        host=host,
        start=start,
        length=MINUTE_US // 2,
        peer=int(plan.places["resolver"][0]),
        sent=asked * 46,
        received=asked * 120,
        port=53,
        proto=UDP,
        packet=60,
        part_s=1800,
    )


def logs(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, everybody(plan), 24, USERS)
    sent = around(rng, 6 * MB, 0.7, host.size)
    peer = pick(plan, rng, "logs", host.size)
    return transfers("logs", host=host, start=start, length=MINUTE_US, peer=peer, sent=sent, received=sent // 200)


def containers(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("inference", "training", "agent"), 0.7, OFFICE)
    return pulled(plan, rng, "registry", host, start, around(rng, 9 * GB, 0.5, host.size))


def model_pulls(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Public weights from a hub: only what comes in is large."""
    host, start = by_chance(plan, rng, plan.of_role("inference", "training", "agent"), 0.15, OFFICE)
    return pulled(plan, rng, "hub", host, start, around(rng, 60 * GB, 0.9, host.size))


def deployments(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Weights from the site's own storage to those who serve them."""
    host, start = by_chance(plan, rng, plan.of_role("inference"), 0.15, OFFICE)
    held = {
        number: sum(MODELS[model] for model in plan.machines[number].models) for number in plan.of_role("inference")
    }
    got = np.array([held[number] for number in host], dtype=np.int64)
    peer = keepers(plan, rng, host)
    length = lasting(got, 1.2e9)
    return transfers(
        "deployments", host=host, start=start, length=length, peer=peer, sent=got // 100_000, received=got, port=2049
    )


def replies(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """What models answer to clients who connect: server-sent events take 150-250 bytes a token."""
    host, start = by_chance(plan, rng, plan.of_role("inference"), 220, USERS)
    peer = pick(plan, rng, "clients", host.size)
    sent = np.minimum(around(rng, 9 * MB, 0.8, host.size), 30 * MB)
    length = rng.integers(10, 150, host.size) * SECOND_US
    return transfers(
        "replies", host=host, start=start, length=length, peer=peer, sent=sent, received=sent // 8, opens=False
    )


def key_values(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """KV caches from the host that reads the prompt to the one that writes the answer: pairs within a pool."""
    serving = plan.of_role("inference")
    host, start = regularly(plan, rng, serving[: max(0, serving.size - 3)], HOUR_US)
    hour = (start // HOUR_US) % 24
    sent = (around(rng, 150 * GB, 0.3, host.size) * np.array(USERS)[hour]).astype(np.int64)
    return transfers(
        "key-values",
        host=host,
        start=start,
        length=BRIEF_US,
        peer=host + 3,
        sent=sent,
        received=sent // 400,
        port=5600,
        packet=8900,
        part_s=1800,
    )


def collectives(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """NCCL rings over TCP: each host sends to the next of the same job, for hours."""
    training = plan.of_role("training")
    host, start = regularly(plan, rng, training[: max(0, training.size - 2)], HOUR_US)
    sent = around(rng, 6_000 * GB, 0.1, host.size)
    return transfers(
        "collectives",
        host=host,
        start=start,
        length=BRIEF_US,
        peer=host + 2,
        sent=sent,
        received=sent // 500,
        port=29500,
        packet=8900,
        part_s=1800,
    )


def checkpoints(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Weights and optimizer state, 12-16 bytes a parameter, sharded over the job, into the site's own storage."""
    host, start = regularly(plan, rng, plan.of_role("training"), 3 * HOUR_US)
    sent = around(rng, 220 * GB, 0.05, host.size)
    peer = keepers(plan, rng, host)
    return transfers(
        "checkpoints",
        host=host,
        start=start,
        length=lasting(sent, 1.5e9),
        peer=peer,
        sent=sent,
        received=sent // 50_000,
        port=2049,
        packet=8900,
    )


def offsite(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Twice a day each training host sends its shard to buckets at an approved cloud, over eight connections."""
    host, start = regularly(plan, rng, plan.of_role("training"), 12 * HOUR_US)
    start = start + rng.integers(0, 20 * MINUTE_US, start.size)
    return uploaded("offsite", plan, rng, "cloud", host, start, around(rng, 42 * GB, 0.04, host.size))


def data_reads(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """From the site's data lake, which holds no weights and has no sensor."""
    host, start = by_chance(plan, rng, plan.of_role("training"), 12)
    got = around(rng, 80 * GB, 0.6, host.size)
    peer = pick(plan, rng, "lake", host.size)
    return transfers(
        "data-reads",
        host=host,
        start=start,
        length=lasting(got, 4e8),
        peer=peer,
        sent=got // 100_000,
        received=got,
        port=2049,
    )


def data_sets(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("training", "storage", "dev"), 0.5)
    return pulled(plan, rng, "datasets", host, start, around(rng, 25 * GB, 1.2, host.size))


def runs(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Curves and samples to an experiment tracker."""
    host, start = by_chance(plan, rng, plan.of_role("training"), 24)
    sent = around(rng, 8 * MB, 1.0, host.size)
    peer = pick(plan, rng, "tracking", host.size)
    return transfers("runs", host=host, start=start, length=MINUTE_US, peer=peer, sent=sent, received=sent // 50)


def backups(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Every night what changed, at weekends more."""
    host, start = _nightly(plan, rng, 1)
    is_sunday = (start // DAY_US + 3) % 7 == 6
    sent = around(rng, 120 * GB, 0.3, host.size) * np.where(is_sunday, 4, 1)
    return uploaded("backups", plan, rng, "backup", host, start, sent)


def replicas(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """A new region: nothing goes there in the first half, a copy every night from then on."""
    host, start = _nightly(plan, rng, 4)
    late = start >= plan.start + plan.days * DAY_US // 2
    return uploaded(
        "replicas", plan, rng, "region", host[late], start[late], around(rng, 60 * GB, 0.2, int(late.sum()))
    )


def _nightly(plan: Plan, rng: np.random.Generator, hour: int) -> tuple[Longs, Longs]:
    host, start = regularly(plan, rng, plan.of_role("storage"), DAY_US)
    return host, start // DAY_US * DAY_US + hour * HOUR_US + rng.integers(0, HOUR_US, host.size)
