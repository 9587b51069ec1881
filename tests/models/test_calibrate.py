"""How rare a score is: rank, tail, and what may teach them."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp

import numpy as np
import pytest

from egress.contracts import Peak
from egress.errors import UsageError
from models.calibrate import (
    BEYOND,
    LEAST_HOST_DAYS,
    LEAST_PEAKS,
    MOST_OF_HOST,
    Calibration,
    Pool,
    exceedance,
    height_of,
)

HOSTS = 50
"""Of one role, watched every day."""


def peak(score: float, episode: str = "new", role: str = "agent", host: str = "gpu-01") -> Peak:
    return Peak("volume", role, host, episode, score)


def taught(days: Iterable[list[Peak]], hosts: int = HOSTS) -> Calibration:
    calibration = Calibration()
    for day, peaks in enumerate(days):
        calibration.learn(day, {"agent": hosts}, ["volume"], peaks)
    return calibration


def odds(value: float) -> float:
    return value / (1 + value)


def ordinary(days: int, seed: int = 1) -> list[list[Peak]]:
    """Two episodes a day, whose odds are Pareto: one in a thousand is a thousand times the least."""
    rng = np.random.default_rng(seed)
    return [
        [peak(odds(1 / rng.random()), f"{day} {n}", host=f"gpu-{rng.integers(HOSTS)}") for n in range(2)]
        for day in range(days)
    ]


def test_nothing_is_rare_before_the_first_day_is_over() -> None:
    """An unknown rate is the worst one."""
    assert Calibration().rate(peak(0.999)).per_host_day == 1.0


def test_few_episodes_are_ranked() -> None:
    """Two of three episodes in 200 host-days were as high: the next one makes three in 201."""
    calibration = taught([[peak(0.5, "a")], [peak(0.8, "b")], [peak(0.9, "c")], []])

    rate = calibration.rate(peak(0.7))

    assert rate.per_host_day == 3 / 201
    assert rate.basis == "too few of 3 episodes for a tail: 2 as high in 200 host-days of all roles"


def test_rates_of_many_episodes_are_those_that_they_came_with() -> None:
    """Odds above 100 come once in a hundred episodes, which are two a day of 50 hosts; a fit may be off by half."""
    calibration = taught(ordinary(80))

    rates = [calibration.rate(peak(odds(value))).per_host_day for value in (10, 100, 300)]

    expected = [2 / HOSTS / value for value in (10, 100, 300)]
    assert all(one / 2 < rate < 2 * one for rate, one in zip(rates, expected, strict=True))


def test_a_higher_score_is_never_less_rare() -> None:
    calibration = taught(ordinary(60))
    rates = [calibration.rate(peak(odds(value))).per_host_day for value in np.geomspace(0.1, 1e6, 200)]

    assert rates == sorted(rates, reverse=True)


def test_a_tail_does_not_reach_further_than_its_days() -> None:
    """However high: 3,000 host-days say nothing about what comes once in more than 30,000."""
    calibration = taught(ordinary(60))

    assert calibration.rate(peak(1.0)).per_host_day == 1 / (BEYOND * (60 * HOSTS + 1))


def test_an_exponential_tail_is_found_to_be_one() -> None:
    """Of an exponential distribution with mean 2, what exceeds 6 is exp(-3)."""
    excesses = np.random.default_rng(3).exponential(2.0, 20_000)

    assert exceedance(6.0, excesses.tolist()) == pytest.approx(exp(-3), rel=0.1)


def test_a_heavy_tail_is_found_to_be_one() -> None:
    """Of a generalised Pareto distribution with shape 0.4 and scale 1, what exceeds 10 is (1 + 4) ** -2.5."""
    uniform = np.random.default_rng(4).random(50_000)

    assert exceedance(10.0, ((uniform**-0.4 - 1) / 0.4).tolist()) == pytest.approx(5**-2.5, rel=0.15)


def test_equal_excesses_have_no_end() -> None:
    """Peaks that were all winsorised to one height do not make a higher one impossible, nor divide by zero."""
    assert exceedance(1.0, [0.0] * LEAST_PEAKS) == 0.0
    assert 0 < exceedance(2.0, [1.0] * LEAST_PEAKS) < 0.2


def test_an_episode_is_not_compared_with_itself() -> None:
    calibration = taught([[peak(0.9, "long", host="gpu-09")]] * 4)

    assert calibration.rate(peak(0.9, "long")).per_host_day == 1 / 201
    assert calibration.rate(peak(0.9, "other")).per_host_day == 2 / 201


def test_an_episode_counts_once_however_long() -> None:
    once, daily = taught([[peak(0.9, "long")], [], []]), taught([[peak(0.9, "long")]] * 3)

    assert once.rate(peak(0.9)) == daily.rate(peak(0.9))


def test_a_role_speaks_for_itself_once_it_was_watched_for_long() -> None:
    """Before, its hosts are compared with all."""
    calibration = Calibration()
    calibration.learn(0, {"agent": LEAST_HOST_DAYS, "dev": 10}, ["volume"], [peak(0.9, "a", "agent")])

    agent, dev = (calibration.rate(peak(0.9, role=role)) for role in ("agent", "dev"))

    assert agent.basis.endswith("600 host-days of role agent")
    assert dev.basis.endswith("610 host-days of all roles")


def test_no_episode_lifts_a_tail_by_more_than_a_factor_of_two() -> None:
    """Winsorised: the patient thief's largest transfer so far teaches twice the odds of the largest before."""
    pool = Pool().with_day(0, 50, {f"{n}": height_of(0.5) for n in range(LEAST_PEAKS)})

    (_, height) = pool.with_day(1, 50, {"huge": height_of(0.999)}).peaks["huge"]

    assert height == pytest.approx(height_of(2 / 3))


