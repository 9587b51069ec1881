"""The store behind a URL: the same tables through ClickHouse's HTTP interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from egress.clickhouse import PASSWORD_VARIABLE
from egress.contracts import Count, Finding, Level, Tally
from egress.errors import StoreError
from egress.schema import CELLS, FLOWS, TIME, conform
from egress.store import open_store

pytestmark = pytest.mark.slow

PASSWORD = "geheim"
ADDRESS = bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
FINDING = Finding("ab12", "ledger", "host:g", "g", Level.HIGH, "left", 5, "1h", 0, 0, 0, {Level.HIGH: 0})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server that knows one password."""
    command = [sys.executable, Path(__file__).with_name("clickhouse_front.py"), tmp_path_factory.mktemp("ch"), PASSWORD]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


def frame(**columns: object) -> pl.DataFrame:
    return pl.DataFrame([columns]).with_columns(pl.col(pl.Int64).exclude("sent", "src_bytes", "proto").cast(TIME))


def test_what_goes_in_comes_out(server: str) -> None:
    """The database is made; its name needs quoting."""
    flows = conform(frame(start=1, end=2, src_ip=ADDRESS, dst_ip=ADDRESS, proto=6, src_bytes=2**53 + 1), FLOWS)
    cells = conform(frame(host="g", remote_ip=ADDRESS, minute=0, sent=7, first=1, last=2), CELLS)

    with open_store(f"http://ann@{server}/site-1") as store:
        store.insert_flows(flows)
        store.insert_cells(cells)
        store.insert_outcome("run", Tally(Count(1, 1), Count(1, 1)), [FINDING])
    with open_store(f"http://ann@{server}/site-1") as store:
        assert store.flows().equals(flows)
        assert store.cells("g").equals(cells)
        assert store.finding("ab") == FINDING


def test_databases_are_kept_apart(server: str) -> None:
    """One server, several sites."""
    with open_store(f"http://ann@{server}/one") as store:
        store.insert_outcome("run", Tally(Count(1, 1), Count(1, 1)), [FINDING])
    with open_store(f"http://ann@{server}/two") as store:
        assert store.findings() == []


def test_a_wrong_password_names_the_variable_that_holds_it(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not show the password."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "falsch")
    store = open_store(f"http://ann@{server}/site")

    with pytest.raises(StoreError, match=rf"refused user or password; .* {PASSWORD_VARIABLE}") as caught:
        store.flush()

    assert "falsch" not in str(caught.value)


def test_ctrl_c_stops_the_query_on_the_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on otherwise, with nobody waiting for it."""
    monkeypatch.setattr("egress.store.QUERY_SECONDS", 30)
    with open_store(f"http://ann@{server}/site") as store:
        store.flush()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt):
            store.query("SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 9")

        begun = time.monotonic()
        left = store.query("SELECT count() AS n FROM system.processes WHERE query LIKE '%numbers(1000000000000)%'")
        assert left["n"][0] <= 1  # this one
        assert time.monotonic() - begun < 10
