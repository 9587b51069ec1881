"""What stands behind the meter, against one ClickHouse query over the same rows; `make bench`."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.bench import page
from tests.bench.programs import ONE_CORE, run

pytestmark = [pytest.mark.bench, pytest.mark.slow]

ROWS_A_SECOND, TIMES_ONE_QUERY = 500_000, 5
"""What must hold: at least, at most."""
FEEDING_US = 2.0
"""CPU microseconds a row, at most, for host, cells, signals, conversations and card bytes of a live stream."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """CPU seconds on one core."""
    command = [sys.executable, "-m", "tests.bench.engine", str(tmp_path_factory.mktemp("store"))]
    program = run(["env", "POLARS_MAX_THREADS=1", *command], ONE_CORE)
    found: dict[str, float] = json.loads(program.said.splitlines()[-1])
    section = _section(found)
    print(section)
    page.put("Engine", section)
    return found


def test_a_batch_is_summed_as_fast_as_a_stream_needs(measured: dict[str, float]) -> None:
    assert 1e6 * measured["feeding"] / measured["rows"] <= FEEDING_US


def test_signals_ledger_and_detectors_keep_up_with_half_a_million_rows_a_second(measured: dict[str, float]) -> None:
    assert measured["rows"] / (measured["feeding"] + measured["judging"]) >= ROWS_A_SECOND


def test_the_whole_engine_costs_no_more_than_a_few_queries(measured: dict[str, float]) -> None:
    """One `GROUP BY host, destination, minute` is the measure."""
    assert (measured["feeding"] + measured["judging"]) / measured["group_by"] <= TIMES_ONE_QUERY


def _section(found: dict[str, float]) -> str:
    engine = found["feeding"] + found["judging"]
    parts = {
        "egress: attributing and summing": found["feeding"],
        "egress: ledger, detectors, findings": found["judging"],
        "ClickHouse: GROUP BY host, destination, minute": found["group_by"],
    }
    rows = found["rows"]
    lines = [f"| {name} | {cpu:.2f} | {1e6 * cpu / rows:.2f} | {rows / cpu:,.0f} |" for name, cpu in parts.items()]
    return page.ENGINE.format(
        rows=rows,
        groups=found["groups"],
        times=engine / found["group_by"],
        rate=rows / engine,
        parts="\n".join(lines),
        load=os.getloadavg()[0],
        machine=page.machine(),
    )
