"""Manifests and receipts: which of the approved bytes are proven, and which were never proven in time."""

from __future__ import annotations

import polars as pl

from egress.inventory import Inventory


def prove(entries: pl.DataFrame, inventory: Inventory, watermark: int) -> pl.DataFrame:
    return entries
