"""What rows, messages and sums cost each piece: measured on fleets of different shapes, fitted, checked on others.

All of it runs in this process, so the broker and its client are not in it; `tests/bench/streaming.py` has them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from scipy.optimize import nnls

from egress import configfile, ddl, registry, wire
from egress.intake import BATCH_ROWS
from egress.inventory import Inventory
from egress.judging import Judge
from egress.parcels import Cutter
from egress.partition import PartitionTask
from egress.schema import CELLS, FLOWS
from egress.segments import Parcel
from egress.store import Store, open_store, write, write_once
from egress.storerows import to_arrow
from egress.sums import KINDS
from egress.wire import FLOWS_V1, Header
from tests.bench import rows
from tests.bench.rows import Busy

Got = TypeVar("Got")

ROUNDS = 3
"""The least of so many measurements: other programs only add."""
READ_AT_ONCE = 65_536
PIECES = ("collect", "decode", "sum", "insert")
CAUSES: Mapping[str, tuple[str, ...]] = {
    "collect": ("rows", "messages"),
    "decode": ("rows", "messages"),
    "sum": ("rows", "messages", "sums", "publications"),
    "insert": ("rows", "sums", "publications"),
}
"""What each piece's CPU grows with."""
TIMES = {"collect": 1, "decode": 2, "sum": 1, "insert": 1}
"""Detector and store decode every message, each for itself."""


