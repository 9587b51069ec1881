"""Days one by one: what is said of each is remembered until it changes."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.cells import DAY_US, KEY
from egress.dating import Dating
from egress.days import Answers, Frames
from egress.vantage import dated
from tests.egress.dayparts import by_day
from tests.egress.strategies import DAY, HOUR, NOON, Transfer, cells_of, few, site


def sums(day: pl.DataFrame) -> Frames:
    return (day.select(pl.col("bytes").sum()),)


@pytest.mark.parametrize("packs", [False, True])
def test_a_day_that_went_is_forgotten(packs: bool) -> None:
    """A clock that is put right moves cells to another day."""
    answers, inventory = Answers(packs), object()
    rows = pl.DataFrame({"minute": [0, HOUR, DAY], "bytes": [1, 2, 4]})

    def totals(rows: pl.DataFrame) -> list[int]:
        return [int(answer["bytes"][0]) for (answer,) in answers.of(by_day(rows), sums, inventory)]

    assert totals(rows) == [3, 4]
    assert totals(rows[:2]) == [3]
    assert totals(rows) == totals(rows) == [3, 4]
    assert answers.asked == 3


some = st.lists(st.tuples(st.sampled_from([0, 1, 5, 30, 500, 900, 30_000, -30_000]), st.integers(1, 150)), max_size=4)


@pytest.mark.slow
@few
@given(st.lists(some, min_size=1, max_size=4))
@example([[(0, 150), (30_000, 1)], [(0, 20)]])
def test_dated_days_are_what_all_cells_are_dated(portions: list[list[tuple[int, int]]]) -> None:
    """Few cells far away are of a broken clock, many are believed: the next portion may turn one into the other."""
    dating, answers, every = Dating(), Answers(), list[Transfer]()
    for portion in portions:
        every += [Transfer(start=NOON + day * DAY + minute * 60_000_000) for day, n in portion for minute in range(n)]
        cells = cells_of(site(), every)
        expected = dated(cells)

        found = dating.of(by_day(cells))

        parts = answers.of(found.days, lambda cells: (cells,), None)
        assert found.watermark == expected.watermark
        if parts:
            order = [*KEY, "first", "last", "sent"]
            assert_frame_equal(pl.concat([part for (part,) in parts]).sort(order), expected.cells.sort(order))
        for day, (part,) in zip(found.days, parts, strict=True):
            assert set(part["minute"].cast(pl.Int64) // DAY_US) == {day.number}
