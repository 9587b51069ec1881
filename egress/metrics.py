"""Everything that the services count, declared once: `/metrics`, `docs/metrics.md` and the tests derive from it.

Labels have closed value sets, so that nobody who sends traffic can make series; hosts and addresses are never labels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

from egress import __version__

SERVICES = ("collect", "detect", "store")
TOPICS = ("flows", "heartbeats", "sums", "findings", "lifecycle", "state", "dlq")
OTHER = "other"
REFUSALS = ("malformed", "no_address", "impossible_value", "corrupt", "compressed", "old format", OTHER)
"""Why a message of somebody else's topic gave no rows."""

MOST_NUMBER = 99_999
"""Partitions beyond this are a mistake; bounds the series that a label of numbers can make."""


@dataclass(frozen=True, slots=True)
class Label:
    """What tells the series of one metric apart; `values` None: a partition's number."""

    name: str
    values: tuple[str, ...] | None

    def admits(self, value: str) -> bool:
        if self.values is not None:
            return value in self.values
        return value.isascii() and value.isdecimal() and int(value) <= MOST_NUMBER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A counter only rises and is exposed with `_total` behind its name."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    unit: str
    services: tuple[str, ...]
    labels: tuple[Label, ...] = ()

    @property
    def exposed_name(self) -> str:
        return f"egress_{self.name}" + ("_total" if self.kind == "counter" else "")

    def series(self) -> Iterator[tuple[str, ...]]:
        """Label values of all series that exist from the start: none where a label is a partition's number."""
        if all(label.values is not None for label in self.labels):
            yield from product(*(label.values or () for label in self.labels))


def _counter(name: str, services: tuple[str, ...], unit: str, meaning: str, *labels: Label) -> Metric:
    return Metric(name, "counter", meaning, unit, services, labels)


def _gauge(name: str, services: tuple[str, ...], unit: str, meaning: str, *labels: Label) -> Metric:
    return Metric(name, "gauge", meaning, unit, services, labels)


_EVERY = SERVICES
_DETECT = ("detect",)
_STORE = ("store",)
_COLLECT = ("collect",)
_READERS = ("detect", "store")
_TOPIC = Label("topic", TOPICS)
_SENT = Label("topic", ("flows", "heartbeats"))
_PARTITION = Label("partition", None)

