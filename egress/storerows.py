"""Values as rows of the store: Arrow for frames, one row a finding, one row for each line of an account."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from egress import ddl, findingjson
from egress.config import Fleet
from egress.contracts import Finding, Level, Tally
from egress.schema import Table, conform

if TYPE_CHECKING:
    import pyarrow as pa


def to_arrow(frame: pl.DataFrame, table: Table) -> pa.Table:
    """`frame` as one batch of Arrow, as ClickHouse takes it with least work.

    Text of few values as a dictionary: spelled out, reading it is half of an insert. Addresses as
    fixed_size_binary(16), which becomes IPv6.
    """
    import pyarrow as pa

    from egress.packing import to_batch

    return pa.Table.from_batches([to_batch(conform(frame, table), table)])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which outcome of a run rows belong to: `extent` frames were read, and it was the `edition`th to be written."""

    run: str
    extent: int
    edition: int


STREAM = Outcome("stream", 0, 1)
"""All that a bus ever says is one run, of which every finding is replaced on its own."""


def of_findings(findings: Sequence[Finding], outcome: Outcome) -> pl.DataFrame:
    """FINDINGS rows."""
    rows = [(*_finding(finding, outcome.run), *_outcome(outcome), finding.revision, 0) for finding in findings]
    return pl.DataFrame(rows, schema=ddl.FINDINGS.polars, orient="row")


@dataclass(frozen=True, slots=True)
class Said:
    """What the stream said last of one finding; None: that it is none. Later is larger in `version`."""

    uid: str
    finding: Finding | None
    version: int


def of_said(said: Sequence[Said], outcome: Outcome) -> pl.DataFrame:
    """FINDINGS rows that replace what was said before."""
    rows = [
        (*_finding(one.finding or _nobody(one.uid), outcome.run), *_outcome(outcome), one.version, one.finding is None)
        for one in said
    ]
    return pl.DataFrame(rows, schema=ddl.FINDINGS.polars, orient="row")


def _outcome(outcome: Outcome) -> tuple[int, int]:
    return outcome.extent, outcome.edition


def _nobody(uid: str) -> Finding:
    """Stands for a finding that is none: only its id matters."""
    return Finding(uid, "", "", "", Level.INFO, "", 0, "", 0, 0, 0, {})


def _finding(finding: Finding, run: str) -> tuple[object, ...]:
    return (
        finding.uid,
        finding.revision,
        run,
        finding.detector,
        finding.subject,
        finding.host,
        int(finding.level),
        finding.title,
        finding.bytes,
        finding.window,
        finding.start,
        finding.first_seen,
        finding.last_seen,
        [model.id for model in finding.models],
        finding.models[0].fraction if finding.models else 0.0,
        [place.group for place in finding.destinations],
        list(finding.reasons),
        finding.is_closed,
        findingjson.encode(finding),
    )


def of_tally(tally: Tally, outcome: Outcome) -> pl.DataFrame:
    """COVERAGE rows."""
    rows = [(outcome.run, *line, outcome.extent, outcome.edition) for line in _lines(tally)]
    return pl.DataFrame(rows, schema=ddl.COVERAGE.polars, orient="row")


def _lines(tally: Tally) -> Iterator[tuple[str, str, int, int, int, str, str]]:
    yield "read", "", tally.read.frames, tally.read.bytes, 0, "", ""
    yield "metered", "", tally.metered.frames, tally.metered.bytes, 0, "", ""
    for reason, count in sorted(tally.skipped.items()):
        yield "skipped", reason, count.frames, count.bytes, 0, "", ""
    for name, number in sorted(tally.notes.items()):
        yield "note", name, number, 0, 0, "", ""
    for number, example in enumerate(tally.examples):
        yield "example", f"{example.reason} {number}", 0, 0, 0, "", f"{example.where}: {example.what}"
    for given in tally.inputs:
        yield "input", given.path, given.frames, given.bytes, given.wire_bytes, given.sha256, ""


def fingerprint(fleet: Fleet) -> str:
    """Changes with whoever is who: hosts, their addresses, the perimeter; not with roles or tolerances."""
    hosts = sorted((host.id, sorted(host.addresses)) for host in fleet.hosts)
    internal = sorted(str(network) for network in fleet.internal)
    return hashlib.sha256(repr((hosts, internal)).encode()).hexdigest()[:16]
