"""A count-min sketch against exact counters."""

from __future__ import annotations

import numpy as np
import pytest

from models import sketch
from models.sketch import Known, Sketch, cells_of


def learned(keys: list[str], amounts: list[int]) -> Sketch:
    counters = Sketch()
    values = np.array(amounts, dtype=np.int64)
    counters.learn(cells_of(keys), 0, values, Known(values, values, values))
    return counters


def test_amounts_beyond_32_bits_are_exact() -> None:
    counters = learned(["a", "b"], [10**15, 3])

    known = counters.known(cells_of(["a", "b", "c"]), 0)

    assert [column.tolist() for column in known] == [[10**15, 3, 0]] * 3


def test_what_came_of_late_halves_with_every_tick() -> None:
    counters = learned(["a"], [1024])

    assert [int(counters.known(cells_of(["a"]), ticks).late[0]) for ticks in (0, 1, 3, 1000)] == [1024, 512, 128, 0]


def test_an_answer_is_never_too_small_and_seldom_too_large() -> None:
    """5,000 keys, the size of a fleet of a hundred hosts: at most one answer in twenty is not exact."""
    keys, amounts = [f"edge {n}" for n in range(5000)], list(range(1, 5001))
    counters = learned(keys, amounts)

    ever = counters.known(cells_of(keys), 0).ever

    assert (ever >= np.array(amounts)).all()
    assert (ever > np.array(amounts)).sum() < 250 * 2


def test_counters_stop_instead_of_turning_negative() -> None:
    counters = learned(["a"], [sketch.MOST])
    more = np.array([sketch.MOST], dtype=np.int64)
    counters.learn(cells_of(["a"]), 0, more // 2, Known(more // 2, more // 2, more))

    assert counters.known(cells_of(["a"]), 0).ever.tolist() == [sketch.MOST]


def test_a_dump_loads_to_the_same() -> None:
    counters, other = learned(["a", "b"], [5, 7]), Sketch()

    other.load(counters.dump())

    assert other.dump() == counters.dump()
    assert other.known(cells_of(["b"]), 0).ever.tolist() == [7]


@pytest.mark.parametrize("keys", [[], ["a"], ["a", "a"]])
def test_cells_have_one_line_for_each_key(keys: list[str]) -> None:
    assert cells_of(keys).shape == (len(keys), sketch.DEPTH)
