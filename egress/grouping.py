"""Sums by key, where a key is many columns that say the same in most rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.amounts import MOST, Longs

CODE = "code"

MIXERS = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)))
"""Odd numbers without a pattern, whose products spread keys over a table."""

NARROW = 2**31
"""Numbers closer together than this are taken as they are in a key; others are ranked first."""

EARLY_ROWS = 100
ROOMY = 4
"""A table of all possible keys is made where it is at most so many times as long as the rows."""

Codes: TypeAlias = npt.NDArray[np.uint32]
Places: TypeAlias = npt.NDArray[np.intp]
Rows: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by their keys."""

    of: Places
    """The number of each row's group."""
    places: Places
    """By number the place of a row of the group."""

    def total(self, amounts: Longs) -> Longs:
        """What each group's amounts, none of them negative, add up to: exactly, at most 2**63 - 1."""
        if not len(amounts) or int(amounts.max()) <= MOST // len(amounts):
            return self._added(amounts)
        low, high = self._added(amounts & 0xFFFFFFFF), self._added(amounts >> 32)
        high += low >> 32
        return np.where(high >> 31, MOST, high << 32 | low & 0xFFFFFFFF)

    def least(self, values: Longs) -> Longs:
        found = np.full(len(self.places), MOST, np.int64)
        np.minimum.at(found, self.of, values)
        return found

    def most(self, values: Longs) -> Longs:
        found = np.full(len(self.places), -MOST, np.int64)
        np.maximum.at(found, self.of, values)
        return found

    def first(self, *orders: Longs) -> Places:
        """By number the place of the group's row that comes first by these numbers, the former before the latter."""
        order, *others = orders
        left = np.flatnonzero(order == self.least(order)[self.of])
        for order in others:
            of, numbers = self.of[left], order[left]
            left = left[numbers == Groups(of, self.places).least(numbers)[of]]
        found = np.empty_like(self.places)
        found[self.of[left]] = left
        return found

    def _added(self, amounts: Longs) -> Longs:
        sums = np.zeros(len(self.places), np.int64)
        np.add.at(sums, self.of, amounts)
        return sums


@dataclass(frozen=True, slots=True)
class Keys:
    """One number for some numbers of each row; in their order, the former before the latter."""

    values: Longs
    """From 0."""
    span: int
    """All are below it; at most 2**63."""

    @classmethod
    def of(cls, numbers: Longs) -> Keys:
        if not len(numbers):
            return cls(numbers, 1)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < NARROW:
            return cls(numbers - low, high - low + 1)
        unique, ranks = np.unique(numbers, return_inverse=True)
        return cls(ranks, len(unique))

    def then(self, numbers: Longs) -> Keys:
        keys, other = self, Keys.of(numbers)
        if keys.span * other.span >= 2**63:
            unique, ranks = np.unique(keys.values, return_inverse=True)
            keys = Keys(ranks, len(unique))
        return Keys(keys.values * other.span + other.values, keys.span * other.span)

    def groups(self) -> Groups:
        """Rows with the same key together, numbered in the order of keys."""
        if self.span <= ROOMY * len(self.values):
            return _tabled(self)
        found = grouped(self.values.view(np.uint64))
        order = np.argsort(self.values[found.places])
        return Groups(_numbered(order, len(order))[found.of].astype(np.intp), found.places[order])


def _tabled(keys: Keys) -> Groups:
    row = np.empty(keys.span, np.int32)
    row[keys.values] = np.arange(len(keys.values), dtype=np.int32)
    is_there = np.zeros(keys.span, np.bool_)
    is_there[keys.values] = True
    there = np.flatnonzero(is_there)
    return Groups(_numbered(there, keys.span)[keys.values].astype(np.intp), row[there].astype(np.intp))


def grouped(keys: npt.NDArray[np.uint64]) -> Groups:
    """Rows with the same key together, numbered in any order.

    Rows of a key meet in one slot of a table. Those that find another key there try the next mixer; whatever keys
    somebody chose, what is left after the last is sorted.
    """
    table = np.empty(2 << len(keys).bit_length(), np.int32)
    rows = np.arange(len(keys), dtype=np.int32)
    holder = _met(keys, rows, table, MIXERS[0])
    left = np.flatnonzero(keys[holder] != keys)
    for mixer in MIXERS[1:]:
        if not left.size:
            break
        found = holder[left] = _met(keys[left], left, table, mixer)
        left = left[keys[found] != keys[left]]
    if left.size:
        _, first, same = np.unique(keys[left], return_index=True, return_inverse=True)
        holder[left] = left[first][same]
    places = np.flatnonzero(holder == rows)
    return Groups(_numbered(places, len(keys))[holder].astype(np.intp), places)


def _met(keys: npt.NDArray[np.uint64], rows: Places | Rows, table: Rows, mixer: np.uint64) -> Places:
    """For each of the rows the one that it meets in its slot of the table: itself, or one after it."""
    slots = ((keys * mixer) >> np.uint64(65 - len(table).bit_length())).view(np.int64)
    table[slots] = rows
    return table[slots].astype(np.intp)


def _numbered(places: Places, size: int) -> Rows:
    """By place its number among some; anything elsewhere."""
    numbers = np.empty(size, np.int32)
    numbers[places] = np.arange(len(places), dtype=np.int32)
    return numbers


def coded(rows: pl.DataFrame, key: Sequence[str], is_ordered: bool = False) -> tuple[pl.Series, pl.DataFrame]:
    """A number for the key of each row, and the keys by number: in their order if asked, else in any.

    To sum by numbers takes a fraction of what it takes by ten columns of text and addresses.
    """
    varying = _varying(rows, key)
    told = rows.select(varying)
    found = grouped(told.hash_rows().to_numpy())
    if not _is_same(told, at(told, found.places[found.of])):  # two keys with one hash
        ranks = told.select(pl.struct(varying).rank("dense")).to_series()
        found = grouped(ranks.to_numpy().astype(np.uint64))
    codes, keys = found.of.astype(np.uint32), at(rows.select(key), found.places)
    if is_ordered:
        order = keys.select(pl.arg_sort_by(varying)).to_series().to_numpy()
        codes, keys = _numbered(order, len(order)).astype(np.uint32)[codes], keys[order]
    return pl.Series(CODE, codes), keys


def decoded(rows: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """The rows with their keys in the place of numbers."""
    return pl.concat([keys[rows[CODE]], rows.drop(CODE)], how="horizontal")


def at(rows: pl.DataFrame, places: Places | Codes) -> pl.DataFrame:
    """The rows at these places. Polars looks through other indices than its own first."""
    return rows[pl.Series(places.astype(np.uint32))]


def paired(codes: Codes, among: Codes) -> tuple[Places, Places]:
    """Where equal numbers stand in both, in the order of `codes`; `among` is in rising order."""
    counts = np.bincount(among, minlength=int(codes.max(initial=0)) + 1)
    found = counts[codes]
    nth = np.arange(found.sum()) - np.repeat(np.cumsum(found) - found, found)
    begins = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(codes)), found), np.repeat(begins[codes], found) + nth


def _varying(rows: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Columns of the key that are not the same in all rows; the first one in any case."""
    if rows.is_empty():
        return list(key)
    # Most that vary do so from the beginning.
    early = _same(rows.head(EARLY_ROWS), key)
    same = _same(rows, early)
    return [name for name in key if name not in same] or [key[0]]


def _same(rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    is_same = rows.select((pl.col(name) == pl.col(name).first()).all() for name in columns)
    return [name for name in columns if is_same[name].item()]


def _is_same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return all(one[name].eq_missing(other[name]).all() for name in one.columns)
