"""What a replay says to the person in front of it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import polars as pl
from rich.console import Console

from egress import report
from egress.addresses import bytes_of
from egress.contracts import Count, Destination, Finding, Level, ModelShare, Skipped, Tally
from egress.replay import Outcome
from egress.schema import CELLS, conform

NOON = 1_795_348_800_000_000
FINDING = Finding(
    uid="3fa2b1c0" * 4,
    detector="ledger",
    subject="host:gpu-01",
    host="gpu-01",
    level=Level.CRITICAL,
    title="100 % of llama-70b left gpu-01",
    bytes=24_000_352,
    window="1h",
    start=NOON,
    first_seen=NOON,
    last_seen=NOON + 40_000_000,
    level_times={Level.CRITICAL: NOON + 12_000_000},
    models=(ModelShare("llama-70b", 24_000_352, 24_000_352),),
    destinations=(Destination("198.51.100.0/24", "unapproved", 24_000_352, ("198.51.100.10",), ("cdn.example.net",)),),
    reasons=("24,000,352 B in 1h is 100 % of llama-70b",),
    evidence=(
        {
            "initiator": "gpu-01",
            "src_ip": "10.20.1.10",
            "dst_ip": "198.51.100.10",
            "dst_port": 443,
            "proto": 6,
            "bytes": 24_000_352,
            "flows": 1,
            "name": "",
            "origin": "lab.pcap",
            "position": 7,
        },
    ),
)


def said(outcome: Outcome) -> str:
    console = Console(file=StringIO(), width=160, markup=False, highlight=False, emoji=False)
    report.show(outcome, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_finding_is_told_with_everything_an_analyst_asks_first() -> None:
    """How bad, who, how much of what (native and 4-bit), to where, started by whom, when, why."""
    text = said(Outcome((FINDING,), Tally(), 1, 1))

    for word in ("critical", "gpu-01", "100 % of llama-70b", "357 % of a 4-bit copy", "cdn.example.net",
                 "198.51.100.0/24", "unapproved", "2026-11-22 12:00:00", "2026-11-22 12:00:40",
                 "24,000,352 B in 1h"):  # fmt: skip
        assert word in text


def test_coverage_says_what_was_read_metered_and_skipped_with_one_example_a_reason() -> None:
    """Nothing is lost silently."""
    examples = tuple(Skipped("malformed", f"lab.pcap, packet {n}", "IPv4 header length 4") for n in (5, 6))
    tally = Tally(Count(10, 1_000), Count(8, 900), {"malformed": Count(2, 100)}, {"bogus_length": 1}, examples)

    text = said(Outcome((), tally, 3, 4))

    assert "No findings." in text
    assert "10 frames" in text
    assert "malformed" in text
    assert "bogus length" in text
    assert "packet 5" in text
    assert "packet 6" not in text


def test_foreign_text_cannot_steer_the_terminal() -> None:
    """A server name or a file name may hold anything."""
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    place = Destination(evil, "unapproved", 1, (), (evil,))
    finding = replace(FINDING, host=evil, title=evil, reasons=(evil,), destinations=(place,),
                      models=(ModelShare(evil, 1, 1),))  # fmt: skip
    tally = Tally(examples=(Skipped("x", evil, evil),), skipped={evil: Count()}, notes={evil: 1})

    text = said(Outcome((finding,), tally, 0, 0))

    assert not set(text) & {"\x1b", "\x07", "\u202e"}


def test_ledger_totals_take_the_larger_view_of_two_sensors() -> None:
    """Two sensors that saw the same bytes are not added up."""
    rows = [
        {"host": "gpu-01", "sensor": sensor, "remote_ip": bytes_of("198.51.100.10"), "minute": NOON, "sent": sent,
         "first": NOON, "last": NOON}
        for sensor, sent in (("a/1", 700), ("b/1", 900))
    ]  # fmt: skip
    cells = conform(
        pl.DataFrame(rows).with_columns(pl.col("minute", "first", "last").cast(CELLS.polars["minute"])), CELLS
    )

    totals = report.ledger_totals(cells, 10)

    assert totals.select("host", "remote_ip", "sent").rows() == [("gpu-01", "198.51.100.10", 900)]
