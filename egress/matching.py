"""How much of what was sent at some time can be explained by what was seen at about that time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def unexplained(
    supplies: Sequence[tuple[int, int, int]], demands: Sequence[tuple[int, int, int]]
) -> tuple[list[int], list[int]]:
    """What is left of each supply `(start, end, amount)` after demands `(start, end, amount)` took what overlaps them,
    and what each demand could not take.

    Supplies are in order and overlap at most at their ends; demands are in order of their ends. Each demand takes from
    the earliest supply that overlaps it; since the one that ends first goes first, no other way explains more (Glover,
    Maximum matching in a convex bipartite graph, 1967).
    """
    left = [amount for _, _, amount in supplies]
    ends = [end for _, end, _ in supplies]
    rest = []
    skip = list(range(1, len(left) + 1))
    for start, end, amount in demands:
        place = _rich(bisect_left(ends, start), left, skip)
        while amount > 0 and place < len(left) and supplies[place][0] <= end:
            taken = min(amount, left[place])
            left[place] -= taken
            amount -= taken
            place = _rich(place, left, skip)
        rest.append(amount)
    return left, rest


def _rich(place: int, left: list[int], skip: list[int]) -> int:
    """The first supply from `place` on of which something is left; shortens the way there for those who come after."""
    found = place
    while found < len(left) and left[found] == 0:
        found = skip[found]
    while place < found:
        skip[place], place = found, skip[place]
    return found
