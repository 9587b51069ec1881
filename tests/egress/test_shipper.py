"""What an operator sees of the way from the spool to the bus."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from egress import shipper
from egress.collect import Request, collect
from egress.metrics import Metrics
from egress.segments import Parcel
from egress.service import Log, Service
from egress.shipper import Shipper
from egress.spool import Spool
from tests.egress.bus import MemoryBus
from tests.egress.collected import DEMO, SETTINGS, SITE

PARCEL = Parcel("flows", b"gpu-1", bytes(100), (("rows", b"7"),))
SILENT_S = 0.2


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper, "SILENT_S", SILENT_S)
    monkeypatch.setattr(shipper, "PAUSES_S", (0.01,))


@contextmanager
def shipping(bus: MemoryBus, folder: Path) -> Iterator[tuple[Spool, Metrics, io.StringIO]]:
    metrics, said = Metrics("collect"), io.StringIO()
    spool = Spool(folder, 1 << 20)
    running = Shipper(spool, bus.connect, Service("collect", Log(said, True, metrics), metrics))
    running.start()
    yield spool, metrics, said
    running.end()
    running.check()
    spool.close()


def soon(is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    return is_so()


def test_what_has_arrived_is_counted(tmp_path: Path) -> None:
    with shipping(MemoryBus(), tmp_path) as (spool, metrics, _):
        for _ in range(3):
            spool.append(PARCEL)
        assert soon(lambda: metrics.value("sent_messages", topic="flows") == 3)

        assert metrics.value("sent_rows", topic="flows") == 3 * 7
        assert metrics.value("sent_bytes", topic="flows") == 3 * (len("gpu-1") + 100 + len("rows") + len("7"))
        assert metrics.value("is_connected") == 1
        assert metrics.value("kafka_retries") == 0


@pytest.mark.slow
def test_each_try_at_brokers_that_are_away_is_counted(tmp_path: Path) -> None:
    bus = MemoryBus(is_there=False)
    with shipping(bus, tmp_path) as (_, metrics, said):
        assert soon(lambda: metrics.value("kafka_retries") >= 3)
        assert metrics.value("is_connected") == 0

        bus.is_there = True
        assert soon(lambda: metrics.value("is_connected") == 1)

    assert said.getvalue().count("kafka_away") == said.getvalue().count("kafka_back") == 1


@pytest.mark.slow
def test_brokers_that_die_later_are_missed_and_welcomed_back(tmp_path: Path) -> None:
    """The client itself tries for ever without a word."""
    bus = MemoryBus()
    with shipping(bus, tmp_path) as (spool, metrics, said):
        spool.append(PARCEL)
        assert soon(lambda: metrics.value("sent_messages", topic="flows") == 1)
        time.sleep(2 * SILENT_S)
        assert metrics.value("is_connected") == 1, "nothing was to be sent"

        bus.is_there = False
        spool.append(PARCEL)
        assert soon(lambda: metrics.value("is_connected") == 0)
        bus.is_there = True
        assert soon(lambda: metrics.value("is_connected") == 1)
        assert soon(lambda: metrics.value("sent_messages", topic="flows") == 2)

    assert said.getvalue().count("kafka_away") == said.getvalue().count("kafka_back") == 1


@pytest.mark.slow
def test_what_waits_in_the_spool_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egress.collect.PATIENCE_S", 0.2)
    metrics = Metrics("collect")
    running = Service("collect", Log(io.StringIO(), True, metrics), metrics)
    request = Request((DEMO / "ordinary_day.pcap",), SITE, tmp_path / "spool", settings=SETTINGS)

    outcome = collect(request, MemoryBus(is_there=False).connect, running)

    on_disk = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert metrics.value("spool_messages") == outcome.waiting.messages > 0
    assert outcome.waiting.bytes < metrics.value("spool_bytes") <= on_disk
