"""What services count, and how others read it."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from egress import metrics
from egress.errors import ServiceError, UsageError
from egress.exposition import Exposition, parse_address
from egress.metrics import METRICS, SERVICES, Metrics

ROOT = Path(__file__).resolve().parents[2]


def exposed(of: Metrics, address: str = "0") -> dict[str, float]:
    """Series and their numbers, as Prometheus would read them."""
    with (
        closing(Exposition(of, address)) as exposition,
        urllib.request.urlopen(f"http://{exposition.address}/metrics", timeout=5) as answer,
    ):
        text = answer.read().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {series: float(number) for series, _, number in lines}


def names(series: Iterator[str] | dict[str, float]) -> set[str]:
    return {re.split(r"[{ ]", one)[0] for one in series if not one.startswith("process_")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_without_partitions_is_exposed_from_the_start_and_no_other(service: str) -> None:
    """An alert on a rate needs the zero before the first event."""
    declared = {metric.exposed_name for metric in METRICS if service in metric.services and list(metric.series())}

    assert names(exposed(Metrics(service))) == declared


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_can_be_moved(service: str) -> None:
    """One series of each, by its declaration alone."""
    counted = Metrics(service)
    mine = [metric for metric in METRICS if service in metric.services]

    for metric in mine:
        labels = {label.name: label.values[-1] if label.values else "7" for label in metric.labels}
        (counted.add if metric.kind == "counter" else counted.set)(metric.name, 3, **labels)

    assert names(exposed(counted)) == {metric.exposed_name for metric in mine}
    assert all(max(series.values()) == 3 for _, series in counted.series())


def test_names_say_unit_and_kind_as_prometheus_has_it() -> None:
    """Base units, `_total` for counters alone."""
    odd = [
        metric.name
        for metric in METRICS
        if not re.fullmatch(r"[a-z][a-z_]*", metric.name)
        or metric.name.endswith("_total")
        or (metric.unit in ("seconds", "bytes") and not metric.name.endswith(metric.unit))
    ]

    assert odd == []
    assert len(metrics.BY_NAME) == len(METRICS)


def test_counters_add_up_exactly_over_threads() -> None:
    """Whole numbers, larger than any float keeps apart."""
    counted = Metrics("store")
    counted.add("received_bytes", 2**53, topic="flows")

    threads = [
        threading.Thread(target=lambda: [counted.add("received_bytes", 1, topic="flows") for _ in range(1000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted.value("received_bytes", topic="flows") == 2**53 + 4000


@pytest.mark.parametrize(
    ("name", "amount", "labels", "why"),
    [
        ("unheard_of", 1, {}, "declare it"),
        ("received_bytes", 1, {}, "has labels"),
        ("received_bytes", 1, {"topic": "flows", "host": "gpu-01"}, "has labels"),
        ("received_bytes", 1, {"topic": "attacker's"}, "cannot be"),
        ("received_bytes", -1, {"topic": "flows"}, "only rises"),
        ("waiting_rows", 1, {}, "not a counter"),
    ],
)
def test_what_is_not_declared_is_refused(name: str, amount: float, labels: dict[str, str], why: str) -> None:
    """Otherwise a slip of the pen would make a series that nobody documents."""
    with pytest.raises(ValueError, match=why):
        Metrics("store").add(name, amount, **labels)


@pytest.mark.parametrize("partition", ["-1", "100000", "x", "٣", ""])
def test_a_partition_is_a_small_number(partition: str) -> None:
    """The one label without a list of values is bounded all the same."""
    with pytest.raises(ValueError, match="cannot be"):
        Metrics("store").set("lag_messages", 1, topic="flows", partition=partition)


def test_a_partition_that_left_is_no_longer_reported() -> None:
    """Its new owner reports it; the last number here would stay for ever."""
    counted = Metrics("store")
    counted.set("lag_messages", 5, topic="flows", partition="3")

    counted.forget("lag_messages", topic="flows", partition="3")

    assert not [series for series in exposed(counted) if "lag_messages" in series]


def test_numbers_are_served_over_ipv6_too() -> None:
    """Where an address is written in brackets."""
    assert exposed(Metrics("store"), "[::1]:0")["egress_is_paused"] == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:2", ("::1", 2)),
    ],
)
def test_a_port_alone_is_shown_to_this_machine_only(text: str, address: tuple[str, int]) -> None:
    """Others see numbers about the fleet only where somebody wrote so."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["host:", "host:http", "99999", "1.2.3.4:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """With the form that it should have."""
    with pytest.raises(UsageError, match=r"must be HOST:PORT"):
        parse_address(text)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    """Exit code 4, before the service does anything."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServiceError, match="cannot listen there"):
            Exposition(Metrics("store"), str(taken.getsockname()[1]))


def test_every_metric_is_moved_by_the_code() -> None:
    """A number that nobody counts says that all is well."""
    code = "\n".join(
        path.read_text() for path in (ROOT / "egress").glob("*.py") if path.name not in ("metrics.py", "configkeys.py")
    )

    unmoved = [metric.name for metric in METRICS if f'"{metric.name}"' not in code and metric.name != "info"]

    assert unmoved == []


def test_every_metric_is_looked_at_by_a_test() -> None:
    """Of each, some test says by its name what it must stand at."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert [metric.name for metric in METRICS if f'"{metric.name}"' not in tests and metric.name != "info"] == []
