"""Sums by key do not depend on which columns of the key happen to vary."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.grouping import summed
from tests.egress.strategies import few

few_values = st.sampled_from(["", "a", "b"])


@few
@given(st.lists(st.tuples(few_values, few_values, few_values, st.integers(0, 9)), max_size=8))
def test_sums_are_those_of_the_whole_key(rows: list[tuple[str, str, str, int]]) -> None:
    """Also where one column never varies, none does, or there are no rows."""
    frame = pl.DataFrame(rows, schema={"x": pl.String, "y": pl.String, "z": pl.String, "n": pl.Int64}, orient="row")
    key = ["x", "y", "z"]

    found = summed(frame, key, [pl.col("n").sum()]).select(*key, "n").sort(key)

    expected: dict[tuple[str, ...], int] = {}
    for *place, number in rows:
        expected[tuple(map(str, place))] = expected.get(tuple(map(str, place)), 0) + number
    assert_frame_equal(found, pl.DataFrame([(*k, n) for k, n in sorted(expected.items())], frame.schema, orient="row"))
