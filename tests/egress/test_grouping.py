"""Numbers stand for keys, whatever the keys are, and groups add up to what their rows hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import grouping
from egress.amounts import MOST
from egress.grouping import Keys, coded, decoded, grouped, paired
from tests.egress.strategies import few

few_values = st.sampled_from(["", "a", "b"])
texts = st.lists(st.tuples(few_values, few_values, st.integers(0, 9)), max_size=8)
keys = st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=40)
numbers = st.integers(-3, 3) | st.integers(-(2**62), 2**62)


def longs(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def frame_of(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"x": pl.String, "y": pl.String, "n": pl.Int64}, orient="row")


@pytest.mark.parametrize("is_ordered", [False, True])
@few
@given(rows=texts)
def test_numbers_lead_back_to_the_keys(rows: list[tuple[str, str, int]], is_ordered: bool) -> None:
    """Each key has one number; also where one column never varies, none does, or there are no rows."""
    frame = frame_of(rows)
    codes, found = coded(frame, ["y", "x"], is_ordered)

    assert not found.is_duplicated().any()
    assert_frame_equal(decoded(frame.select(codes, "n"), found).select(frame.columns), frame)
    assert not is_ordered or found.equals(found.sort("y", "x"))


def test_keys_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever chooses names may choose such as collide."""
    monkeypatch.setattr(pl.DataFrame, "hash_rows", lambda frame: pl.zeros(frame.height, pl.UInt64, eager=True))
    frame = frame_of([("a", "b", 0), ("b", "a", 1), ("a", "b", 2)])

    codes, found = coded(frame, ["x", "y"])

    assert decoded(frame.select(codes, "n"), found).equals(frame)


@pytest.mark.parametrize("mixers", [grouping.MIXERS, (np.uint64(0), np.uint64(1))])
@given(chosen=keys)
@few
def test_rows_are_together_that_have_one_key(mixers: tuple[np.uint64, ...], chosen: list[int]) -> None:
    """Also where all keys want the same slot of a table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "MIXERS", mixers)
        found = grouped(np.array(chosen, np.uint64))

    assert [chosen[found.places[of]] for of in found.of] == chosen
    assert len(found.places) == len(set(chosen))


@few
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=30))
def test_groups_stand_in_the_order_of_their_numbers(rows: list[tuple[int, int, int]]) -> None:
    """The former before the latter, near together or as far apart as numbers are."""
    first, second, third = (longs(list(column)) for column in zip(*rows, strict=True))

    found = Keys.of(first).then(second).then(third).groups()

    assert [rows[place] for place in found.places] == sorted(set(rows))
    assert [rows[found.places[of]] for of in found.of] == rows


def test_wide_spans_are_ranked() -> None:
    """Two broken clocks in a batch: the product of their spans fits no integer."""
    wide = longs([0, 2**62, 5, 0])

    found = Keys(wide, 2**62 + 1).then(wide).groups()

    assert all(wide[one] < wide[next_] for one, next_ in pairwise(found.places))
    assert found.of.tolist() == [0, 2, 1, 0]


@few
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9) | st.integers(2**61, MOST)), max_size=20))
def test_sums_are_exact_and_saturate(rows: list[tuple[int, int]]) -> None:
    found = Keys.of(longs([group for group, _ in rows])).groups()

    sums = found.total(longs([amount for _, amount in rows]))

    groups = sorted({group for group, _ in rows})
    assert sums.tolist() == [min(MOST, sum(amount for of, amount in rows if of == group)) for group in groups]


@few
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=20))
def test_the_first_row_is_the_least(rows: list[tuple[int, int, int]]) -> None:
    group, one, other = (longs([row[n] for row in rows]) for n in range(3))

    found = Keys.of(group).groups()

    least = [min(row for row in rows if row[0] == group) for group in sorted({row[0] for row in rows})]
    assert [rows[place] for place in found.first(one, other)] == least
    assert found.least(one).tolist() == [row[1] for row in least]
    assert found.most(one).tolist() == [max(row[1] for row in rows if row[0] == of) for of, *_ in least]


@pytest.mark.slow
@few
@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8).map(sorted))
def test_every_pair_of_equals_is_found(codes: list[int], among: list[int]) -> None:
    at, which = paired(np.array(codes, np.uint32), np.array(among, np.uint32))

    pairs = [(n, m) for n, code in enumerate(codes) for m, other in enumerate(among) if code == other]
    assert list(zip(at.tolist(), which.tolist(), strict=True)) == pairs
