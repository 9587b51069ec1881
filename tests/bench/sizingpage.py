"""`docs/sizing.md`, written from one run of `tests/bench/sizing.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import ceil

from egress.summing import PUBLISH_S
from tests.bench import page
from tests.bench.programs import ROOT
from tests.bench.sizing import PIECES, TIMES, Cost, Judgement, Prices

PAGE = ROOT / "docs" / "sizing.md"
MOST_FILL, REPORT_S, REPLICAS, READERS, DAY_S = 8_192, 10, 3, 2, 86_400
ALL_CAUSES = ("rows", "messages", "sums", "publications")
HALF = 0.5
"""Of a core that one partition's task may take, so that it catches up twice as fast as it fell behind."""
HOSTS, ROWS_A_SECOND = (1_000, 10_000, 100_000), (100_000, 1_000_000, 10_000_000)
JUDGED_EVERY_S = 60.0
HARD_US = 18_000 / 692
"""CPU of a cell in docs/decisions/0016."""

TEXT = """# Sizing

Written by `pytest -m bench tests/bench/test_sizing.py`; do not edit. Constants are fitted to fleets that
`tests/bench/sizing.py` simulates, and checked on others that were held back. {machine}
Load of other programs: {load:.1f} on {cores} cores; it makes CPU dearer, by up to twice, not cheaper.

## What it grows with

`R` rows a second: conversations that are open, each reported every {report_s} s. `H` hosts. `f` rows a message:
`min({most_fill:,}, {report_s} R / H)`, since each host sends once in {report_s} s; a file fills its messages.
`M = R / f` messages a second. `S` sums published a second: up to {sums_a_row:.1f} R where each host sends every
{report_s} s. `P` publications a second: one every {publish_s:.0f} s of each partition.

| CPU microseconds | of a row | of a message | of a sum | of a publication |
|---|---|---|---|---|
{prices}

| bytes | |
|---|---|
| in Kafka, each row | {kafka_row:.0f} |
| in Kafka, each message | {kafka_message:,.0f} |
| in ClickHouse, each row | {disk_row:.1f} |
{state}

Rows of the simulation repeat themselves more than yours do; compare the bytes with a day of your own.

## Formulas

- **Cores** of collectors, detectors and stores, brokers not included (their share is in
  [benchmarks](benchmarks.md), *Streaming*):
  `(R x {all_row:.2f} + M x {all_message:,.0f} + S x {all_sum:.2f} + P x {all_publication:,.0f}) / 10^6`.
  A message is the dear thing: few rows in each cost more than the rows.
- **Partitions**, at least: `(R x {task_row:.2f} + M x {task_message:,.0f} + S x {task_sum:.2f}) / 10^6 / {spare:.2f}`.
  A partition's task is one thread, and must catch up: half of a core for its rows, less what it takes to publish.
- **Network into Kafka**: `R x {kafka_row:.0f} + M x {kafka_message:,.0f}` bytes a second, {replicas} times with
  replicas, and {readers} times out of it (detectors, stores). **Disk of Kafka**: that by retention.
- **Disk of ClickHouse**: `R x {disk_row:.1f}` bytes a second, for as long as flows are kept.
- **State of detectors**, in memory, for each host with `r` remote places and `c` conversations in the
  hour that may still grow: `60 r x {cell:.0f} + 12 r x {signal:.0f} + c x {conversation:.0f} + 60 x {card:.0f}` bytes.
- **Judge**: see below. It does not grow with machines.

## What that comes to

At 100 % of each core; plan for twice.

| hosts | rows/s | rows a message | cores | partitions | into Kafka | there a day, {replicas} times | ClickHouse a day |
|---|---|---|---|---|---|---|---|
{examples}

Nobody has run the larger of these: they are the formulas, checked at the sizes below.

## Held back

| fleet | CPU seconds, predicted | measured | off by |
|---|---|---|---|
{checks}

## One judge

One process judges the whole fleet, from all sums that it keeps (`docs/decisions/0016`): {judge_fixed:.2f} s and
{judge_cell:.1f} µs of CPU for each cell (host, remote and minute) at every judgement, and {judge_bytes:.0f} bytes of
memory for each cell with what comes with it while it lies open, a seventh of that once nothing came for
a day. Held back: {judge_cells:,} cells, {judge_predicted:.2f} s predicted,
{judge_measured:.2f} s measured.

| cells kept | a judgement | memory, open |
|---|---|---|
{judge_rows}

So judgements that may take a minute allow {judge_most:,.0f} cells: {judge_quiet:,.0f} host-days of a fleet that makes
700 cells a host and day, and {judge_busy:,.0f} of one where each host talks to 20 places in every minute.

That is the best case: these hosts did nothing that is found. A fleet with thefts, reviews and heartbeats took
{hard_us:.0f} µs a cell (18 ms for 692 cells, and 0.7 MB of the process's memory with all that is remembered of them,
`docs/decisions/0016`), three times that the first time after a start; so it
holds {hard_quiet:,.0f} and {hard_busy:,.0f} host-days. What lies beyond needs a prefix of its own
(`kafka.prefix`), or fewer days: more machines do not help.
"""


