"""A partition's task as bytes, and back: declared tables only, with versions and a checksum; nothing that runs code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256

import polars as pl

from egress.arrivals import SENSORS, Epoch, numbers_of
from egress.errors import EgressError
from egress.eventtime import Clock, Interval
from egress.inventory import Inventory
from egress.packing import WireError, pack, unpack
from egress.partition import PartitionTask, sensor_rows
from egress.schema import Column, Table
from egress.sums import KINDS

FORMAT = 1
MOST_BYTES = 4 << 30
"""What one table of a state may take decompressed."""
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8


class StateError(EgressError):
    """A state that cannot be used: damaged, or of another version. An older one, or the log, has to do."""

    exit_code = 3


def _text(name: str, meaning: str) -> Column:
    return Column(name, pl.String(), "String", meaning, default="")


def _number(name: str, meaning: str) -> Column:
    return Column(name, pl.Int64(), "Int64", meaning, default=0)


CLOCKS = Table(
    "clocks",
    "One row is what time it is for one stream: `eventtime.Clock`.",
    (
        _text("host", "watched host"),
        _text("sensor", "collector/sensor"),
        _number("watermark", "the time"),
        _number("low", "where the place begins that the horizon ends"),
        _number("horizon", "behind it nothing is charged"),
        _text("closed", "other closed places: from-to,from-to"),
        _number("pending", "messages in a row from elsewhere"),
        _number("pending_rows", "their rows"),
        _number("pending_low", "where the earliest of them ends"),
        _number("strays", "rows at times that are not believed"),
    ),
)

EPOCHS = Table(
    "epochs",
    "SENSORS, in the order in which each host's sensors' epochs were last heard of.",
    (
        *SENSORS.columns,
        _text("seen", "numbers of messages: from-to,from-to"),
        _number("reach", "the latest start of a message's rows"),
    ),
)

_TABLES = {table.name: table for table in (CLOCKS, EPOCHS, *(kind.table for kind in KINDS))}


def dump(task: PartitionTask) -> bytes:
    """The state of a task of which everything was taken (`take_changes`); raises ValueError for another."""
    if task.has_changes:
        raise ValueError("take the changes first: a state does not say what was handed on")
    tables = {name: pack(frame, _TABLES[name]) for name, frame in _frames(task)}
    head = {
        "format": FORMAT,
        "next_offset": task.next_offset,
        "tables": {name: [len(data), _version(_TABLES[name])] for name, data in tables.items()},
    }
    first = json.dumps(head).encode()
    body = b"".join([len(first).to_bytes(_LENGTH_BYTES, "big"), first, *tables.values()])
    return sha256(body).digest() + body


def load(state: bytes, inventory: Inventory, late_after: int) -> PartitionTask:
    """A task that goes on where the dumped one was, with nothing to hand on. Raises StateError."""
    body = state[_DIGEST_BYTES:]
    if sha256(body).digest() != state[:_DIGEST_BYTES]:
        raise StateError("state: its checksum is wrong; an older one is used, or the log from its begin")
    size = int.from_bytes(body[:_LENGTH_BYTES], "big")
    head = json.loads(body[_LENGTH_BYTES : _LENGTH_BYTES + size])
    wanted = {name: _version(table) for name, table in _TABLES.items()}
    found = {name: version for name, (_, version) in head["tables"].items()} if head["format"] == FORMAT else {}
    if found != wanted:
        raise StateError("state: written by another version; an older one is used, or the log from its begin")
    try:
        frames = dict(_unpacked(head["tables"], body[_LENGTH_BYTES + size :]))
    except WireError as error:
        raise StateError(f"state: {error.what}") from error
    return _task(frames, head["next_offset"], inventory, late_after)


def _frames(task: PartitionTask) -> Iterator[tuple[str, pl.DataFrame]]:
    clocks = [
        (
            *stream,
            clock.watermark,
            clock.low,
            clock.horizon,
            ",".join(f"{low}-{high}" for low, high in clock.closed),
            clock.pending,
            clock.pending_rows,
            clock.pending_low,
            clock.strays,
        )
        for stream, clock in task.clocks.items()
    ]
    yield CLOCKS.name, pl.DataFrame(clocks, schema=CLOCKS.polars, orient="row")
    epochs = [(source, name, epoch) for source, each in task.epochs.items() for name, epoch in each.items()]
    seen = pl.Series("seen", [epoch.seen.text() for *_, epoch in epochs], pl.String)
    reach = pl.Series("reach", [epoch.reach for *_, epoch in epochs], pl.Int64)
    yield EPOCHS.name, sensor_rows(epochs).with_columns(seen, reach)
    for kind in KINDS:
        yield kind.name, kind.add([task.kept[kind.name].total])


def _unpacked(tables: Mapping[str, tuple[int, str]], data: bytes) -> Iterator[tuple[str, pl.DataFrame]]:
    at = 0
    for name, (size, _) in tables.items():
        yield name, unpack(data[at : at + size], _TABLES[name], MOST_BYTES)
        at += size


def _task(frames: Mapping[str, pl.DataFrame], next_offset: int, inventory: Inventory, late_after: int) -> PartitionTask:
    task = PartitionTask(inventory, late_after, next_offset)
    for host, sensor, watermark, low, horizon, closed, *others in frames[CLOCKS.name].iter_rows():
        task.clocks[host, sensor] = Clock(late_after, watermark, low, horizon, _intervals(closed), *others)
    epochs = frames[EPOCHS.name].with_columns(pl.col("first", "last").cast(pl.Int64))
    for row in epochs.to_dicts():
        host, sensor, name, seen = (row.pop(column) for column in ("host", "sensor", "epoch", "seen"))
        task.epochs.setdefault((host, sensor), {})[name] = Epoch(seen=numbers_of(seen), **row)
    for kind in KINDS:
        task.kept[kind.name].total = frames[kind.name]
    return task


def _intervals(text: str) -> list[Interval]:
    pairs = [pair.split("-") for pair in text.split(",") if pair]
    return [(int(low), int(high)) for low, high in pairs]


def _version(table: Table) -> str:
    """Another one as soon as a column is another."""
    columns = [f"{column.name} {column.dtype}" for column in table.columns]
    return sha256("\n".join(columns).encode()).hexdigest()[:16]
