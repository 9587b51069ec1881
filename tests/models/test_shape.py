"""Hosts that behave unlike the others of their role."""

from __future__ import annotations

import random

import pytest

from models import shape
from models.hours import NAMES
from models.pool import Pool
from models.shape import MAX_POOL, Shape
from tests.models.flows import THIEF, Find, Flow, MakeFlow, finder

pytestmark = pytest.mark.slow


find = finder(Shape)


@pytest.fixture
def work(flow: MakeFlow) -> list[Flow]:
    """Five days of three hosts of one role that send 20 to 40 MB an hour, the same in other hours."""
    return [
        flow(hour, sent=20_000_000 + (hour * 7 + n * 5) % 20 * 1_000_000, src_ip=f"10.77.1.{n}")
        for hour in range(120)
        for n in (1, 2, 3)
    ]


def test_an_hour_unlike_the_role_is_told_when_it_is_over(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """3 GB beside 30 MB: told in the first window of the next hour, with what is strange about it."""
    (row,) = find([*work, flow(110.5, THIEF, sent=3_000_000_000)]).to_dicts()

    assert (row["host"], row["group"], row["what"]) == ("gpu-01", "198.51.100.0/24", "unlike its role to")
    assert (row["window_s"], row["window_start"].hour) == (3600, 14)
    assert row["bytes"] > 3_000_000_000
    assert "hosts of role inference: sent outside 3.0 GB (typical 2" in row["reason"]


def test_ordinary_days_are_silent(work: list[Flow], find: Find) -> None:
    assert find(work).height == 0


def test_a_large_download_is_not_told(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work, flow(110.5, dst_payload=9_000_000_000)]).height == 0


def test_an_odd_hour_without_bulk_outside_is_not_told(flow: MakeFlow, find: Find) -> None:
    """9 GB to a host inside beside 2 MB that left: unlike the role, but no loss."""
    quiet = [flow(hour, sent=2_000_000, src_ip=f"10.77.1.{n}") for hour in range(120) for n in (1, 2, 3)]

    assert find([*quiet, flow(110.5, "10.9.9.9", sent=9_000_000_000)]).height == 0


def test_a_role_is_judged_after_a_pool_of_hours(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """80 hours of three hosts are 240."""
    assert find([*work[: 3 * 80], flow(79.5, THIEF, sent=3_000_000_000), flow(81)]).height == 0


def test_an_hour_that_has_not_ended_is_not_judged(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work, flow(119.9, THIEF, sent=3_000_000_000)]).height == 0


def test_a_threshold_out_of_reach_silences_it(
    work: list[Flow], flow: MakeFlow, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape, "STRANGE", 100.0)

    assert find([*work, flow(110.5, THIEF, sent=3_000_000_000)]).height == 0


@pytest.fixture
def pool() -> Pool:
    """One that has learned 300 hours around 3, in every feature."""
    rng = random.Random(3)
    filled = Pool(MAX_POOL)
    for _ in range(300):
        filled.learn([rng.gauss(3.0, 0.3) for _ in NAMES])
    return filled


def test_ablation_names_the_feature_that_is_strange(pool: Pool) -> None:
    """Only what is over UDP differs."""
    features = [7.5 if name == "sent over UDP" else 3.0 for name in NAMES]

    ((name, value, usual), *_) = pool.shares(features)

    assert (name, value) == ("sent over UDP", 7.5)
    assert usual == pytest.approx(3.0, abs=0.1)


def test_more_is_stranger_and_less_is_not(pool: Pool) -> None:
    usual = pool.strangeness([3.0] * len(NAMES))

    assert pool.strangeness([0.0] * len(NAMES)) == usual
    assert pool.strangeness([7.5] * len(NAMES)) > 1.1 > usual


def test_a_pool_is_silent_and_needs_no_river_until_it_is_full() -> None:
    young = Pool(MAX_POOL)
    for _ in range(MAX_POOL - 1):
        young.learn([1.0] * len(NAMES))

    assert (young.speaks, young.strangeness([9.0] * len(NAMES))) == (False, 0.0)
    assert young.dump()[-1] == []


def test_a_pool_loads_to_the_same(pool: Pool) -> None:
    """Trees are planted anew from the seed, and get their counters back: learning goes on alike."""
    other = Pool.load(pool.dump())
    for each in (pool, other):
        for _ in range(MAX_POOL):
            each.learn([4.0] * len(NAMES))

    assert other.dump() == pool.dump()
