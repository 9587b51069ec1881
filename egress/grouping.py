"""Sums by key, where most columns of a key say the same in every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def summed(rows: pl.DataFrame, key: Sequence[str], sums: Sequence[pl.Expr]) -> pl.DataFrame:
    """One row for each key, in any order. Columns that do not vary are not hashed, which is most of the work."""
    if rows.is_empty():
        return rows.group_by(key).agg(*sums)
    is_same = rows.select((pl.col(name) == pl.col(name).first()).all() for name in key).row(0)
    same = [name for name, never_varies in zip(key, is_same, strict=True) if never_varies]
    varying = [name for name in key if name not in same] or [key[0]]
    return rows.group_by(varying).agg(*sums, pl.col([name for name in same if name not in varying]).first())
