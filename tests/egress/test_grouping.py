"""Sums by key do not depend on which columns of the key happen to vary."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.grouping import coded, decoded, in_order
from tests.egress.strategies import few

few_values = st.sampled_from(["", "a", "b"])
rows_of = st.lists(st.tuples(few_values, few_values, st.integers(0, 2), st.integers(0, 9)), max_size=8)
Row = tuple[str, str, int, int]


def frame_of(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"x": pl.String, "y": pl.String, "t": pl.Int64, "n": pl.Int64}, orient="row")


@pytest.mark.parametrize("order", [["x", "y", "t"], ["t", "x", "y"]])
@few
@given(rows=rows_of)
def test_sums_are_those_of_the_whole_key(rows: list[Row], order: list[str]) -> None:
    """Also where one column never varies, none does, or there are no rows."""
    found = in_order(frame_of(rows), order, ["t"], [pl.col("n").sum()]).select("x", "y", "t", "n")

    expected: dict[tuple[str, str, int], int] = {}
    for x, y, t, n in rows:
        expected[x, y, t] = expected.get((x, y, t), 0) + n
    assert_frame_equal(found, frame_of([(*k, n) for k, n in expected.items()]).sort(order))


@few
@given(rows=rows_of)
def test_numbers_lead_back_to_the_keys(rows: list[Row]) -> None:
    """Each key has one number."""
    frame = frame_of(rows)
    codes, keys = coded(frame, ["y", "x"])

    assert not keys.is_duplicated().any()
    assert_frame_equal(decoded(frame.select(codes, "t", "n"), keys).select(frame.columns), frame)
