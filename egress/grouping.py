"""Sums by key, where a key is many columns that say the same in most rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

CODE, ROWS = "code", "rows"


def coded(rows: pl.DataFrame, key: Sequence[str], is_ordered: bool = False) -> tuple[pl.Series, pl.DataFrame]:
    """A number for the key of each row, and the keys by number: in their order if asked, else in any.

    To sum by numbers takes a fraction of what it takes by ten columns of text and addresses.
    """
    varying = _varying(rows, key)
    same = [name for name in key if name not in varying]
    groups = rows.select(key).with_row_index(ROWS).group_by(varying).agg(ROWS, pl.col(same).first())
    if is_ordered:
        groups = groups.sort(varying)
    codes = np.empty(rows.height, np.uint32)
    codes[groups[ROWS].explode().to_numpy()] = np.repeat(
        np.arange(groups.height, dtype=np.uint32), groups[ROWS].list.len().to_numpy()
    )
    return pl.Series(CODE, codes), groups.select(key)


def in_order(rows: pl.DataFrame, order: Sequence[str], times: Sequence[str], sums: Sequence[pl.Expr]) -> pl.DataFrame:
    """One row for each key, in `order` of its columns; `times`, which are numbers, come first or last of them."""
    codes, keys = coded(rows, [name for name in order if name not in times], is_ordered=True)
    by = [CODE, *times] if order[-1] == times[-1] else [*times, CODE]
    added = rows.lazy().with_columns(codes).group_by(by).agg(*sums).sort(by).collect()
    return decoded(added, keys)


def decoded(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The rows with their keys in the place of numbers."""
    return pl.concat([keys[rows[CODE]], rows.drop(CODE)], how="horizontal")


def _varying(rows: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Columns of the key that are not the same in all rows; the first one in any case."""
    if rows.is_empty():
        return list(key)
    is_same = rows.select((pl.col(name) == pl.col(name).first()).all() for name in key).row(0)
    return [name for name, never_varies in zip(key, is_same, strict=True) if not never_varies] or [key[0]]
