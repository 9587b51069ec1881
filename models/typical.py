"""What a few days have in common, so that no single one of them moves it far."""

from __future__ import annotations

from collections.abc import Sequence

DAYS_BEFORE_SPEAKING = 7
"""A week has seen every weekday."""
DAYS_KEPT = 28
"""Four weeks: a change must last for two of them before it is the usual."""
MEDIAN_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""


def middle(values: Sequence[float]) -> float:
    """The median; the lower of the two in the middle, so that it is always one of the values."""
    return sorted(values)[(len(values) - 1) // 2]


def spread(values: Sequence[float]) -> float:
    """Median absolute deviation as a standard deviation: less than half of the values cannot make it large."""
    centre = middle(values)
    return MEDIAN_TO_SIGMA * middle([abs(value - centre) for value in values])
