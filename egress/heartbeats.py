"""Heartbeats: a sensor's word, every few seconds, that it works and what the host's network card counted.

A sensor that falls silent says nothing about why, so what matters is what the next heartbeat adds to the last: counters
of the card go on while nobody watches.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from egress.schema import TIME, Column, Table


def _text(name: str, meaning: str) -> Column:
    return Column(name, pl.String(), "LowCardinality(String)", meaning, default="")


def _number(name: str, meaning: str, unit: str = "") -> Column:
    kind = "Nullable(UInt64)"
    return Column(name, pl.UInt64(), kind, meaning, unit, "T64, ZSTD(1)", may_be_unknown=True)


HEARTBEATS = Table(
    "heartbeats",
    "One row is what one sensor said of itself and of its host at one moment; also without traffic, every 10 s.",
    (
        Column("time", TIME, "DateTime64(6, 'UTC')", "when it was said", "UTC microseconds", "DoubleDelta, ZSTD(1)"),
        Column("host", pl.String(), "LowCardinality(String)", "watched host, by its stable id"),
        _text("sensor", "which instance of the collector"),
        _text("boot", "which start of the host: another value after a reboot; empty if unknown"),
        _text("epoch", "which start of the sensor: another value after a restart; empty if unknown"),
        _number("seq", "0, 1, 2, ... within the epoch"),
        _number("nic_tx_bytes", "frame bytes sent since boot, over all physical interfaces; a counter", "bytes"),
        _number("nic_rx_bytes", "frame bytes received since boot, over all physical interfaces; a counter", "bytes"),
        _number("seen_bytes", "IP bytes that the sensor saw", "bytes"),
        _number("dropped_packets", "packets that reached the sensor and that it could not look at", "packets"),
        _number("shed_rows", "rows that it merged or gave up for lack of room", "rows"),
        _number("spool_bytes", "what waits to be sent on", "bytes"),
        _text("version", "of the sensor"),
    ),
)

KEY = ("host", "sensor", "boot", "epoch", "seq", "time")
VALUES = tuple(name for name in HEARTBEATS.names if name not in KEY)


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All heartbeats, each once, in no order: duplicates and batches leave no trace.

    Of two that differ in what they say, but not in who says it when, the larger value of each column stays.
    """
    every = pl.concat([HEARTBEATS.empty(), *parts])
    if not every.select(pl.struct(KEY).hash(1).is_duplicated().any()).item():
        return every
    return every.group_by(KEY).agg(pl.col(VALUES).max()).select(HEARTBEATS.names)
