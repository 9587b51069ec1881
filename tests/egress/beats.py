"""Heartbeats as sensors send them, and what coverage makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from egress.config import Config
from egress.contracts import Finding
from egress.coverage import Coverage
from egress.detect import Engine
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.schema import TIME, conform
from tests.egress.strategies import (
    NOON,
    SECOND,
    Transfer,
    flows_of,
    site,
)

BEATS = 61
"""Ten minutes."""


Beat = dict[str, object]


def beats(
    rate: int = 0,
    count: int = BEATS,
    missing: Iterable[int] = (),
    host: str = "h1",
    first: int = 10**9,
    **every: object,
) -> list[Beat]:
    """A sensor that speaks every 10 s from noon on; the card's counter grows by `rate` bytes a second."""
    lost = set(missing)
    return [
        {
            "time": NOON + 10 * number * SECOND,
            "host": host,
            "sensor": "sockets",
            "boot": "a",
            "epoch": "1",
            "seq": number,
            "nic_tx_bytes": first + 10 * number * rate,
            **every,
        }
        for number in range(count)
        if number not in lost
    ]


def frame(rows: Sequence[Beat]) -> pl.DataFrame:
    if not rows:
        return HEARTBEATS.empty()
    schema = {name: dtype for name, dtype in HEARTBEATS.polars.items() if name != "time"}
    made = pl.DataFrame(rows, infer_schema_length=None, schema_overrides=schema)
    return conform(made.with_columns(pl.col("time").cast(TIME)), HEARTBEATS)


def engine(rows: Sequence[Beat], *sent: Transfer, config: Config | None = None) -> Engine:
    made = Engine(Inventory(config or site()), lambda: [])
    made.feed(flows_of(sent))
    made.feed_heartbeats(frame(rows))
    return made


def coverage(rows: Sequence[Beat], *sent: Transfer) -> Coverage:
    return engine(rows, *sent).coverage()


def found(rows: Sequence[Beat], *sent: Transfer, config: Config | None = None) -> list[Finding]:
    return [each for each in engine(rows, *sent, config=config).findings() if each.detector == "coverage"]


def gap(rows: Sequence[Beat], *sent: Transfer) -> int:
    return coverage(rows, *sent).gap_bytes()["h1"]


def internal(sent: int, **changes: object) -> Transfer:
    """Bytes that a card counts and nobody is charged for; the receiver holds the model, too."""
    return Transfer(dst="10.0.1.1", sent=sent, seconds=600, **changes)  # type: ignore[arg-type]


BOTH = site("h1", "h2")