METRICS = (
    _gauge("info", _EVERY, "", "always 1; says which version runs", Label("version", (__version__,))),
    _counter("log_lines", _EVERY, "lines", "log lines by level", Label("level", ("info", "warning", "error"))),
    _counter("read_rows", _COLLECT, "rows", "rows that the source gave, once for each watched side"),
    _counter("sent_messages", _COLLECT, "messages", "messages that Kafka has acknowledged", _SENT),
    _counter("sent_rows", _COLLECT, "rows", "rows in them", _SENT),
    _counter("sent_bytes", _COLLECT, "bytes", "their bytes, with keys and headers", _SENT),
    _counter("shed_rows", _COLLECT, "rows", "rows given up for lack of room in the spool"),
    _gauge("spool_messages", _COLLECT, "messages", "what waits in the spool"),
    _gauge("spool_bytes", _COLLECT, "bytes", "what the spool takes on disk"),
    _gauge("is_connected", _COLLECT, "0 or 1", "1 while a broker answers"),
    _counter("kafka_retries", _COLLECT, "tries", "tries at a Kafka that did not answer or refused"),
    _counter("taken_messages", _COLLECT, "messages", "messages of others' topics that gave their rows"),
    _counter(
        "refused_messages",
        _COLLECT,
        "messages",
        "messages of others' topics that gave none; all but `no_address` (ARP and the like) are dead letters",
        Label("reason", REFUSALS),
    ),
    _counter("unfit_rows", _COLLECT, "rows", "rows of such topics that cannot travel"),
    _gauge("source_lag_messages", _COLLECT, "messages", "written to such topics, and not yet arrived in ours"),
    _counter("received_messages", _READERS, "messages", "messages read from Kafka", _TOPIC),
    _counter("received_bytes", _READERS, "bytes", "their values", _TOPIC),
    _counter("dead_letters", _READERS, "messages", "messages that could not be understood, set aside", _TOPIC),
    _gauge("lag_messages", _READERS, "messages", "written to Kafka and not yet dealt with", _TOPIC, _PARTITION),
    _gauge("partitions", _READERS, "partitions", "partitions that this member of the group works on", _TOPIC),
    _counter(
        "stored_rows",
        _STORE,
        "rows",
        "rows written to ClickHouse",
        Label("table", ("flows", "heartbeats", "findings", "ledger")),
    ),
    _counter("stored_batches", _STORE, "batches", "batches written to ClickHouse, each with its offsets"),
    _counter("duplicate_messages", _READERS, "messages", "messages that had come before, by epoch and seq"),
    _counter("store_retries", _STORE, "tries", "tries at a ClickHouse that did not answer or refused for a while"),
    _counter("store_busy_seconds", _STORE, "seconds", "time spent writing to ClickHouse"),
    _counter("summed_rows", _DETECT, "rows", "rows of flows that were charged"),
    _counter("published_rows", _DETECT, "rows", "rows of sums that were handed on to whoever judges"),
    _counter("snapshots", _DETECT, "snapshots", "snapshots written, of partitions and of the judge"),
    _counter("snapshot_bytes", _DETECT, "bytes", "their size"),
    _counter("judgements", _DETECT, "judgements", "times that everything known was judged"),
    _counter("judging_seconds", _DETECT, "seconds", "time spent on it"),
    _counter("said_findings", _DETECT, "messages", "findings said, changed or withdrawn on the bus"),
    _gauge(
        "findings",
        _DETECT,
        "findings",
        "findings that hold now, where this member judges",
        Label("level", ("info", "medium", "high", "critical")),
    ),
    _gauge("waiting_rows", _STORE, "rows", "rows read and not yet written"),
    _gauge("waiting_bytes", _STORE, "bytes", "their memory"),
    _gauge("is_paused", _STORE, "0 or 1", "1 while reading waits for ClickHouse"),
)

BY_NAME = {metric.name: metric for metric in METRICS}


class Metrics:
    """The numbers of one running service; safe to use from several threads.

    A name, label or value that is not declared raises ValueError: a defect, which a test shows.
    """

    def __init__(self, service: str) -> None:
        self._declared = {metric.name: metric for metric in METRICS if service in metric.services}
        self._values: dict[tuple[str, tuple[str, ...]], float] = {
            (metric.name, values): 0 for metric in self._declared.values() for values in metric.series()
        }
        self._lock = threading.Lock()
        self.set("info", 1, version=__version__)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raises a counter, from its value or from 0."""
        if amount < 0:
            raise ValueError(f"{name}: a counter only rises, {amount} was to be added")
        key = self._key(name, "counter", labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """What a gauge shows from now on."""
        key = self._key(name, "gauge", labels)
        with self._lock:
            self._values[key] = value

    def forget(self, name: str, **labels: str) -> None:
        """Removes a gauge's series: a partition that went to another member is that one's to report."""
        key = self._key(name, "gauge", labels)
        with self._lock:
            self._values.pop(key, None)

    def value(self, name: str, **labels: str) -> float:
        """What one series stands at; 0 if it never moved."""
        key = self._key(name, self._declared[name].kind if name in self._declared else "counter", labels)
        with self._lock:
            return self._values.get(key, 0)

    def series(self) -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
        """Each declared metric with its series by label values, in order of declaration."""
        with self._lock:
            values = dict(self._values)
        for metric in self._declared.values():
            yield metric, {labels: value for (name, labels), value in values.items() if name == metric.name}

    def _key(self, name: str, kind: str, labels: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
        metric = self._declared.get(name)
        if metric is None or metric.kind != kind:
            raise ValueError(f"{name}: not a {kind} of this service; declare it in egress/metrics.py")
        if labels.keys() != {label.name for label in metric.labels}:
            raise ValueError(f"{name}: has labels {[label.name for label in metric.labels]}, not {sorted(labels)}")
        for label in metric.labels:
            if not label.admits(labels[label.name]):
                raise ValueError(f"{name}: {label.name} cannot be {labels[label.name]!r}")
        return name, tuple(labels[label.name] for label in metric.labels)
