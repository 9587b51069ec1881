"""The numbers of a service over HTTP, for Prometheus: `GET /metrics`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from egress.errors import ServiceError, UsageError
from egress.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

HERE = "127.0.0.1"
"""Where `--metrics PORT` listens: numbers about a fleet are shown to others only where somebody asked for it."""
POLL_S = 0.05
"""How long a stop may wait for the server to notice."""
CLIENT_S = 10
"""Whoever connects and says nothing is let go after this."""


class Exposition:
    """Serves `metrics` at `address` ("HOST:PORT" or "PORT"; port 0: any free one) until it is closed."""

    def __init__(self, metrics: Metrics, address: str) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        host, port = parse_address(address)
        registry = CollectorRegistry()
        registry.register(_Reader(metrics))
        ProcessCollector(registry=registry)
        try:
            self._server = (_Server6 if ":" in host else ThreadingHTTPServer)((host, port), _handler(registry))
        except OSError as error:
            raise ServiceError(f"--metrics {address}: cannot listen there ({error}); name another port") from error
        self.address = f"{f'[{host}]' if ':' in host else host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="egress-metrics")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def _handler(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    from prometheus_client import MetricsHandler

    return type("_Handler", (MetricsHandler,), {"registry": registry, "timeout": CLIENT_S})


def parse_address(text: str) -> tuple[str, int]:
    """Host and port; brackets around IPv6. Raises UsageError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or HERE
    if not (port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise UsageError(f"--metrics is {text}, must be HOST:PORT or PORT, such as {HERE}:9464")
    return host, int(port)


class _Reader:
    """Reads all numbers at the moment somebody asks; whole numbers stay exact."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric, series in self._metrics.series():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = [label.name for label in metric.labels]
            family = kind(metric.exposed_name, metric.meaning, labels=labels)
            for values, number in sorted(series.items()):
                family.add_metric(values, number)
            yield family
