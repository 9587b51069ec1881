"""What a replay says to the person in front of it: findings first, then what was read and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egress.addresses import text_of
from egress.certificate import Certificate
from egress.contracts import Count, Destination, Finding, Level, ModelShare
from egress.replay import Outcome
from egress.words import moment, safe, share, size

if TYPE_CHECKING:
    from egress.dissect import Dissection

COLOURS = {Level.INFO: "cyan", Level.MEDIUM: "yellow", Level.HIGH: "red", Level.CRITICAL: "bold white on red"}
NUMBERS = {"bytes", "sent", "received", "missed", "connections", "packets"}
NAMED_MODELS = 2
NAMED_DESTINATIONS = 3
"""Destinations written out in the table; the rest are counted. `egress findings show` has them all."""


def show(outcome: Outcome, console: Console) -> None:
    """The findings table with its reasons, what rules took out of it, then coverage."""
    queue = in_queue(outcome.findings)
    if queue:
        console.print(findings_table(queue))
        for finding in queue:
            console.print(why(finding), soft_wrap=False)
    else:
        console.print(Text("No findings."))
    if len(queue) < len(outcome.findings):
        console.print(suppressed(outcome.findings))
    console.print()
    console.print(coverage(outcome))


def in_queue(findings: Iterable[Finding]) -> list[Finding]:
    """Those that no rule suppressed."""
    return [finding for finding in findings if not finding.suppressed_by]


def suppressed(findings: Iterable[Finding]) -> Text:
    """How many were suppressed, by which rules."""
    counts = Counter(finding.suppressed_by for finding in findings if finding.suppressed_by)
    rules = ", ".join(f"{safe(rule)}: {count:,}" for rule, count in sorted(counts.items()))
    return Text(f"\n{sum(counts.values()):,} suppressed by rules ({rules})")


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line a finding, worst first."""
    table = _table(("severity", "host", "could be gone", "to", "started by", "first and last (UTC)", "id"), ())
    for finding in findings:
        table.add_row(
            Text(finding.level.word, COLOURS[finding.level]),
            safe(finding.host or finding.subject),
            _lines(_model(model) for model in finding.models[:NAMED_MODELS]) or size(finding.bytes),
            _destinations(finding.destinations),
            _lines(_initiators(finding)),
            f"{_clock(finding.first_seen)}\n{_clock(finding.last_seen)}",
            finding.uid[:8],
        )
    return table


def show_one(finding: Finding, console: Console) -> None:
    """One finding with everything known of it: reasons, every destination, the largest conversations."""
    console.print(findings_table([finding]))
    console.print(why(finding))
    console.print(
        _table(
            ("destination", "account", "bytes", "addresses", "names"),
            (
                (
                    safe(place.group),
                    place.account,
                    f"{place.bytes:,}",
                    ", ".join(place.addresses),
                    ", ".join(safe(name) for name in place.names),
                )
                for place in finding.destinations
            ),
        )
    )
    console.print(
        _table(
            ("started by", "from", "to", "protocol", "bytes", "connections", "name", "first packet in"),
            (
                (
                    safe(str(seen.get("initiator", ""))),
                    str(seen["src_ip"]),
                    f"{seen['dst_ip']}:{seen['dst_port']}",
                    str(seen["proto"]),
                    f"{seen['bytes']:,}",
                    str(seen.get("flows", "")),
                    safe(str(seen["name"])),
                    safe(f"{seen.get('origin', '')}, packet {seen.get('position', '')}"),
                )
                for seen in finding.evidence
            ),
        )
    )


def show_dissection(dissection: Dissection, console: Console) -> None:
    """What tshark saw in the packets of a finding; its text is escaped already."""
    if dissection.rows:
        rows = ((seen.conversation, seen.what, seen.value, f"{seen.count:,}") for seen in dissection.rows)
        console.print(_table(("conversation", "what", "value", "packets"), rows))
    else:
        console.print(Text("tshark sees no TLS handshake, HTTP, SSH or DNS in these packets."))
    for note in dissection.notes:
        console.print(Text(f"note: {note}", style="dim"))


