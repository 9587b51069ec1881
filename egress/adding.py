"""How rows of one key become one row: counts add up, times and addresses reach outwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from egress.amounts import longs
from egress.grouping import CODE, Keys, coded, decoded

GRID_US = 60_000_000
"""Sums are kept by times on a grid of minutes, or of whole ones."""


@dataclass(frozen=True, slots=True)
class Adding:
    """Names of columns, which hold numbers or times, by what is made of them."""

    sums: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    most: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    """Those of the row that comes first by them."""

    def add(self, rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
        """One row for each combination of `by`, which are `code` and times, in their order.

        Times as microseconds. What is neither told here nor `by` is taken from any row.
        """
        first, *others = (longs(rows[name]) if name == CODE else longs(rows[name]) // GRID_US for name in by)
        found = reduce(Keys.then, others, Keys.of(first)).groups()
        added = {name: found.total(longs(rows[name])) for name in self.sums}
        added |= {name: found.least(longs(rows[name])) for name in self.least}
        added |= {name: found.most(longs(rows[name])) for name in self.most}
        told = rows.drop(*added, *self.first)[found.places].with_columns(**added)
        if self.first:
            place = found.first(*(longs(rows[name]) for name in self.first))
            told = told.with_columns(rows[place].select(self.first))
        return told

    def in_order(self, rows: pl.DataFrame, key: Sequence[str], times: Sequence[str]) -> pl.DataFrame:
        """One row for each key, in the order of its columns, of which the `times` come first or last."""
        codes, keys = coded(rows, [name for name in key if name not in times], is_ordered=True)
        by = [CODE, *times] if key[-1] == times[-1] else [*times, CODE]
        return decoded(self.add(rows.drop(keys.columns).with_columns(codes), by), keys)


def ranked(rows: pl.DataFrame, column: str) -> tuple[pl.DataFrame, pl.Series]:
    """The rows with numbers in the order of its values in place of a column, and the values by number."""
    ranks, values = coded(rows, [column], is_ordered=True)
    return rows.with_columns(ranks.alias(column)), values.to_series()


def unranked(rows: pl.DataFrame, column: str, values: pl.Series) -> pl.DataFrame:
    """The rows with values in the place of their numbers."""
    return rows.with_columns(values[rows[column]].alias(column))
