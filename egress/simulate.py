"""A fleet that never was, with what its sensors would have seen: honest traffic of an AI site, and labelled thefts.

The same seed, hosts and days give the same bytes in every file. Nothing honest changes when thefts are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from egress import attacks, fleetfiles, incidents, registry, sensors, sitepolicy, theftpackets, traffic, zeeklogs
from egress.errors import UsageError
from egress.fleetplan import DAY_US, SECOND_US, Plan, plan
from egress.theftscene import Theft
from egress.transfers import Watching, flows, together

LEAST_HOSTS = 5
"""One of every role."""
LEAST_DAYS = 2
"""The shortest patient theft takes a day, after one in which everything is as usual."""
ROWS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is asked for. `start` is UTC microseconds, at midnight."""

    out: Path
    hosts: int
    days: int
    seed: int
    start: int
    kinds: Sequence[str]
    has_zeek: bool = False
    """Zeek's logs of the perimeter too."""
    has_packets: bool = False
    """A capture of each theft too."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What was made."""

    rows: int
    thefts: int
    without_packets: tuple[str, ...] = ()
    """Captures that were asked for and would have been too large."""


def kinds_of(text: str) -> list[str]:
    """Kinds of theft from `all`, `none` or names with commas. Raises UsageError for what nobody has heard of."""
    if text in ("all", "none"):
        return list(attacks.KINDS) if text == "all" else []
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in attacks.KINDS]
    if unknown:
        raise UsageError(f"--attacks names {', '.join(unknown)}; known are all, none, {', '.join(attacks.KINDS)}")
    return names


def simulate(asked: Simulation) -> Simulated:
    """Writes flows and heartbeats (Parquet), `egress.toml` with its companions, and ground truth (JSON lines)."""
    if asked.hosts < LEAST_HOSTS or asked.days < LEAST_DAYS or asked.seed < 0:
        raise UsageError(f"a fleet needs {LEAST_HOSTS} hosts and {LEAST_DAYS} days at least, and a seed of 0 or more")
    fleet = plan(asked.hosts, asked.days, asked.seed, asked.start // DAY_US * DAY_US)
    usual = together(list(traffic.honest(fleet))).filter(pl.col("start") + pl.col("length") <= fleet.end)
    odd = incidents.incidents(fleet)
    policy = sitepolicy.policy(usual, [each.frame for each in odd], fleet)
    honest = together([incidents.but_for_pauses(usual, odd), *(each.frame for each in odd)])
    watching = watched(fleet)
    stolen = attacks.thefts(fleet, policy, asked.kinds, watching.sampled.tolist())
    everything = together([honest, *(theft.frame for theft in stolen)]).sort("start", "host", "peer", "sent")
    outages = [
        *sensors.innocent(fleet, watching.sampled.tolist()),
        *(each for theft in stolen for each in theft.outages),
    ]
    carried = flows(everything, fleet, watching)
    beats = sensors.heartbeats(carried, outages, fleet, watching.sampled.tolist())
    rows = sensors.seen(carried, outages, [each.id for each in fleet.machines])

    receipts = sitepolicy.receipts(honest, fleet, fleet.random("receipts"))
    receipts += [dict(each) for theft in stolen for each in theft.receipts]
    events = [*(event for each in odd for event in each.events), *(event for each in stolen for event in each.events)]
    events += sitepolicy.reviews(honest, fleet)
    labels = [theft.label(number, fleet) for number, theft in enumerate(stolen, start=1)]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "egress.toml").write_text(fleetfiles.configuration(fleet, policy, watching.moved), encoding="utf-8")
    fleetfiles.write_lines(asked.out / "lifecycle.jsonl", sorted(events, key=_by_time))
    fleetfiles.write_lines(asked.out / "receipts.jsonl", sorted(receipts, key=_by_time))
    fleetfiles.write_lines(asked.out / "labels.jsonl", labels)
    fleetfiles.write_lines(asked.out / "incidents.jsonl", [each.label(fleet) for each in odd])
    beats.write_parquet(asked.out / "heartbeats.parquet", compression="zstd")
    _write_flows(asked.out / "flows.parquet", rows)
    if asked.has_zeek:
        zeeklogs.write(asked.out / "zeek", carried, fleet)
    missing = _write_packets(asked.out / "pcap", stolen, fleet) if asked.has_packets else ()
    return Simulated(rows.height, len(stolen), missing)


def watched(fleet: Plan) -> Watching:
    """Every fleet has a few hosts behind a sampling gateway, some that change address, some with fast clocks."""
    rng = fleet.random("watching")
    serving = fleet.of_role("inference")
    sampled = serving[serving % 25 == 7]
    movers = rng.permutation(fleet.of_role("agent", "dev"))[: len(fleet.machines) // 30 + 1]
    skewed = rng.permutation(np.arange(len(fleet.machines)))[: len(fleet.machines) // 20 + 1]
    when = fleet.start + fleet.days * DAY_US // 2
    return Watching(
        sampled,
        {int(number): when for number in np.sort(movers)},
        {int(number): int(rng.integers(5, 240)) * SECOND_US for number in np.sort(skewed)},
    )


def _write_packets(folder: Path, stolen: Sequence[Theft], fleet: Plan) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"{theft.kind}-{number}": theft.frame for number, theft in enumerate(stolen, start=1)}
    return tuple(name for name, frame in named.items() if not theftpackets.write(folder / f"{name}.pcap", frame, fleet))


def _by_time(line: Mapping[str, object]) -> tuple[int, str]:
    time = line["time"]
    assert isinstance(time, int)
    return time, str(line)


def _write_flows(path: Path, rows: pl.DataFrame) -> None:
    writer = registry.flow_writer(path)
    for piece in rows.iter_slices(ROWS_AT_ONCE):
        writer.write(piece)
    writer.close()
