"""Hand-written flows: one line each, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from egress.addresses import bytes_of
from egress.schema import FLOWS, conform

DAY_ONE = datetime(2026, 11, 2, tzinfo=UTC)
"""A Monday, 00:00 UTC."""

Flows = Callable[..., pl.DataFrame]


def flow(src: str, dst: str, **columns: object) -> pl.DataFrame:
    """One row of FLOWS from `src` to `dst` (addresses as text, `outer_*` likewise).

    `at` is its first packet in seconds since DAY_ONE, `lasts` how long it takes. Without packets and payload given,
    `src_bytes` and `dst_bytes` are all payload: nothing is deducted.
    """
    start = DAY_ONE + timedelta(seconds=float(str(columns.pop("at", 0))))
    end = start + timedelta(seconds=float(str(columns.pop("lasts", 0))))
    row = {"start": start, "end": end, "proto": 6, "src_port": 40_000, "dst_port": 443, "collector": "capture"}
    row |= {"src_ip": bytes_of(src), "dst_ip": bytes_of(dst), "sensor": "replay"} | columns
    for name in ("outer_src_ip", "outer_dst_ip"):
        if name in row:
            row[name] = bytes_of(str(row[name]))
    types = {name: dtype for name, dtype in FLOWS.polars.items() if name in row}
    return conform(pl.DataFrame([row], schema=types), FLOWS)


@pytest.fixture(scope="session")
def flows() -> Flows:
    """`flows((src, dst, {column: value}), ...)` gives a frame of FLOWS, one row each, with distinct flow ids."""

    def build(*rows: tuple[str, str, dict[str, object]]) -> pl.DataFrame:
        frames = [flow(src, dst, **{"flow_id": number, **columns}) for number, (src, dst, columns) in enumerate(rows)]
        return pl.concat([FLOWS.empty(), *frames])

    return build
