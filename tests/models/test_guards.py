"""Nobody teaches a learner by patience: what is tied to a finding, what ramps, and what moved."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import inf

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import registry
from egress.contracts import Detector
from models.guards import RECORD, Reference, could_hold, winsorised
from tests.models.flows import START, MakeFlow, Windowed, run

QUIET, RUN = 20, 60
"""Ordinary days, and days after them on which something leaves every night."""
LEAK = 1_500_000_000
HOST = "10.88.1.1"
"""Holds no model, so that no gate but that of the findings keeps a leak from being learned."""
HABITS = ("volume", "drip", "roles", "edges")
"""Detectors that learn what a host does every day. `shape` learns what its role does, the others learn no baseline."""
finite = st.floats(-1e6, 1e6)


def fresh(name: str) -> Detector:
    return next(detector for detector in registry.detectors() if detector.name == name)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@pytest.fixture(scope="module")
def nights(flow: MakeFlow, windowed: Windowed) -> list[pl.DataFrame]:
    """A host that pulls 2 MB four times a day; from the 21st day on 1.5 GB leave it every night."""
    hours = range(0, 24 * (QUIET + RUN), 6)
    usual = [flow(hour, sent=60_000, dst_payload=2_000_000, src_ip=HOST) for hour in hours]
    nightly = [flow(24 * n + 0.1, "198.51.100.10", sent=LEAK, src_ip=HOST) for n in range(QUIET, QUIET + RUN)]
    return windowed([*usual, *nightly])


def tied(windows: Iterable[pl.DataFrame]) -> list[pl.DataFrame]:
    """As if the ledger had a finding in the queue since the first night."""
    return [window.with_columns(is_tied=pl.col("window_start") >= day(QUIET)) for window in windows]


def told(name: str, windows: Iterable[pl.DataFrame]) -> list[int]:
    """On which days something strange was told of."""
    scores = run(fresh(name), windows).filter(pl.col("score") > RECORD)
    return sorted({(moment - START).days for moment in scores["window_start"]})


@pytest.mark.slow
@pytest.mark.parametrize("name", HABITS)
def test_what_belongs_to_a_finding_never_becomes_the_usual(name: str, nights: list[pl.DataFrame]) -> None:
    """Without the finding it does, within two months; with it the last night is as strange as the first."""
    assert max(told(name, nights)) < QUIET + RUN - 7
    assert max(told(name, tied(nights))) >= QUIET + RUN - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.DETECTORS))
def test_ties_hide_nothing(name: str, nights: list[pl.DataFrame]) -> None:
    """Whatever is told without them is told with them."""
    assert set(told(name, nights)) <= set(told(name, tied(nights)))


@pytest.mark.slow
def test_ordinary_windows_of_a_finding_teach_no_strangeness(nights: list[pl.DataFrame]) -> None:
    """A finding that stays open over ordinary months makes no detector cry."""
    ordinary = [window for window in nights if window["sent"].max() < LEAK]  # type: ignore[operator]  # a number

    assert [told(name, tied(ordinary)) for name in HABITS] == [[]] * len(HABITS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volume", "drip"])
def test_a_ramp_is_told(name: str, flow: MakeFlow, windowed: Windowed) -> None:
    """Twice as much every day: no day is far from the one before, and all of them are far from where it began."""
    days = [flow(24 * n + hour, sent=60_000) for n in range(QUIET) for hour in range(0, 24, 6)]
    ramp = [flow(24 * (QUIET + n) + 0.1, "198.51.100.10", sent=300_000 * 2**n) for n in range(14)]

    assert told(name, windowed([*days, *ramp]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volume", "drip", "roles"])
def test_a_baseline_that_moved_is_told_as_such(name: str, nights: list[pl.DataFrame]) -> None:
    """With what it was and what it is, and as no alarm."""
    scores = run(fresh(name), nights)

    moves = scores.filter(pl.col("score") == RECORD)
    assert moves.height > 0
    assert moves["reason"].str.contains(r"was .* and has become .*").all()
    assert moves["bytes"].sum() == 0
    assert run(fresh(name), tied(nights)).filter(pl.col("score") == RECORD).height == 0


@given(finite, finite, st.floats(0, 10))
def test_a_reference_follows_no_further_than_allowed(before: float, usual: float, most: float) -> None:
    followed = Reference.frozen(before).followed(usual, most)

    assert abs(followed.value - before) <= most * (1 + 1e-9) + 1e-9
    assert abs(followed.value - usual) <= abs(before - usual)


@given(finite, finite, st.floats(0, 10))
def test_a_reference_only_lowers_what_is_usual(value: float, usual: float, reach: float) -> None:
    held = Reference.frozen(value).held(usual, reach)

    assert held <= usual
    assert held == usual or held == value + reach


def test_winsorised_values_lie_within_reach() -> None:
    assert [winsorised(value, 5.0, 2.0) for value in (-inf, 3.5, inf)] == [3.0, 3.5, 7.0]


def test_what_could_be_a_model_is_a_sixteenth_of_it() -> None:
    assert (could_hold(1000, 16_000), could_hold(999, 16_000), could_hold(10**12, 0)) == (True, False, False)


def test_every_detector_is_known_to_learn_habits_or_not() -> None:
    """A new one has to be sorted in, so that it is tested here."""
    assert {*HABITS, "shape", "novelty", "tunnels"} == set(registry.DETECTORS)


def test_a_role_learns_nothing_of_hosts_with_a_finding(flow: MakeFlow, windowed: Windowed) -> None:
    hours = windowed([flow(hour, sent=60_000) for hour in range(4)])

    pools = [json.loads(learned("shape", windows))["body"]["pools"] for windows in (hours, tied_whole(hours))]

    assert [list(each) for each in pools] == [["inference"], []]


def learned(name: str, windows: Iterable[pl.DataFrame]) -> bytes:
    detector = fresh(name)
    for window in windows:
        detector.learn(window)
    return detector.snapshot()


def tied_whole(windows: Iterable[pl.DataFrame]) -> list[pl.DataFrame]:
    return [window.with_columns(is_tied=pl.lit(True)) for window in windows]
