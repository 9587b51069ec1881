"""`docs/benchmarks.md`, written from one run."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.programs import ROOT, Run

PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `make bench`; do not edit. Every number comes from that one run, medians of {rounds} rounds, one program at
a time. The capture is made by `tests/bench/traffic.py`: {packets:,} packets of {flows:,} conversations in ten minutes,
TCP and UDP, a tenth of it IPv6, 96 bytes kept of each frame, {megabytes:,.0f} MB.

Machine: {machine}
Load of other programs when the page was written: {load:.1f} on {cores} cores; on a busy machine CPU seconds compare,
seconds do not.
"""

SPEED = """
## Speed

Seconds on the clock and on the CPU. "One core": pinned to one. "Warm": kernels loaded from their cache, pages of the
capture in memory, the input not hashed, as no other meter does. "Cold": a new process, everything it imports and the
hash of the input included.

| what | seconds | CPU seconds | packets/s | packets/CPU s | CPU: times nfpcapd's rate |
|---|---|---|---|---|---|
{rows}
"""

MEMORY = """
## Memory

Peak resident memory of `egress replay CAPTURE --store DIR --findings FILE`. The meter holds the same for any length of
input; the ledger remembers each host, remote address and minute, so the last line grows with what happened.

| capture | peak |
|---|---|
{rows}
"""


STREAMING = """
## Streaming

Written by `pytest -m bench tests/bench/test_streaming.py`. Broker, `collect file`, `detect` and `store` (embedded
ClickHouse) as processes on one machine: {rows:,} rows of 64 hosts with 400 conversations each, a row each ten seconds
(`tests/bench/rows.py`), in messages of up to {message_rows:,} rows. A sixth as many rows went before and are not
counted: broker and services had started, each with `POLARS_MAX_THREADS=1`. Nor is what `collect` took until it read its
first row.

Rows a second on the clock, while all pieces worked: from the first batch stored to the last row sent.

| what | rows/s |
|---|---|
{rates}

From the first row read to the last one stored, the filling and emptying of buffers included: {all_per_s:,.0f} rows/s.

"µs a row" is CPU of all threads, until the last sums were published, judged and stored; ClickHouse's merges included.

| piece | CPU µs a row | share | peak memory |
|---|---|---|---|
{pieces}

{two_cores:,.0f} rows/s is what two cores carry at this price ({cpu_us:.2f} µs a row together) where nothing is waited
for. Load of other programs before the run: {load:.1f} on {cores} cores; it makes CPU dearer, too.

One row a message: {single_us:.1f} µs CPU a row to write, send, read and check, against {batch_us:.2f} in messages of
{message_rows:,} rows, same run: {ratio:.0f} times as much, without the broker's share.

Machine: {machine}
"""


ENGINE = """
## Engine

Written by `pytest -m bench tests/bench/test_engine_speed.py`. What stands behind the meter, on one core, in CPU
seconds, beside one ClickHouse query over the same rows: {rows:,} rows of one busy hour of a hundred hosts
(`tests/bench/enginerows.py`), {groups:,} groups. Egress takes {times:.1f} times the query, and {rate:,.0f} rows a
second go through signals, ledger and detectors.

| what | CPU seconds | CPU µs a row | rows/CPU s |
|---|---|---|---|
{parts}

Load of other programs: {load:.1f}. Machine: {machine}
"""

OF_OTHERS = ("Engine", "Streaming")
"""Sections that have a run of their own."""


def put(title: str, section: str) -> None:
    """Writes one section of the page, in the place of what it was."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(found, section) if (found := _section(text, title)) else text + section, "utf-8")


def _section(text: str, title: str) -> str:
    """From its title to the next; empty: there is none."""
    begin = text.find(f"\n## {title}\n")
    end = text.find("\n## ", begin + 1)
    return "" if begin < 0 else text[begin : end if end >= 0 else len(text)]


def write(sections: Sequence[str], rounds: int, packets: int, flows: int, size: int) -> None:
    head = HEAD.format(rounds=rounds, packets=packets, flows=flows, megabytes=size / 1e6, machine=machine(), **_load())
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    others = [_section(before, title) for title in OF_OTHERS]
    PAGE.write_text("".join([head, *sections, *others]), encoding="utf-8")


def speed(runs: Mapping[str, Run], packets: int, notes: Sequence[str]) -> str:
    """`runs` in the order of the table; the one called `nfpcapd` is the measure."""
    measure = runs["nfpcapd"].cpu_seconds
    rows = [
        f"| {name} | {run.seconds:.2f} | {run.cpu_seconds:.2f} | {packets / run.seconds:,.0f} "
        f"| {packets / run.cpu_seconds:,.0f} | {measure / run.cpu_seconds:.2f} |"
        for name, run in runs.items()
    ]
    return SPEED.format(rows="\n".join(rows)) + "".join(f"\n{note}\n" for note in notes)


def memory(peaks: Mapping[str, float]) -> str:
    return MEMORY.format(rows="\n".join(f"| {name} | {peak:,.0f} MB |" for name, peak in peaks.items()))


def _load() -> dict[str, float]:
    return {"load": os.getloadavg()[2], "cores": os.cpu_count() or 1}


def machine() -> str:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = subprocess.run(["nfpcapd", "-V"], capture_output=True, text=True, check=False)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numba", "polars", "chdb"))
    return (
        f"{model.partition(':')[2].strip() or platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GiB, "
        f"Linux {platform.release()}; Python {platform.python_version()}, {libraries}; "
        f"{(said.stdout + said.stderr).strip().splitlines()[0]}; {datetime.now(UTC):%Y-%m-%d}."
    )
