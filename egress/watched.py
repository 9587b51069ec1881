"""Coverage of what a store holds, from heartbeat files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from egress import cardbytes, coverage, heartbeats, inputs
from egress.cells import DAY_US, LONGEST_ROW_US
from egress.contracts import ReadSettings
from egress.errors import InputError
from egress.inventory import Inventory
from egress.store import Store
from egress.vantage import dated


def coverage_of(
    paths: Sequence[Path], store: Store, cells: pl.DataFrame, end: int | None, inventory: Inventory
) -> coverage.Coverage:
    """What nobody saw, until `end` or the last record; flows are fetched a day at a time.

    Raises InputError where one of the files is no heartbeat file, or holds none.
    """
    beats = heartbeats.add(list(_read(paths)))
    if beats.is_empty():
        raise InputError(f"{', '.join(map(str, paths))}: no heartbeat in it; see heartbeats in docs/fields.md")
    sent = cardbytes.add([cardbytes.of(rows.filter(pl.col("host") != ""), inventory) for rows in _days(beats, store)])
    watermark = max(dated(cells).watermark, end or 0)
    return coverage.of(beats, sent, cells, watermark, inventory)


def _read(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    known = inputs.sort(inputs.expand(paths))
    strange = [
        *known.unknown,
        *(path for one, theirs in known.claimed if one.name != "heartbeatfile" for path in theirs),
    ]
    for path in strange:
        raise InputError(f"{path}: no heartbeat file; it needs time, host and sensor, epoch, seq or nic_tx_bytes")
    for collector, theirs in known.claimed:
        for batch in collector.read(theirs, ReadSettings()):
            if batch.heartbeats is not None:
                yield batch.heartbeats


def _days(beats: pl.DataFrame, store: Store) -> Iterator[pl.DataFrame]:
    """Attributed flows that can have been sent between the first and the last heartbeat."""
    times = beats["time"].cast(pl.Int64)
    first, last = int(times.min()), int(times.max())  # type: ignore[arg-type] # not empty, so not None
    spans = store.query(
        "SELECT DISTINCT intDiv(toUnixTimestamp64Micro(start), {day:Int64}) AS day FROM flows ORDER BY day",
        {"day": DAY_US},
    )
    for day in spans["day"]:
        if first - LONGEST_ROW_US - DAY_US <= day * DAY_US <= last + DAY_US:
            yield store.flows(None, day * DAY_US, (day + 1) * DAY_US)