def ledger_totals(cells: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Charged bytes by host and remote, largest first: the `limit` largest."""
    keys = ["host", "remote_ip", "outer_ip", "tunnel", "name"]
    sums = [pl.col("sent", "received", "missed").sum(), pl.col("first").min(), pl.col("last").max()]
    largest = cells.lazy().group_by([*keys, "sensor"]).agg(sums).sort("sent", "sensor", descending=[True, False])
    totals = largest.unique(keys, keep="first", maintain_order=True).sort(
        ["sent", *keys], descending=[True] + [False] * 5
    )
    frame = totals.head(limit).collect()
    texts = [pl.Series(name, [text_of(one) for one in frame[name]], pl.String) for name in ("remote_ip", "outer_ip")]
    return frame.with_columns(texts)


def ledger_table(totals: pl.DataFrame) -> Table:
    """What `ledger_totals` gives, for a person."""
    headings = ("host", "remote", "through", "name", "sent", "received", "missed", "from - to (UTC)")
    return _table(
        headings,
        (
            (
                safe(row["host"]),
                row["remote_ip"],
                f"{row['tunnel']} {row['outer_ip']}".strip(),
                safe(row["name"]),
                f"{row['sent']:,}",
                f"{row['received']:,}",
                f"{row['missed']:,}",
                f"{row['first']:%FT%TZ} - {row['last']:%FT%TZ}",
            )
            for row in totals.iter_rows(named=True)
        ),
    )


def show_certificate(issued: Certificate, console: Console) -> None:
    """The verdict, the sums it rests on, and what was assumed."""
    who = safe(issued.host) or "the fleet"
    until = f"from {moment(issued.start)} to {moment(issued.end)}"
    console.print(f"{issued.verdict}: {safe(issued.model)} ({size(issued.native_bytes)}) leaving {who} {until}")
    sums = {name: getattr(issued, name) for name in ("unapproved", "unproven", "proven", "gap")}
    console.print(_table(("account", "bytes"), ((name, f"{number:,}") for name, number in sums.items())))
    for assumption in issued.assumptions:
        console.print(f"  - {safe(assumption)}")


def why(finding: Finding) -> Text:
    """Why one finding was raised, a reason a line."""
    text = Text(f"\n{finding.uid[:8]} {safe(finding.title)}")
    text.stylize("bold")
    for reason in finding.reasons:
        text.append(f"\n  - {safe(reason)}")
    levels = ", ".join(f"{level.word} {moment(time)}" for level, time in sorted(finding.level_times.items()))
    text.append(f"\n  - reached {levels}")
    return text


def coverage(outcome: Outcome) -> Table:
    """What became of every frame, and what was charged to nobody."""
    tally = outcome.tally
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    _row(table, "read", tally.read, f"from {len(tally.inputs)} inputs")
    _row(table, "metered", tally.metered, f"in {outcome.flows:,} conversations")
    if outcome.unwatched.frames:
        rows = f"{outcome.unwatched.frames:,} rows"
        table.add_row("unwatched", rows, f"{outcome.unwatched.bytes:,} B", "neither side is inside: charged to nobody")
    for reason, count in sorted(tally.skipped.items()):
        _row(table, "skipped", count, reason)
    for name, number in sorted(tally.notes.items()):
        table.add_row("note", f"{number:,}", "", safe(name.replace("_", " ")))
    for example in {example.reason: example for example in reversed(tally.examples)}.values():
        table.add_row("", "", "", Text(safe(f"{example.where}: {example.what}"), style="dim"))
    return table


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in NUMBERS else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _row(table: Table, word: str, count: Count, remark: str) -> None:
    table.add_row(word, f"{count.frames:,} frames", f"{count.bytes:,} B", safe(remark))


def _model(model: ModelShare) -> str:
    name = "a model of assumed size" if model.is_assumed else safe(model.id)
    return f"{share(model.fraction)} of {name}\n({size(model.bytes)}; {share(model.of_4bit)} of a 4-bit copy)"


def _destinations(destinations: Sequence[Destination]) -> str:
    lines = [_destination(destination) for destination in destinations[:NAMED_DESTINATIONS]]
    more = len(destinations) - NAMED_DESTINATIONS
    return _lines([*lines, f"and {more} more"] if more > 0 else lines)


def _destination(place: Destination) -> str:
    who = place.names[:1] or place.addresses[:1] or (place.group,)
    more = max(len(place.names), len(place.addresses)) - 1
    others = f" and {more} more" if more > 0 else ""
    return f"{safe(who[0])}{others}\n({place.account}, {safe(place.group)})"


def _clock(time_us: int) -> str:
    return moment(time_us).removesuffix("Z").replace("T", " ")


def _initiators(finding: Finding) -> list[str]:
    return sorted({safe(str(seen.get("initiator", ""))) for seen in finding.evidence})


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
