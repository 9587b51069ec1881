"""Honest traffic of an AI fleet, family by family. `docs/simulation.md` says which volumes rest on what.

Each family draws from a chance of its own, so that adding one, or an attack, leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from egress.fleetplan import DAY_US, HOUR_US, MODELS, SECOND_US, Longs, Plan
from egress.rhythm import OFFICE, USERS, around, by_chance, lasting, regularly
from egress.transfers import DATAGRAM, UDP, transfers

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
MINUTE_US = 60 * SECOND_US

APPROVED = {
    "telemetry": "telemetry",
    "logs": "logs",
    "replies": "serving",
    "api-calls": "model-api",
    "git": "git",
    "offsite": "checkpoints",
    "backups": "backups",
    "replicas": "region-2",
    "runs": "tracking",
    "people": "partner",
    "publishing": "registry",
    "recovery": "recovery",
}
"""Which approval the site gave a family; all others leave without one."""

Family = Callable[[Plan, np.random.Generator], pl.DataFrame]


def honest(plan: Plan) -> Iterator[pl.DataFrame]:
    """The families' transfers, in a fixed order."""
    for name, family in FAMILIES.items():
        yield family(plan, plan.random(name))


def _pick(plan: Plan, rng: np.random.Generator, place: str, count: int) -> Longs:
    found: Longs = rng.choice(plan.places[place], count)
    return found


