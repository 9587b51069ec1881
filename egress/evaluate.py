"""Labelled fleets through the very engine, and through other tools' rules: who finds what, when, and at which cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from egress import alarms, configfile, findings, inputs, labels, peers, registry, severity, uploads
from egress.contracts import Batch, Finding, Level, ReadSettings
from egress.detect import Engine, Judgement
from egress.errors import InputError
from egress.inventory import Inventory
from egress.schema import FLOWS
from egress.scoring import BUDGETS, HeldOut, Point, Scored, Trial

FLOW_FILE, CONFIGURATION, LABELS = "flows.parquet", "egress.toml", "labels.jsonl"
INCIDENTS, HEARTBEATS = "incidents.jsonl", "heartbeats.parquet"
"""Read where they are there."""
EGRESS, LEDGER = "Egress", "ledger"
PUBLISHED = "published"
PLAIN, LISTED, ANSWERS = "plain", "allow-list", "allow-list, answers too"
CALIBRATED = "calibrated"
"""Detectors by themselves, with the rates that their levels rest on."""
DETECTORS = "detectors"


@dataclass(frozen=True, slots=True)
class Nominal:
    """What a budget of false episodes per host-day came to."""

    point: Point
    first_rate: float
    second_rate: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """One line of the tables."""

    name: str
    source: str
    variant: str
    unit: str
    marks: dict[str, Point]
    """At thresholds that have a name: levels of findings, what a rule's authors published."""
    within: dict[float, Point]
    """At the lowest threshold that keeps each budget."""
    held_out: dict[float, HeldOut]
    curve: tuple[Point, ...]
    nominal: dict[float, Nominal] = field(default_factory=dict)
    """What calibrated detectors promise, with no threshold set on these data."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Everybody's alarms in one fleet, by (name, variant)."""

    trial: Trial
    rows: int
    findings: tuple[Finding, ...]
    alarms: dict[tuple[str, str], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, over all fleets together."""

    fleets: tuple[str, ...]
    rows: int
    host_days: float
    thefts: int
    contestants: tuple[Contestant, ...]

    def named(self, name: str, variant: str = PLAIN) -> Contestant:
        return next(each for each in self.contestants if (each.name, each.variant) == (name, variant))


def evaluate(folders: Sequence[Path], processes: int = 1) -> Evaluation:
    """Runs every fleet that `egress simulate` left in a folder. Raises InputError where a folder holds none."""
    heard = _heard(folders, min(processes, len(folders)))
    trials = [each.trial for each in heard]
    found = []
    for key in heard[0].alarms:
        scored = Scored(trials, [each.alarms[key] for each in heard])
        found.append(_contestant(key, scored))
    return Evaluation(
        tuple(trial.fleet for trial in trials),
        sum(each.rows for each in heard),
        sum(trial.host_days for trial in trials),
        sum(len(trial.thefts) for trial in trials),
        tuple(found),
    )


def hear(folder: Path) -> Heard:
    """One fleet, through the engine and through every rule."""
    for name in (FLOW_FILE, CONFIGURATION, LABELS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no {name}; name a folder that `egress simulate` wrote")
    inventory = Inventory(configfile.load(folder / CONFIGURATION))
    engine = Engine(inventory, registry.detectors)
    seen, stolen, rows = [uploads.UPLOADS.to_frame()], [FLOWS.empty()], 0
    for batch in _read(folder):
        if batch.heartbeats is not None:
            engine.feed_heartbeats(batch.heartbeats)
        flows = batch.flows
        rows += flows.height
        stolen.append(flows.filter(pl.col("process") == labels.THEFT))
        # The column that holds the truth is shown to nobody.
        attributed = engine.feed(flows.with_columns(process=pl.lit("")))
        seen.append(uploads.of(attributed, inventory))
    known = labels.thefts(labels.read(folder / LABELS), pl.concat(stolen), inventory)
    everything = pl.concat(seen)
    trial = _trial(folder, known, everything, inventory)
    judged = engine.judge()
    raised = {
        (EGRESS, PLAIN): alarms.of_findings(judged.findings, judged.charged, known),
        (LEDGER, PLAIN): alarms.of_findings(judged.charged, judged.charged, known),
    }
    unseen = [finding for finding in judged.findings if finding.detector == alarms.COVERAGE]
    raised[alarms.COVERAGE, PLAIN] = alarms.of_findings(unseen, [], known)
    for detector in registry.DETECTORS:
        raised[detector, PLAIN] = alarms.of_scores(judged.scores.filter(pl.col("detector") == detector))
    raised |= dict(_calibrated(judged, inventory))
    return Heard(trial, rows, tuple(judged.findings), raised | dict(_of_peers(everything)))


def _calibrated(judged: Judgement, inventory: Inventory) -> Iterator[tuple[tuple[str, str], pl.DataFrame]]:
    rated = severity.judged(findings.episodes(judged.scores), judged.known, inventory)
    yield (DETECTORS, CALIBRATED), alarms.of_rates(rated)
    for detector in severity.CALIBRATED:
        yield (detector, CALIBRATED), alarms.of_rates(each for each in rated if each[0].row["detector"] == detector)


def _heard(folders: Sequence[Path], processes: int) -> list[Heard]:
    if processes < 2:
        return [hear(folder) for folder in folders]
    # Forked children of a process that has used Polars hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(hear, folders))


def _of_peers(seen: pl.DataFrame) -> Iterator[tuple[tuple[str, str], pl.DataFrame]]:
    opened = peers.opened(seen)
    for rule in peers.RULES:
        yield (rule.name, PLAIN), peers.alarms(rule, opened)
        yield (rule.name, LISTED), peers.alarms(rule, peers.unlisted(opened))
        if rule.is_sum:
            yield (rule.name, ANSWERS), peers.alarms(rule, peers.unlisted(seen))


def _read(folder: Path) -> Iterator[Batch]:
    paths = [path for path in (folder / FLOW_FILE, folder / HEARTBEATS) if path.is_file()]
    for collector, mine in inputs.sort(paths).claimed:
        yield from collector.read(mine, ReadSettings())


def _trial(folder: Path, known: Sequence[labels.Theft], seen: pl.DataFrame, inventory: Inventory) -> Trial:
    """Every listed host counts from the first to the last conversation with the outside."""
    odd = tuple(labels.read_incidents(folder / INCIDENTS))
    times = [0, 0] if seen.is_empty() else [int(seen["start"].to_numpy().min()), int(seen["end"].to_numpy().max())]
    return Trial(str(folder), tuple(known), odd, len(inventory.config.fleet.hosts), *times)


def _contestant(key: tuple[str, str], scored: Scored) -> Contestant:
    name, variant = key
    rule = next((rule for rule in peers.RULES if rule.name == name), None)
    named = {} if rule is None or rule.published is None else {PUBLISHED: rule.published}
    if name in (EGRESS, LEDGER, alarms.COVERAGE):
        named = {level.word: float(level) for level in Level}
    return Contestant(
        name,
        "Egress" if rule is None else rule.source,
        variant,
        _unit(key, rule),
        {word: scored.at(threshold) for word, threshold in named.items()},
        {budget: scored.within(budget) for budget in BUDGETS},
        {budget: scored.held_out(budget) for budget in BUDGETS},
        tuple(scored.curve()),
        {budget: _nominal(budget, scored) for budget in BUDGETS} if variant == CALIBRATED else {},
    )


def _unit(key: tuple[str, str], rule: peers.Rule | None) -> str:
    if key[1] == CALIBRATED:
        return "host-days"
    return "level" if key[0] in (EGRESS, LEDGER, alarms.COVERAGE) else rule.unit if rule else "score"


def _nominal(budget: float, scored: Scored) -> Nominal:
    # Once in so many host-days; a rate just at the budget is within it, whatever floats make of it.
    due = (1 - 1e-9) / budget
    return Nominal(scored.at(due), *scored.halves(due))
