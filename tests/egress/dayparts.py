"""Frames as their days: of the same rows a day has the same version."""

from __future__ import annotations

import polars as pl

from egress.cells import DAY_US
from egress.days import Day


def by_day(rows: pl.DataFrame, time: str = "minute") -> list[Day]:
    number = (pl.col(time).cast(pl.Int64) // DAY_US).alias("day")
    parts = sorted((int(day), part) for (day,), part in rows.group_by(number, maintain_order=True))
    return [Day(day, tuple(part.iter_rows()), part.clone) for day, part in parts]
