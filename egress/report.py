"""What a replay says to the person in front of it: findings first, then what was read and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from egress.contracts import Count, Destination, Finding, Level, ModelShare, Tally
from egress.replay import Outcome
from egress.words import moment, safe, share, size

COLOURS = {Level.INFO: "cyan", Level.MEDIUM: "yellow", Level.HIGH: "red", Level.CRITICAL: "bold white on red"}
NAMED_DESTINATIONS = 3
"""Destinations written out in the table; the rest are counted. `egress findings show` has them all."""


def show(outcome: Outcome, console: Console) -> None:
    """The findings table with its reasons, then coverage."""
    if outcome.findings:
        console.print(findings_table(outcome.findings))
        for finding in outcome.findings:
            console.print(why(finding), soft_wrap=False)
    else:
        console.print(Text("No findings."))
    console.print()
    console.print(coverage(outcome.tally, outcome.flows))


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line a finding, worst first."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "severity", "host", "could be gone", "to", "started by", "from - to (UTC)"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(
            finding.uid[:8],
            Text(finding.level.word, COLOURS[finding.level]),
            safe(finding.host or finding.subject),
            _lines(_model(model) for model in finding.models) or size(finding.bytes),
            _destinations(finding.destinations),
            _lines(_initiators(finding)),
            f"{moment(finding.first_seen)}\n{moment(finding.last_seen)}",
        )
    return table


def why(finding: Finding) -> Text:
    """Why one finding was raised, a reason a line."""
    text = Text(f"\n{finding.uid[:8]} ", style="bold")
    text.append(safe(finding.title), style="bold")
    for reason in finding.reasons:
        text.append(f"\n  - {safe(reason)}", style="not bold")
    for level, time in sorted(finding.level_times.items()):
        text.append(f"\n  - {level.word} at {moment(time)}", style="not bold")
    return text


def coverage(tally: Tally, flows: int) -> Table:
    """What became of every frame."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    _row(table, "read", tally.read, f"from {len(tally.inputs)} inputs")
    _row(table, "metered", tally.metered, f"in {flows:,} conversations")
    for reason, count in sorted(tally.skipped.items()):
        _row(table, "skipped", count, reason)
    for name, number in sorted(tally.notes.items()):
        table.add_row("note", f"{number:,}", "", name.replace("_", " "))
    for example in tally.examples:
        table.add_row("", "", "", Text(safe(f"{example.where}: {example.what}"), style="dim"))
    return table


def _row(table: Table, word: str, count: Count, remark: str) -> None:
    table.add_row(word, f"{count.frames:,} frames", f"{count.bytes:,} B", safe(remark))


def _model(model: ModelShare) -> str:
    name = "a model of assumed size" if model.is_assumed else safe(model.id)
    of = f"{share(model.fraction)} of {name} ({size(model.native_bytes)})"
    return f"{size(model.bytes)}: {of}, {share(model.of_4bit)} of a 4-bit copy"


def _destinations(destinations: Sequence[Destination]) -> str:
    lines = [_destination(destination) for destination in destinations[:NAMED_DESTINATIONS]]
    more = len(destinations) - NAMED_DESTINATIONS
    return _lines([*lines, f"and {more} more"] if more > 0 else lines)


def _destination(destination: Destination) -> str:
    who = ", ".join(safe(name) for name in destination.names[:2]) or ", ".join(destination.addresses[:2])
    return f"{safe(destination.group)} ({who}), {destination.account}, {size(destination.bytes)}"


def _initiators(finding: Finding) -> list[str]:
    return sorted({safe(str(seen.get("initiator", ""))) for seen in finding.evidence})


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
