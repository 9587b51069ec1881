"""Honest days that look like thefts: what an evaluation should count as false alarms, kind by kind.

Each has whatever paperwork a careful site would have: manifests before, receipts after, reviews of what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from egress.addresses import text_of
from egress.fleetplan import DAY_US, HOUR_US, SECOND_US, Longs, Plan
from egress.rhythm import around, lasting
from egress.sitepolicy import OVERHEAD, accepted_while_retiring
from egress.trafficshapes import GB, uploaded
from egress.transfers import transfers

Event = Mapping[str, object]

RETIRING = "assist-8b"
RESTORED = 16
"""Addresses of the recovery site that restore tests use; the next ones are for migrations."""


@dataclass(frozen=True, slots=True)
class Incident:
    """What happened to whom, and the papers about it."""

    kind: str
    hosts: tuple[int, ...]
    frame: pl.DataFrame
    events: tuple[Event, ...] = ()
    pauses: tuple[str, int, int] | None = None
    """A usual family that waits meanwhile, from when until when."""

    def label(self, plan: Plan) -> dict[str, object]:
        return {
            "kind": self.kind,
            "hosts": [plan.machines[host].id for host in self.hosts],
            "start": int(self.frame["start"].to_numpy().min()),
            "end": int((self.frame["start"] + self.frame["length"]).to_numpy().max()),
            "bytes": int(self.frame["sent"].sum()),
        }


def incidents(plan: Plan) -> list[Incident]:
    """One of each kind, but for those that a short time has no room for."""
    found = [incident(plan, plan.random(f"incident {name}")) for name, incident in INCIDENTS.items()]
    return [each for each in found if each.frame.height and _end(each.frame) < plan.end]


def but_for_pauses(usual: pl.DataFrame, odd: Sequence[Incident]) -> pl.DataFrame:
    """Usual traffic without what waits while something odd goes on."""
    for family, begin, end in (each.pauses for each in odd if each.pauses):
        usual = usual.filter((pl.col("family") != family) | ~pl.col("start").is_between(begin, end))
    return usual


def restore_test(plan: Plan, rng: np.random.Generator) -> Incident:
    """Every storage host copies itself to the recovery site in one night, listed and receipted."""
    hosts = plan.of_role("storage")
    start = _midnight(plan, 0.55) + 2 * HOUR_US
    jobs = [_job(plan, rng, int(host), start, [8 * GB] * 45, n % RESTORED) for n, host in enumerate(hosts)]
    return _of_jobs("restore-test", hosts, jobs)


def migration(plan: Plan, rng: np.random.Generator) -> Incident:
    """A training host moves a project to the recovery site, with a manifest."""
    hosts = rng.permutation(plan.of_role("training"))[:2]
    sizes = around(rng, 3 * GB, 0.6, 20).tolist()
    starts = [_midnight(plan, share) + 11 * HOUR_US for share in (0.35, 0.65)]
    jobs = [_job(plan, rng, int(host), starts[n], sizes, RESTORED + n) for n, host in enumerate(hosts)]
    return _of_jobs("migration", hosts, jobs)


def retirement_push(plan: Plan, rng: np.random.Generator) -> Incident:
    """While a model retires, one of its holders publishes an image; the manifest says so. Other images wait."""
    host = int(rng.choice(plan.of_role("dev")))
    begun = _midnight(plan, 0.6) + 9 * HOUR_US
    sizes = [int(0.7 * GB)] * 5
    frame = _listed_upload(rng, "publishing", host, begun + 5 * HOUR_US, sizes, int(plan.places["release"][0]))
    done = begun + 30 * HOUR_US
    steps = {"retire_requested": 0, "retire_approved": 2, "retire_executed": 24, "retire_verified": 30}
    events: list[Event] = [
        {"time": begun + after * HOUR_US, "event": step, "model": RETIRING, "by": "alice", "ticket": "OPS-310"}
        for step, after in steps.items()
    ]
    events.append(accepted_while_retiring(RETIRING, begun, done))
    events.append(_manifest(plan, host, begun + 4 * HOUR_US, int(plan.places["release"][0]), sizes))
    return Incident("retirement-push", (host,), frame, tuple(events), ("publishing", begun, done))


def retried_upload(plan: Plan, rng: np.random.Generator) -> Incident:
    """A checkpoint breaks off half-way and is sent again: nobody confirms the first half."""
    host = int(rng.choice(plan.of_role("training")))
    start = _midnight(plan, 0.4) + 13 * HOUR_US
    lost = uploaded("retries", plan, rng, "cloud", np.array([host]), np.array([start]), np.array([18 * GB]))
    review = {"time": start + 9 * HOUR_US, "event": "review", "host": plan.machines[host].id, "by": "carol"}
    until = start + 40 * HOUR_US
    review |= {"destinations": ["checkpoints"], "until": until, "ticket": "OPS-322", "note": "upload broke off"}
    return Incident("retried-upload", (host,), lost, (review,))


def doubled_cadence(plan: Plan, rng: np.random.Generator) -> Incident:
    """A few days before a deadline checkpoints leave twice as often."""
    hosts = rng.permutation(plan.of_role("training"))[: max(1, plan.of_role("training").size // 4)]
    days = max(1, plan.days // 10)
    start = _midnight(plan, 0.5) + np.arange(2 * days) * 12 * HOUR_US
    host, begin = np.repeat(hosts, start.size), np.tile(start, hosts.size)
    begin = begin + rng.integers(0, 2 * HOUR_US, begin.size)
    size = around(rng, 42 * GB, 0.04, begin.size)
    frame = uploaded("offsite", plan, rng, "cloud", host, begin, size)
    return Incident("doubled-cadence", tuple(hosts.tolist()), frame)


def pull_storm(plan: Plan, rng: np.random.Generator) -> Incident:
    """A new image reaches everybody who serves within ten minutes."""
    hosts = plan.of_role("inference")
    start = _midnight(plan, 0.7) + 14 * HOUR_US + rng.integers(0, 600 * SECOND_US, hosts.size)
    got = around(rng, 15 * GB, 0.05, hosts.size)
    peer = rng.choice(plan.places["registry"], hosts.size)
    length = lasting(got, 1e8)
    frame = transfers("registry", host=hosts, start=start, length=length, peer=peer, sent=got // 15_000, received=got)
    return Incident("pull-storm", tuple(hosts.tolist()), frame)


INCIDENTS: dict[str, Callable[[Plan, np.random.Generator], Incident]] = {
    "restore-test": restore_test,
    "migration": migration,
    "retirement-push": retirement_push,
    "retried-upload": retried_upload,
    "doubled-cadence": doubled_cadence,
    "pull-storm": pull_storm,
}


def _job(
    plan: Plan, rng: np.random.Generator, host: int, start: int, sizes: list[int], place: int
) -> tuple[pl.DataFrame, Event]:
    """A listed upload to an address of the recovery site of its own, and its manifest."""
    peer = int(plan.places["recovery"][place])
    frame = _listed_upload(rng, "recovery", host, start, sizes, peer)
    return frame, _manifest(plan, host, start - HOUR_US // 2, peer, sizes)


def _listed_upload(
    rng: np.random.Generator, family: str, host: int, start: int, sizes: list[int], peer: int
) -> pl.DataFrame:
    """One file after the other, at 2 Gbit/s."""
    size = np.array(sizes, dtype=np.int64)
    sent = (size * rng.uniform(*OVERHEAD, size.size)).astype(np.int64)
    length = lasting(sent, 2.5e8)
    begin = start + np.cumsum(length) - length
    return transfers(family, host=host, start=begin, length=length, peer=peer, sent=sent, received=sent // 3000)


def _manifest(plan: Plan, host: int, time: int, peer: int, sizes: list[int]) -> Event:
    files = [{"path": f"part-{number:03}.tar", "bytes": size} for number, size in enumerate(sizes)]
    to = [text_of(plan.endpoints[peer].address)]
    job = f"job-{host}-{peer}"
    return {"time": time, "event": "manifest", "job": job, "host": plan.machines[host].id, "to": to, "files": files}


def _of_jobs(kind: str, hosts: Longs, jobs: list[tuple[pl.DataFrame, Event]]) -> Incident:
    frames, events = zip(*jobs, strict=True)
    return Incident(kind, tuple(hosts.tolist()), pl.concat(frames), events)


def _midnight(plan: Plan, share: float) -> int:
    return plan.start + int(plan.days * share) * DAY_US


def _end(frame: pl.DataFrame) -> int:
    return int((frame["start"] + frame["length"]).to_numpy().max())
