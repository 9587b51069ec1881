"""What anybody's rule would have told an analyst."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from egress.alarms import rising

ALARMS = [
    {"host": "a", "time": 100, "score": 1.0},
    {"host": "a", "time": 200, "score": 5.0},
    {"host": "a", "time": 200, "score": 3.0},
    {"host": "a", "time": 300, "score": 5.05},
    {"host": "a", "time": 300, "score": 9.0},
    {"host": "b", "time": 300, "score": 2.0},
]
RISING = [("a", 100, 1.0), ("a", 200, 5.0), ("a", 300, 9.0), ("b", 300, 2.0)]


@given(st.permutations(ALARMS))
def test_of_a_day_only_those_count_that_rise_in_whatever_order_they_come(alarms: list[dict[str, object]]) -> None:
    """Of two at one moment the higher one; 5.05 is no more than 5 to anybody."""
    found = rising(pl.DataFrame(alarms), "host").select("host", "time", "score")

    assert sorted(found.rows()) == RISING