@dataclass(frozen=True)
class Shape:
    """A fleet: each conversation has a row each ten seconds, each host a message each `slice_s` of event time."""

    hosts: int
    conversations: int
    slice_s: int
    ticks: int

    @property
    def busy(self) -> Busy:
        return Busy(self.hosts, self.conversations, self.ticks)

    @property
    def name(self) -> str:
        fill = self.conversations * min(self.slice_s // 10, self.ticks)
        return f"{self.hosts} hosts, {self.conversations} conversations, {fill:,} rows a message"


FITTED = (
    Shape(8, 400, 200, 40),
    Shape(16, 100, 100, 80),
    Shape(64, 40, 100, 40),
    Shape(256, 60, 20, 8),
    Shape(300, 30, 10, 10),
    Shape(64, 400, 100, 6),
)
HELD_BACK = (Shape(32, 200, 60, 24), Shape(128, 80, 30, 12))


@dataclass(frozen=True)
class Cost:
    """What one fleet's rows took. `seconds` are of CPU, by piece; `counts` are of what causes them."""

    shape: Shape
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    kafka_bytes: int
    disk_bytes: float
    state_bytes: Mapping[str, float]
    """Of one sum, by kind."""

    @property
    def total_s(self) -> float:
        return sum(TIMES[piece] * seconds for piece, seconds in self.seconds.items())


@dataclass(frozen=True)
class Prices:
    """CPU microseconds of one of each cause, by piece; bytes of a row and of a message."""

    us: Mapping[str, Mapping[str, float]]
    kafka: Mapping[str, float]
    disk_row: float

    def seconds(self, counts: Mapping[str, float]) -> float:
        return (
            sum(
                TIMES[piece] * price * counts[cause]
                for piece, prices in self.us.items()
                for cause, price in prices.items()
            )
            / 1e6
        )


def measured(shapes: Sequence[Shape]) -> list[Cost]:
    with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/store") as kept:
        kept.bind_stream()
        rounds = [[_cost(shape, Path(folder), kept) for shape in shapes] for _ in range(ROUNDS)]
    return [_least_of(costs) for costs in zip(*rounds, strict=True)]


def _least_of(costs: Sequence[Cost]) -> Cost:
    """Of one fleet, measured some time apart: what disturbed one measurement is over by the next."""
    return replace(costs[0], seconds={piece: min(cost.seconds[piece] for cost in costs) for piece in PIECES})


def fitted(costs: Sequence[Cost]) -> Prices:
    """Prices that are never negative, and for which the relative errors are least."""
    us = {piece: _least(costs, CAUSES[piece], [1e6 * cost.seconds[piece] for cost in costs]) for piece in PIECES}
    disk = float(np.median([cost.disk_bytes / cost.counts["rows"] for cost in costs]))
    return Prices(us, _least(costs, ("rows", "messages"), [cost.kafka_bytes for cost in costs]), disk)


@dataclass(frozen=True)
class Judgement:
    """What judging once took, with so many cells kept and everything that comes with them."""

    cells: int
    seconds: float
    bytes: int


JUDGED, JUDGED_HELD_BACK = (6, 12, 24), 17
"""Hosts of an hour each, with 20 remotes: 1,200 cells a host."""


def judgement(hosts: int) -> Judgement:
    """The first one of a judge that has just taken over; later ones remember scores."""
    busy = Busy(hosts, 20, 360, remotes=20)
    with tempfile.TemporaryDirectory() as folder:
        inventory = Inventory(configfile.load(rows.write(Path(folder), busy) / "egress.toml"))
        flows = inventory.attribute(rows.rows_of(busy))
    parts = [(kind, kind.add([kind.of(part, inventory) for part in flows.iter_slices(50_000)])) for kind in KINDS]
    sums = {kind.name: frame for kind, frame in parts}

    def work() -> None:
        judge = Judge(inventory, registry.detectors)
        for name, frame in sums.items():
            judge.join(name, frame)
        judge.judge()

    seconds, _ = _timed(work, ROUNDS)
    return Judgement(sums[CELLS.name].height, seconds, sum(int(frame.estimated_size()) for frame in sums.values()))


def of_judging(found: Sequence[Judgement]) -> tuple[float, float]:
    """CPU seconds of any judgement, and of each cell."""
    each = np.array([[1, one.cells] for one in found], float)
    seconds = np.array([one.seconds for one in found])
    (fixed, cell), _ = nnls(each / seconds[:, None], np.ones(len(found)))
    return float(fixed), float(cell)


def _least(costs: Sequence[Cost], causes: Sequence[str], found: Sequence[float]) -> dict[str, float]:
    counts = np.array([[cost.counts[cause] for cause in causes] for cost in costs], float)
    prices, _ = nnls(counts / np.array(found)[:, None], np.ones(len(costs)))
    return dict(zip(causes, map(float, prices), strict=True))


def _cost(shape: Shape, folder: Path, kept: Store) -> Cost:
    place = rows.write(folder / shape.name, shape.busy)
    inventory = Inventory(configfile.load(place / "egress.toml"))
    flows = pl.read_parquet(place / "flows.parquet")
    seconds: dict[str, float] = {}
    seconds["collect"], parcels = _timed(lambda: list(_collected(shape, flows, inventory)))
    seconds["decode"], messages = _timed(lambda: [wire.decode(each.value, each.headers) for each in parcels])
    seconds["sum"], (task, sums, cells) = _timed(lambda: _summed(shape, messages, inventory))
    seconds["insert"], disk = _timed(lambda: _inserted(kept, messages, cells))
    counts = {"rows": flows.height, "messages": len(messages), "sums": sums, "publications": len(cells)}
    state = {name: each.total.estimated_size() / max(each.total.height, 1) for name, each in task.kept.items()}
    return Cost(shape, counts, seconds, sum(len(each.value) for each in parcels), disk, state)


def _timed(work: Callable[[], Got], times: int = 1) -> tuple[float, Got]:
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        got = work()
        best = min(best, time.process_time() - began)
    return best, got


def _collected(shape: Shape, flows: pl.DataFrame, inventory: Inventory) -> Iterator[Parcel]:
    cutter = Cutter("flows", FLOWS_V1, "bench", "e", "start", shape.slice_s * 1_000_000)
    for read in flows.iter_slices(READ_AT_ONCE):
        yield from cutter.cut(inventory.attribute(read))
    yield from cutter.rest()


def _summed(
    shape: Shape, messages: Sequence[tuple[Header, pl.DataFrame]], inventory: Inventory
) -> tuple[PartitionTask, int, list[pl.DataFrame]]:
    """The task, how many sums it published, and the cells among them; it publishes when each host has sent."""
    task = PartitionTask(inventory, 3_600_000_000)
    published, cells, offset = 0, [], 0
    for begin in range(0, len(messages), shape.hosts):
        for header, flows in messages[begin : begin + shape.hosts]:
            task.feed(header, flows, offset)
            offset += 1
        changes = task.take_changes()
        published += sum(frame.height for frame in changes.values())
        cells.append(changes[CELLS.name])
    return task, published, cells


def _inserted(kept: Store, messages: Sequence[tuple[Header, pl.DataFrame]], cells: Sequence[pl.DataFrame]) -> float:
    """Bytes on disk of the flows, in batches as the store's service makes them."""
    kept.run(lambda client: client.command("TRUNCATE TABLE flows_parts")).result()
    for number, batch in enumerate(pl.concat([flows for _, flows in messages]).iter_slices(BATCH_ROWS)):
        token = f"{time.monotonic_ns()}-{number}"
        kept.run(
            lambda client, batch=batch, token=token: write_once(client, "flows_parts", to_arrow(batch, FLOWS), token)
        ).result()
    for frame in cells:
        kept.run(lambda client, frame=frame: write(client, "ledger_parts", frame, ddl.LEDGER)).result()
    size = "SELECT sum(bytes_on_disk) AS size FROM system.parts WHERE active AND table = 'flows_parts'"
    return float(kept.query(size)["size"][0])