def telemetry(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Scraped from outside, four times a minute: the host answers."""
    host, start = regularly(plan, rng, _everybody(plan), HOUR_US)
    sent = around(rng, 240 * 60 * KB, 0.15, host.size)
    place = plan.places["monitoring"][host % 2]
    return transfers(
        "telemetry",
        host=host,
        start=start,
        length=HOUR_US - 20 * SECOND_US,
        peer=place,
        sent=sent,
        received=90 * KB,
        opens=False,
        port=9100,
        part_s=900,
    )


def names(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Questions to the site's resolver."""
    host, start = regularly(plan, rng, _everybody(plan), HOUR_US)
    asked = around(rng, 120, 0.6, host.size)
    return transfers(
        "names",
        host=host,
        start=start,
        length=HOUR_US - MINUTE_US,
        peer=int(plan.places["resolver"][0]),
        sent=asked * 46,
        received=asked * 120,
        port=53,
        proto=UDP,
        packet=60,
        part_s=1800,
    )


def logs(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, _everybody(plan), 24, USERS)
    sent = around(rng, 6 * MB, 0.7, host.size)
    peer = _pick(plan, rng, "logs", host.size)
    return transfers("logs", host=host, start=start, length=10 * MINUTE_US, peer=peer, sent=sent, received=sent // 200)


def packages(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, _everybody(plan), 1.5, OFFICE)
    got = around(rng, 90 * MB, 1.2, host.size)
    return _pull(plan, rng, "packages", host, start, got)


def containers(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("inference", "training", "agent"), 0.7, OFFICE)
    return _pull(plan, rng, "registry", host, start, around(rng, 9 * GB, 0.5, host.size))


def model_pulls(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Public weights from a hub: only what comes in is large."""
    host, start = by_chance(plan, rng, plan.of_role("inference", "training", "agent"), 0.15, OFFICE)
    return _pull(plan, rng, "hub", host, start, around(rng, 60 * GB, 0.9, host.size))


def deployments(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Weights from the site's own storage to those who serve them."""
    host, start = by_chance(plan, rng, plan.of_role("inference"), 0.15, OFFICE)
    held = {
        number: sum(MODELS[model] for model in plan.machines[number].models) for number in plan.of_role("inference")
    }
    got = np.array([held[number] for number in host], dtype=np.int64)
    peer = _keepers(plan, rng, host)
    length = lasting(got, 1.2e9)
    return transfers(
        "deployments", host=host, start=start, length=length, peer=peer, sent=got // 5000, received=got, port=2049
    )


def replies(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """What models answer to clients who connect: server-sent events take 150-250 bytes a token."""
    host, start = by_chance(plan, rng, plan.of_role("inference"), 220, USERS)
    peer = _pick(plan, rng, "clients", host.size)
    sent = np.minimum(around(rng, 9 * MB, 0.8, host.size), 30 * MB)
    length = rng.integers(10, 600, host.size) * SECOND_US
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
        length=HOUR_US - SECOND_US,
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
        length=HOUR_US - SECOND_US,
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
    peer = _keepers(plan, rng, host)
    return transfers(
        "checkpoints",
        host=host,
        start=start,
        length=lasting(sent, 1.5e9),
        peer=peer,
        sent=sent,
        received=sent // 900,
        port=2049,
        packet=8900,
    )


def offsite(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Twice a day each training host sends its shard to buckets at an approved cloud, over eight connections."""
    host, start = regularly(plan, rng, plan.of_role("training"), 12 * HOUR_US)
    start = start + rng.integers(0, 20 * MINUTE_US, start.size)
    return _uploaded("offsite", plan, rng, "cloud", host, start, around(rng, 42 * GB, 0.04, host.size))


def data_reads(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """From the site's data lake, which holds no weights and has no sensor."""
    host, start = by_chance(plan, rng, plan.of_role("training"), 12)
    got = around(rng, 80 * GB, 0.6, host.size)
    peer = _pick(plan, rng, "lake", host.size)
    return transfers(
        "data-reads",
        host=host,
        start=start,
        length=lasting(got, 4e8),
        peer=peer,
        sent=got // 4000,
        received=got,
        port=2049,
    )


def data_sets(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("training", "storage", "dev"), 0.5)
    return _pull(plan, rng, "datasets", host, start, around(rng, 25 * GB, 1.2, host.size))


def runs(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Curves and samples to an experiment tracker."""
    host, start = by_chance(plan, rng, plan.of_role("training"), 24)
    sent = around(rng, 8 * MB, 1.0, host.size)
    peer = _pick(plan, rng, "tracking", host.size)
    return transfers("runs", host=host, start=start, length=50 * MINUTE_US, peer=peer, sent=sent, received=sent // 50)


def api_calls(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Agents send whole conversations again with every turn: uploads are several times the answers."""
    host, start = by_chance(plan, rng, plan.of_role("agent"), 90, USERS)
    sent = around(rng, 14 * MB, 0.9, host.size)
    peer = _pick(plan, rng, "api", host.size)
    length = rng.integers(60, 1500, host.size) * SECOND_US
    return transfers("api-calls", host=host, start=start, length=length, peer=peer, sent=sent, received=sent // 6)


def inside_calls(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Agents ask the site's own models."""
    host, start = by_chance(plan, rng, plan.of_role("agent"), 40, USERS)
    peer = rng.choice(plan.of_role("inference"), host.size)
    sent = around(rng, 2 * MB, 0.8, host.size)
    return transfers(
        "inside-calls",
        host=host,
        start=start,
        length=5 * MINUTE_US,
        peer=peer,
        sent=sent,
        received=sent // 3,
        port=8000,
    )


def browsing(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """New names all day; half of it over QUIC."""
    host, start = by_chance(plan, rng, plan.of_role("agent", "dev"), 70, OFFICE)
    peer = _pick(plan, rng, "web", host.size)
    is_quic = rng.random(host.size) < 0.5
    sent = around(rng, 60 * KB, 1.2, host.size)
    return transfers(
        "browsing",
        host=host,
        start=start,
        length=rng.integers(1, 180, host.size) * SECOND_US,
        peer=peer,
        sent=sent,
        received=around(rng, 2 * MB, 1.3, host.size),
        proto=np.where(is_quic, UDP, 6),
        packet=np.where(is_quic, DATAGRAM, 1448),
    )


def attachments(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Agents and people put files into forms, tickets and pastes: nobody approved it, nobody minds."""
    host, start = by_chance(plan, rng, plan.of_role("agent", "dev"), 14, OFFICE)
    sent = np.minimum(around(rng, 3 * MB, 1.5, host.size), 150 * MB)
    peer = _pick(plan, rng, "web", host.size)
    return transfers(
        "attachments", host=host, start=start, length=lasting(sent, 4e6), peer=peer, sent=sent, received=sent // 60
    )


def git(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("agent", "dev", "training"), 8, OFFICE)
    sent = around(rng, 1.5 * MB, 1.6, host.size)
    peer = _pick(plan, rng, "git", host.size)
    return transfers(
        "git",
        host=host,
        start=start,
        length=lasting(sent, 5e6),
        peer=peer,
        sent=sent,
        received=around(rng, 6 * MB, 1.4, host.size),
        port=22,
    )


def people(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Results to a partner by rsync, as agreed."""
    host, start = by_chance(plan, rng, plan.of_role("dev"), 0.8, OFFICE)
    sent = around(rng, 400 * MB, 1.1, host.size)
    peer = _pick(plan, rng, "partner", host.size)
    return transfers(
        "people", host=host, start=start, length=lasting(sent, 3e7), peer=peer, sent=sent, received=sent // 90, port=22
    )


def errands(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Files that somebody takes home: unapproved, seldom, not small."""
    host, start = by_chance(plan, rng, plan.of_role("dev"), 0.25, OFFICE)
    sent = np.minimum(around(rng, 60 * MB, 1.3, host.size), 2 * GB)
    peer = plan.places["homes"][host % plan.places["homes"].size]
    return transfers(
        "errands", host=host, start=start, length=lasting(sent, 6e6), peer=peer, sent=sent, received=sent // 80, port=22
    )


def reports(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Crash reports, licence checks, pings of libraries to their makers."""
    host, start = by_chance(plan, rng, _everybody(plan), 6)
    sent = around(rng, 300 * KB, 1.5, host.size)
    peer = _pick(plan, rng, "web", host.size)
    return transfers(
        "reports", host=host, start=start, length=20 * SECOND_US, peer=peer, sent=sent, received=sent // 20
    )


def publishing(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Images that people build and push."""
    host, start = by_chance(plan, rng, plan.of_role("dev"), 0.5, OFFICE)
    return _uploaded("publishing", plan, rng, "registry", host, start, around(rng, 2.5 * GB, 0.7, host.size))


def backups(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Every night what changed, at weekends more."""
    host, start = _nightly(plan, rng, 1)
    is_sunday = (start // DAY_US + 3) % 7 == 6
    sent = around(rng, 120 * GB, 0.3, host.size) * np.where(is_sunday, 4, 1)
    return _uploaded("backups", plan, rng, "backup", host, start, sent)


def replicas(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """A new region: nothing goes there in the first half, a copy every night from then on."""
    host, start = _nightly(plan, rng, 4)
    late = start >= plan.start + plan.days * DAY_US // 2
    return _uploaded(
        "replicas", plan, rng, "region", host[late], start[late], around(rng, 60 * GB, 0.2, int(late.sum()))
    )


FAMILIES: dict[str, Family] = {
    "telemetry": telemetry,
    "names": names,
    "logs": logs,
    "packages": packages,
    "containers": containers,
    "model-pulls": model_pulls,
    "deployments": deployments,
    "replies": replies,
    "key-values": key_values,
    "collectives": collectives,
    "checkpoints": checkpoints,
    "offsite": offsite,
    "data-reads": data_reads,
    "data-sets": data_sets,
    "runs": runs,
    "api-calls": api_calls,
    "inside-calls": inside_calls,
    "browsing": browsing,
    "attachments": attachments,
    "git": git,
    "people": people,
    "errands": errands,
    "reports": reports,
    "publishing": publishing,
    "backups": backups,
    "replicas": replicas,
}


def _everybody(plan: Plan) -> Longs:
    return np.arange(len(plan.machines), dtype=np.int64)


def _keepers(plan: Plan, rng: np.random.Generator, host: Longs) -> Longs:
    """For each machine a storage host that holds the first of its models."""
    storage = plan.of_role("storage")
    chosen = rng.choice(storage, host.size)
    for model in MODELS:
        wants = np.array([each.number for each in plan.machines if each.models[0] == model], dtype=np.int64)
        keepers = np.intersect1d(plan.holders(model), storage)
        mask = np.isin(host, wants)
        chosen[mask] = keepers[chosen[mask] % keepers.size]
    found: Longs = chosen
    return found


def _pull(plan: Plan, rng: np.random.Generator, place: str, host: Longs, start: Longs, got: Longs) -> pl.DataFrame:
    """Requests and windows are all that a download sends."""
    peer = _pick(plan, rng, place, host.size)
    return transfers(
        place, host=host, start=start, length=lasting(got, 2e8), peer=peer, sent=got // 20_000 + 2_000, received=got
    )


def _uploaded(
    family: str, plan: Plan, rng: np.random.Generator, place: str, host: Longs, start: Longs, size: Longs
) -> pl.DataFrame:
    """Over eight connections, each of which leaves one object."""
    peers = [_pick(plan, rng, place, host.size) for _ in range(8)]
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


def _nightly(plan: Plan, rng: np.random.Generator, hour: int) -> tuple[Longs, Longs]:
    host, start = regularly(plan, rng, plan.of_role("storage"), DAY_US)
    return host, start // DAY_US * DAY_US + hour * HOUR_US + rng.integers(0, HOUR_US, host.size)
