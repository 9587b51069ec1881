"""Where the core finds collectors, detectors and outputs by name, importing each only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from egress.contracts import Calibrator, Collector, Detector, FlowWriter, PacketCutter, RowsReader

COLLECTORS = {
    "capture": "collectors.capture:CaptureCollector",
    "heartbeatfile": "collectors.heartbeatfile:HeartbeatFileCollector",
    "flowfile": "collectors.flowfile:FlowFileCollector",
}
"""Tried in this order by `replay`; each says by itself whether an input is its own."""

DETECTORS = {
    "volume": "models.volume:Volume",
    "novelty": "models.novelty:Novelty",
    "tunnels": "models.tunnels:Tunnels",
    "drip": "models.drip:Drip",
    "roles": "models.roles:Roles",
    "edges": "models.edges:Edges",
    "shape": "models.shape:Shape",
}
"""All score windows in 0..1; `tunnels` against fixed limits, all others are calibrated."""

READER = "models.reading:Reader"
CALIBRATOR = "models.calibrate:Calibration"
ROWS_READERS = {
    "goflow-protobuf": "collectors.goflow:protobuf",
    "goflow-json": "collectors.goflow:json",
}
"""Encodings of flows on topics that others fill."""

FLOW_WRITER = "collectors.flowfile:FlowFileWriter"
PACKET_CUTTER = "collectors.cut:cut"


def collectors() -> Iterator[Collector]:
    for place in COLLECTORS.values():
        yield cast(Callable[[], Collector], _load(place))()


def detectors() -> Iterator[Detector]:
    """One of each, that share a reader: each window is read once for all of them."""
    reader = _load(READER)()
    for place in DETECTORS.values():
        yield cast(Callable[[object], Detector], _load(place))(reader)


def calibrator() -> Calibrator:
    return cast(Callable[[], Calibrator], _load(CALIBRATOR))()


def rows_reader(encoding: str) -> RowsReader:
    """Raises KeyError for an encoding that is none of ROWS_READERS."""
    return cast(Callable[[], RowsReader], _load(ROWS_READERS[encoding]))()


def flow_writer(path: Path) -> FlowWriter:
    return cast(Callable[[Path], FlowWriter], _load(FLOW_WRITER))(path)


def packet_cutter() -> PacketCutter:
    return cast(PacketCutter, _load(PACKET_CUTTER))


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
