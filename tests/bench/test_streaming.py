"""Everything at once on one machine, and what messages of many rows save; `make bench`."""

from __future__ import annotations

import os

import polars as pl
import pytest

from egress.parcels import MESSAGE_ROWS
from tests.bench import page, rows, streaming

pytestmark = [pytest.mark.bench, pytest.mark.slow, pytest.mark.service]

ROWS_A_SECOND, TIMES_ONE_ROW = 300_000, 50
"""What must hold: at least."""
CORES = 2
TICKS = 240
"""Six million rows: what a start costs is small beside them, and the middle is long enough to be timed."""
SINGLES = 2_000
"""Rows that are sent one by one; their price does not depend on how many there are."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[streaming.Run, float]:
    """The run, and the CPU of a row by itself over that of one among many."""
    folder = tmp_path_factory.mktemp("streaming")
    load = os.getloadavg()[0]
    fleet = rows.write(folder / "fleet", rows.Busy(ticks=TICKS))
    flows = rows.rows_of(rows.Busy(hosts=4)).with_columns(side=pl.lit("src"), host=pl.lit("host-000"))
    with streaming.bus(folder / "broker") as (settings, broker_pid):
        (folder / "run").mkdir()
        run = streaming.stream(folder / "run", fleet, settings, broker_pid)
        single_us = streaming.us_a_row(settings, flows[:SINGLES], 1)
        batch_us = streaming.us_a_row(settings, flows, MESSAGE_ROWS)
    section = _section(run, single_us, batch_us, load)
    print(section)
    page.put("Streaming", section)
    return run, single_us / batch_us


def test_two_cores_carry_300_000_rows_a_second(measured: tuple[streaming.Run, float]) -> None:
    """On the clock, by the slowest piece, while all of them work."""
    assert measured[0].rows_per_s >= ROWS_A_SECOND


def test_a_row_by_itself_costs_fifty_times_as_much(measured: tuple[streaming.Run, float]) -> None:
    assert measured[1] >= TIMES_ONE_ROW


def _section(run: streaming.Run, single_us: float, batch_us: float, load: float) -> str:
    total = run.us_per_row
    prices = [(share, share.cpu_s / run.rows * 1e6) for share in sorted(run.shares, key=lambda share: -share.cpu_s)]
    pieces = [
        f"| {share.piece} | {price:.2f} | {price / total:.0%} | {share.peak_mb:,.0f} MB |" for share, price in prices
    ]
    return page.STREAMING.format(
        rows=run.rows,
        message_rows=MESSAGE_ROWS,
        pieces="\n".join(pieces),
        rates="\n".join(f"| {piece} | {rate:,.0f} |" for piece, rate in run.rates.items()),
        all_per_s=run.rows / run.seconds,
        two_cores=CORES / total * 1e6,
        cpu_us=total,
        load=load,
        cores=os.cpu_count(),
        single_us=single_us,
        batch_us=batch_us,
        ratio=single_us / batch_us,
        machine=page.machine(),
    )
