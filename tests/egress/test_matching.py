"""What was seen explains as much of what was sent as it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from egress.matching import unexplained
from tests.egress.strategies import few

amounts = st.lists(st.integers(0, 4), min_size=1, max_size=5)
windows = st.tuples(st.integers(0, 50), st.integers(0, 25), st.integers(0, 4))
demand_lists = st.lists(windows.map(lambda each: (each[0], each[0] + each[1], each[2])), max_size=5)


def most(supplies: list[tuple[int, int, int]], demands: list[tuple[int, int, int]]) -> int:
    """The largest amount that can be explained, by trying every way, unit by unit (augmenting paths)."""
    units = [(start, end) for start, end, amount in demands for _ in range(amount)]
    slots = [(start, end) for start, end, amount in supplies for _ in range(amount)]
    taken: dict[int, int] = {}

    def place(unit: int, tried: set[int]) -> bool:
        for number, (start, end) in enumerate(slots):
            fits = end >= units[unit][0] and start <= units[unit][1]
            if fits and number not in tried:
                tried.add(number)
                if number not in taken or place(taken[number], tried):
                    taken[number] = unit
                    return True
        return False

    return sum(place(unit, set()) for unit in range(len(units)))


@few
@given(amounts, demand_lists)
def test_no_other_way_explains_more(sent: list[int], seen: list[tuple[int, int, int]]) -> None:
    """Against every possible assignment."""
    supplies = [(10 * number, 10 * number + 10, amount) for number, amount in enumerate(sent)]
    demands = sorted(seen, key=lambda each: (each[1], each[0]))

    left, rest = unexplained(supplies, demands)

    assert sum(sent) - sum(left) == most(supplies, demands)
    assert sum(sent) - sum(left) == sum(amount for *_, amount in demands) - sum(rest)
    assert all(0 <= rest <= amount for rest, amount in zip(left, sent, strict=True))


def test_ends_that_touch_overlap() -> None:
    """On either side, and no further."""
    assert unexplained([(0, 10, 7), (10, 20, 7)], [(20, 30, 3)]) == ([7, 4], [0])
    assert unexplained([(10, 20, 7)], [(0, 10, 3)]) == ([4], [0])
    assert unexplained([(10, 20, 7)], [(0, 9, 3), (21, 30, 3)]) == ([7], [3, 3])


def test_nothing_seen_explains_nothing() -> None:
    """And nothing sent leaves nothing."""
    assert unexplained([(0, 10, 7)], []) == ([7], [])
    assert unexplained([], [(0, 10, 7)]) == ([], [7])
