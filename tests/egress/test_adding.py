"""Rows of one key become one row, whichever columns of the key happen to vary."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.adding import GRID_US, Adding, ranked, unranked
from tests.egress.strategies import few

Row = tuple[str, str, int, int, str]

few_values = st.sampled_from(["", "a", "b"])
rows_of = st.lists(st.tuples(few_values, few_values, st.integers(-1, 2), st.integers(0, 9), few_values), max_size=8)


def frame_of(rows: list[Row]) -> pl.DataFrame:
    grid = [(x, y, t * GRID_US, n, n, n, where) for x, y, t, n, where in rows]
    whole = {"t": pl.Int64, "n": pl.Int64, "low": pl.Int64, "high": pl.Int64}
    return pl.DataFrame(grid, schema={"x": pl.String, "y": pl.String, **whole, "where": pl.String}, orient="row")


@pytest.mark.parametrize("order", [["x", "y", "t"], ["t", "x", "y"]])
@few
@given(rows=rows_of)
def test_sums_are_those_of_the_whole_key(rows: list[Row], order: list[str]) -> None:
    """In its order; also where one column never varies, none does, or there are no rows."""
    adding = Adding(("n",), ("low",), ("high",), ("where",))
    frame, places = ranked(frame_of(rows), "where")

    found = unranked(adding.in_order(frame, order, ["t"]), "where", places)

    by_key: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        by_key.setdefault(row[:3], []).append(row)
    expected = [
        (*key[:2], key[2] * GRID_US, sum(n), min(n), max(n), min(row[4] for row in same))
        for key, same in by_key.items()
        for n in [[row[3] for row in same]]
    ]
    columns = frame.columns
    assert_frame_equal(found.select(columns), pl.DataFrame(expected, frame_of([]).schema, orient="row").sort(order))


def test_what_is_the_same_in_all_rows_of_a_key_stays() -> None:
    rows = pl.DataFrame({"code": [0, 0, 1], "t": [0, 0, 0], "n": [1, 2, 3], "role": ["a", "a", "b"]})

    assert Adding(("n",)).add(rows, ["code", "t"]).select("n", "role").rows() == [(3, "a"), (3, "b")]