def write(
    prices: Prices, costs: Sequence[Cost], held: Sequence[Cost], judged: Sequence[Judgement], fit: tuple[float, float]
) -> None:
    everything, task = _together(prices, TIMES), _together(prices, {"decode": 1, "sum": 1})
    state = {name: max(cost.state_bytes[name] for cost in costs) for name in costs[0].state_bytes}
    sums_a_row = max(cost.counts["sums"] / cost.counts["rows"] for cost in costs)
    (fixed, cell), last = fit, judged[-1]
    a_cell = max(one.bytes / one.cells for one in judged)
    most = (JUDGED_EVERY_S - fixed) / cell
    text = TEXT.format(
        machine=page.machine(),
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
        report_s=REPORT_S,
        most_fill=MOST_FILL,
        replicas=REPLICAS,
        readers=READERS,
        publish_s=PUBLISH_S,
        spare=_spare(task),
        sums_a_row=sums_a_row,
        prices="\n".join(_price(piece, prices.us[piece]) for piece in PIECES),
        kafka_row=prices.kafka["rows"],
        kafka_message=prices.kafka["messages"],
        disk_row=prices.disk_row,
        state="\n".join(f"| of a task's state, each of `{name}` | {size:.0f} |" for name, size in state.items()),
        all_row=everything["rows"],
        all_message=everything["messages"],
        all_sum=everything["sums"],
        all_publication=everything["publications"],
        task_row=task["rows"],
        task_message=task["messages"],
        task_sum=task["sums"],
        cell=state["cells"],
        signal=state["signals"],
        conversation=state["conversations"],
        card=state["on_cards"],
        examples="\n".join(_example(prices, sums_a_row, hosts, rate) for hosts in HOSTS for rate in ROWS_A_SECOND),
        checks="\n".join(_check(prices, cost) for cost in held),
        judge_fixed=fixed,
        judge_cell=cell * 1e6,
        judge_bytes=a_cell,
        judge_cells=last.cells,
        judge_predicted=fixed + cell * last.cells,
        judge_measured=last.seconds,
        judge_rows="\n".join(
            f"| {cells:,} | {fixed + cell * cells:,.0f} s | {cells * a_cell / 1e9:.1f} GB |"
            for cells in (100_000, 1_000_000, 10_000_000)
        ),
        judge_most=most,
        judge_quiet=most / 700,
        judge_busy=most / (20 * 1_440),
        hard_us=HARD_US,
        hard_quiet=JUDGED_EVERY_S * 1e6 / HARD_US / 700,
        hard_busy=JUDGED_EVERY_S * 1e6 / HARD_US / (20 * 1_440),
    )
    PAGE.write_text(text, encoding="utf-8")


def _together(prices: Prices, times: Mapping[str, int]) -> dict[str, float]:
    return {cause: sum(n * prices.us[piece].get(cause, 0.0) for piece, n in times.items()) for cause in ALL_CAUSES}


def _spare(task: Mapping[str, float]) -> float:
    """Of a core, for the rows of one partition."""
    return HALF - task["publications"] / PUBLISH_S / 1e6


def _price(piece: str, us: Mapping[str, float]) -> str:
    cells = [f"{us[cause]:,.2f}" if cause in us else "" for cause in ALL_CAUSES]
    twice = ", twice: detector and store" if TIMES[piece] == 2 else ""
    return f"| {piece}{twice} | {' | '.join(cells)} |"


def _example(prices: Prices, sums_a_row: float, hosts: int, rate: int) -> str:
    fill = min(MOST_FILL, max(1.0, rate * REPORT_S / hosts))
    counts = {"rows": rate, "messages": rate / fill, "sums": rate * sums_a_row}
    task = _together(prices, {"decode": 1, "sum": 1})
    partitions = ceil(sum(task[cause] * counts[cause] for cause in counts) / 1e6 / _spare(task))
    counts["publications"] = partitions / PUBLISH_S
    kafka = prices.kafka["rows"] * rate + prices.kafka["messages"] * counts["messages"]
    return (
        f"| {hosts:,} | {rate:,} | {fill:,.0f} | {prices.seconds(counts):,.1f} | {partitions:,} "
        f"| {kafka / 1e6:,.0f} MB/s | {REPLICAS * kafka * DAY_S / 1e12:,.1f} TB "
        f"| {prices.disk_row * rate * DAY_S / 1e12:,.2f} TB |"
    )


def _check(prices: Prices, cost: Cost) -> str:
    predicted = prices.seconds(cost.counts)
    return f"| {cost.shape.name} | {predicted:.2f} | {cost.total_s:.2f} | {predicted / cost.total_s - 1:+.0%} |"