def test_one_host_teaches_a_few_episodes_a_day() -> None:
    many = [peak(0.9, f"{n:03}") for n in range(200)]

    assert taught([many]).rate(peak(0.8)).per_host_day == (MOST_OF_HOST + 1) / 51


def test_a_quarter_later_everything_is_forgotten() -> None:
    calibration = taught([[peak(0.9, f"{n}", host=f"{n}") for n in range(9)], *([[]] * 90)])

    assert calibration.rate(peak(0.9)).per_host_day == 1 / (90 * HOSTS + 1)


def test_restart_after_any_day_changes_nothing() -> None:
    whole, restarted = Calibration(), Calibration()
    for day, peaks in enumerate(ordinary(30)):
        state, restarted = restarted.snapshot(), Calibration()
        restarted.restore(state)
        for one in (whole, restarted):
            one.learn(day, {"agent": HOSTS}, ["volume"], peaks)

    assert restarted.snapshot() == whole.snapshot()
    assert restarted.rate(peak(0.99)) == whole.rate(peak(0.99))


def test_order_within_a_day_does_not_matter() -> None:
    days = ordinary(30)

    assert taught(days).snapshot() == taught([list(reversed(day)) for day in days]).snapshot()


def test_rating_changes_nothing() -> None:
    calibration = taught(ordinary(10))
    before = calibration.snapshot()

    calibration.rate(peak(0.9, role="storage"))

    assert calibration.snapshot() == before


def test_state_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With caps lowered, a longer stream over more roles leaves no more state."""
    monkeypatch.setattr("models.calibrate.MAX_PEAKS", 20)
    monkeypatch.setattr("models.calibrate.MAX_POOLS", 6)
    calibration, sizes = Calibration(), []
    for day in range(200):
        role = f"role-{day:03}"
        peaks = [peak(0.9, f"{day:03} {n}", role, f"{n}") for n in range(9)]
        calibration.learn(day, {role: 9}, ["volume"], peaks)
        sizes.append(len(calibration.snapshot()))

    assert sizes[199] < 1.2 * sizes[99]


@pytest.mark.parametrize("state", [b"", b"{}", b'{"detector":"other","version":"1","body":[]}'])
def test_state_of_another_is_refused(state: bytes) -> None:
    with pytest.raises(UsageError, match="calibrate"):
        Calibration().restore(state)
