"""What people and their agents send, and what they fetch. Volumes: `docs/simulation.md`."""

from __future__ import annotations

import numpy as np
import polars as pl

from egress.fleetplan import MINUTE_US, SECOND_US, Plan
from egress.rhythm import OFFICE, USERS, around, by_chance, lasting
from egress.trafficshapes import GB, KB, MB, everybody, pick, pulled, uploaded
from egress.transfers import DATAGRAM, UDP, transfers


def api_calls(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Agents send whole conversations again with every turn: uploads are several times the answers."""
    host, start = by_chance(plan, rng, plan.of_role("agent"), 90, USERS)
    sent = around(rng, 14 * MB, 0.9, host.size)
    peer = pick(plan, rng, "api", host.size)
    length = rng.integers(30, 300, host.size) * SECOND_US
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
        length=MINUTE_US,
        peer=peer,
        sent=sent,
        received=sent // 3,
        port=8000,
    )


def browsing(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """New names all day; half of it over QUIC."""
    host, start = by_chance(plan, rng, plan.of_role("agent", "dev"), 70, OFFICE)
    peer = pick(plan, rng, "web", host.size)
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
    peer = pick(plan, rng, "web", host.size)
    return transfers(
        "attachments", host=host, start=start, length=lasting(sent, 4e6), peer=peer, sent=sent, received=sent // 60
    )


def git(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, plan.of_role("agent", "dev", "training"), 8, OFFICE)
    sent = around(rng, 1.5 * MB, 1.6, host.size)
    peer = pick(plan, rng, "git", host.size)
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
    peer = pick(plan, rng, "partner", host.size)
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
    host, start = by_chance(plan, rng, everybody(plan), 6)
    sent = around(rng, 300 * KB, 1.5, host.size)
    peer = pick(plan, rng, "web", host.size)
    return transfers(
        "reports", host=host, start=start, length=20 * SECOND_US, peer=peer, sent=sent, received=sent // 20
    )


def publishing(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    """Images that people build and push."""
    host, start = by_chance(plan, rng, plan.of_role("dev"), 0.5, OFFICE)
    return uploaded("publishing", plan, rng, "registry", host, start, around(rng, 2.5 * GB, 0.7, host.size))


def packages(plan: Plan, rng: np.random.Generator) -> pl.DataFrame:
    host, start = by_chance(plan, rng, everybody(plan), 1.5, OFFICE)
    got = around(rng, 90 * MB, 1.2, host.size)
    return pulled(plan, rng, "packages", host, start, got)
