"""Formulas of `docs/sizing.md` against fleets that they were not fitted to; `make bench`."""

from __future__ import annotations

import pytest

from tests.bench import sizing, sizingpage
from tests.bench.sizing import Cost, Judgement, Prices

pytestmark = [pytest.mark.bench, pytest.mark.slow]

OFF_BY = 0.2
"""At most, of the CPU that was measured."""


@pytest.fixture(scope="module")
def found() -> tuple[Prices, list[Cost], Judgement, tuple[float, float]]:
    """Prices, fleets that were held back, a judgement that was, and what judging costs."""
    costs = sizing.measured([*sizing.FITTED, *sizing.HELD_BACK])
    fitted, held = costs[: len(sizing.FITTED)], costs[len(sizing.FITTED) :]
    prices = sizing.fitted(fitted)
    judged = [sizing.judgement(hosts) for hosts in (*sizing.JUDGED, sizing.JUDGED_HELD_BACK)]
    fit = sizing.of_judging(judged[:-1])
    sizingpage.write(prices, fitted, held, judged, fit)
    return prices, held, judged[-1], fit


def test_cpu_of_other_fleets_is_foretold_within_a_fifth(
    found: tuple[Prices, list[Cost], Judgement, tuple[float, float]],
) -> None:
    prices, held, _, _ = found

    off = {cost.shape.name: prices.seconds(cost.counts) / cost.total_s - 1 for cost in held}

    assert {name: share for name, share in off.items() if abs(share) > OFF_BY} == {}


def test_cpu_of_a_judgement_is_foretold_within_a_fifth(
    found: tuple[Prices, list[Cost], Judgement, tuple[float, float]],
) -> None:
    _, _, judged, (fixed, cell) = found

    assert abs((fixed + cell * judged.cells) / judged.seconds - 1) <= OFF_BY
