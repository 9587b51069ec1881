"""Slow, steady loss, found by what days add up to."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from models import drip
from models.drip import Drip
from tests.models.flows import THIEF, Find, Flow, MakeFlow, finder

find = finder(Drip)


@pytest.fixture
def work(flow: MakeFlow) -> list[Flow]:
    """Forty days of uploads at nine, of 30 to 60 MB."""
    return [flow(24 * day + 9, sent=30_000_000 + day * 7 % 30 * 1_000_000) for day in range(40)]


def days(scores: pl.DataFrame) -> list[int]:
    """Days after the first one of the work."""
    began = datetime(2026, 11, 2, tzinfo=UTC)
    return (scores["window_start"] - began).dt.total_days().unique().sort().to_list()


def test_three_days_of_excess_are_told_on_the_third(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """50 MB a day more: each day counts for three spreads at most, less the slack; 7 is passed by three of them."""
    theft = [flow(24 * day + 3, THIEF, sent=150_000_000) for day in range(20, 26)]

    scores = find([*work, *theft])

    assert days(scores)[0] == 22
    assert scores["group"].unique().to_list() == ["198.51.100.0/24"]
    assert scores["what"].unique().to_list() == ["steady excess to"]


def test_ordinary_days_are_silent(work: list[Flow], find: Find) -> None:
    assert find(work).height == 0


def test_one_day_is_no_drip_however_large(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """100 GB at once: that is for others to tell."""
    assert find([*work, flow(24 * 20, THIEF, sent=100_000_000_000)]).height == 0


def test_a_weekly_backup_is_no_drip(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Five large Sundays, with six days between that take back what each added."""
    assert find([*work, *(flow(24 * day + 2, sent=5_000_000_000) for day in range(6, 40, 7))]).height == 0


def test_a_host_without_a_week_of_past_is_left_alone(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    theft = [flow(24 * day, THIEF, sent=900_000_000) for day in range(3, 7)]

    assert find([*work[:7], *theft]).height == 0


def test_bytes_are_told_once(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Rows add up to what six days sent beyond the usual 44 MB."""
    theft = [flow(24 * day + 3, THIEF, sent=150_000_000) for day in range(20, 26)]
    both = sum(150_000_000 + 30_000_000 + day * 7 % 30 * 1_000_000 for day in range(20, 26))

    told = find([*work[:26], *theft])["bytes"].sum()

    assert told == pytest.approx(both - 6 * 44_000_000, rel=0.02)


def test_a_clock_is_recognised(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """The same size at the same minute is said; sizes and hours that jump about are not."""
    steady = [flow(24 * day + 3.5, THIEF, sent=150_000_000) for day in range(20, 27)]
    uneven = [
        flow(24 * day + day * 11 % 20, THIEF, sent=day * 13 % 7 * 60_000_000 + 90_000_000) for day in range(20, 27)
    ]

    assert (
        "on 6 days 150 MB give or take 0 % from 03:30 UTC give or take 0 min"
        in find([*work[:27], *steady])["reason"][-1]
    )
    assert "give or take" not in find([*work[:27], *uneven])["reason"][-1]


@pytest.mark.slow
def test_a_habit_of_weeks_is_the_usual_again(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """50 MB more a day for months, less than 1/16 of the model in all: told at first, forgotten in the end."""
    more = [flow(24 * day + 3, "203.0.113.77", sent=900_000) for day in range(20, 130)]
    little = [flow(24 * day + 9, sent=200_000 + day * 7 % 3 * 1000) for day in range(130)]

    told = days(find([*little, *more]))

    assert told == [] or told[-1] < 110


@pytest.mark.slow
def test_a_run_that_could_hold_a_model_teaches_nothing(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """150 MB a day beside a model of 1 GB stays news for ever."""
    theft = [flow(24 * day + 3, THIEF, sent=150_000_000) for day in range(20, 100)]
    longer = [flow(24 * day + 9, sent=40_000_000) for day in range(40, 100)]

    assert days(find([*work, *longer, *theft]))[-1] == 99


def test_a_threshold_out_of_reach_silences_it(
    work: list[Flow], flow: MakeFlow, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drip, "THRESHOLD", 2 * drip.CEILING)

    scores = find([*work, *(flow(24 * day, THIEF, sent=150_000_000) for day in range(20, 40))])

    assert scores.filter(pl.col("score") > 0).height == 0
