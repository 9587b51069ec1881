"""What Egress promises about kinds of theft, and when that is kept."""

from __future__ import annotations

import numpy as np
import pytest

from egress.cells import DAY_US, MINUTE_US
from egress.labels import Label, Theft
from egress.promises import PROMISES
from egress.scoring import Outcome

BEGIN = 1_790_000_000_000_000
MODEL, PART_US = 100_000_000_000, 10_000_000


def outcome(kind: str, gone: float, delay_us: int, lasting_us: int = 100 * PART_US, tolerated: int = 0) -> Outcome:
    """A whole model in parts of ten seconds, of which so much was gone at the alarm."""
    end = BEGIN + lasting_us
    label = Label("t", kind, "gpu-01", "agent", ("gpu-01",), "m", MODEL, ("198.51.100.1",), BEGIN, end, MODEL)
    starts = np.arange(BEGIN, end, PART_US)
    amounts = np.full(len(starts), MODEL // len(starts))
    theft = Theft(label, BEGIN, starts, starts + PART_US, amounts, frozenset(), tolerated)
    return Outcome(theft, "fleet", True, int(gone * MODEL), delay_us)


def is_kept(found: Outcome) -> bool:
    return next(each for each in PROMISES if found.theft.label.kind in each.kinds).is_kept(found)


@pytest.mark.parametrize(("gone", "kept"), [(0.069, True), (0.071, False)])
def test_a_burst_may_take_six_percent_and_one_part(gone: float, kept: bool) -> None:
    """A hundred parts: one is a hundredth of the model."""
    assert is_kept(outcome("burst", gone, PART_US)) is kept


@pytest.mark.parametrize(("tolerated", "kept"), [(0, False), (MODEL // 100, True)])
def test_who_rides_a_baseline_gets_what_the_site_tolerates_too(tolerated: int, kept: bool) -> None:
    """Ten percent in four days: six, and a hundredth of the model on each of them."""
    found = outcome("ramp", 0.1, 3 * DAY_US, lasting_us=10_000 * PART_US, tolerated=tolerated)

    assert is_kept(found) is kept


@pytest.mark.parametrize(("gone", "kept"), [(0.30, True), (0.32, False)])
def test_a_copy_inside_is_told_a_minute_after_a_quarter(gone: float, kept: bool) -> None:
    """A thousand seconds: a minute is six hundredths of the model."""
    assert is_kept(outcome("inside-copy", gone, 5 * MINUTE_US)) is kept
