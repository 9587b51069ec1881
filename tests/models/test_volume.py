"""Bytes out that are unusual for a host at its hour."""

from __future__ import annotations

import polars as pl
import pytest

from models.volume import Volume
from tests.models.flows import THIEF, Find, MakeFlow, finder

find = finder(Volume)


@pytest.mark.slow
def test_a_burst_stands_out_of_quiet_days(flow: MakeFlow, find: Find) -> None:
    """60 kB an hour for two days, then 20 MB."""
    scores = find([*(flow(hour, sent=60_000) for hour in range(48)), flow(48, THIEF, sent=20_000_000)])

    (row,) = scores.to_dicts()
    assert (row["bytes"], row["group"], row["what"]) == (20_000_000, "198.51.100.0/24", "unusual volume to")
    assert row["reason"].startswith(
        "20.0 MB left in the hour from 2026-11-04T00:00:00Z, expected 60.0 kB after 48 hours"
    )


@pytest.mark.slow
def test_ordinary_unevenness_is_silent(flow: MakeFlow, find: Find) -> None:
    """Hours that differ tenfold, and hours without a byte."""
    hours = [hour for hour in range(100) if hour % 5]

    assert find([flow(hour, sent=200_000 * (1 + hour * 7 % 10)) for hour in hours]).height == 0


@pytest.mark.slow
def test_a_nightly_job_becomes_a_habit(flow: MakeFlow, find: Find) -> None:
    """50 MB at three o'clock every night, next to nothing else: strange at first, expected within a month."""
    nights = [flow(24 * day + 3, sent=50_000_000) for day in range(1, 40)]
    rest = [flow(hour, sent=1000) for hour in range(40 * 24)]

    scores = find([*nights, *rest])

    strange = scores.filter(pl.col("score") > 0)["window_start"]
    assert (strange[0] - scores["window_start"][0]).days == 0
    assert (strange[-1] - strange[0]).days < 30


@pytest.mark.slow
def test_a_habit_at_one_hour_is_none_at_another(flow: MakeFlow, find: Find) -> None:
    """Busy by day, silent by night; the same bytes at night are strange."""
    days = [flow(24 * day + hour, sent=50_000_000) for day in range(14) for hour in range(8, 18)]

    scores = find([*days, flow(14 * 24 + 2, sent=50_000_000)])

    assert scores["window_start"].dt.hour().to_list()[-1] == 2


def test_a_host_without_a_past_is_measured_by_its_model(flow: MakeFlow, find: Find) -> None:
    """1/16 of the 1 GB model in the first hour is told, less is not."""
    (row,) = find([flow(0, sent=62_500_000)]).to_dicts()

    assert row["score"] == 0.5
    assert "6.2 % of a model of 1.0 GB" in row["reason"]
    assert find([flow(0, sent=62_400_000)]).height == 0


def test_a_host_without_past_and_model_is_left_alone(flow: MakeFlow, find: Find) -> None:
    assert find([flow(0, sent=900_000_000, src_ip="10.200.0.1")]).height == 0


@pytest.mark.slow
def test_a_burst_hardly_teaches(flow: MakeFlow, find: Find) -> None:
    """Five hours of 50 MB after two days of 60 kB: not one of them makes the next one ordinary."""
    quiet = [flow(hour, sent=60_000) for hour in range(48)]
    bursts = [flow(48 + hour, sent=50_000_000) for hour in range(5)]

    assert find([*quiet, *bursts]).height == 5


def test_an_hour_that_could_hold_a_model_teaches_nothing(flow: MakeFlow, find: Find) -> None:
    """A theft every hour stays strange for ever."""
    quiet = [flow(hour, sent=50_000) for hour in range(48)]
    thefts = [flow(48 + hour, sent=70_000_000) for hour in range(60)]

    assert find([*quiet, *thefts]).height == 60


@pytest.mark.slow
def test_bytes_are_told_once(flow: MakeFlow, find: Find) -> None:
    """Three windows of one hour: the first is too little, the second tells both, the third only itself."""
    quiet = [flow(hour, sent=50_000) for hour in range(48)]
    parts = [flow(48.1 + n / 5, sent=size) for n, size in enumerate((900_000, 9_000_000, 4_000_000))]

    assert find([*quiet, *parts])["bytes"].to_list() == [9_900_000, 4_000_000]


@pytest.mark.slow
def test_a_forgotten_past_is_none(flow: MakeFlow, find: Find) -> None:
    """After a month of silence a host is cold again: less than 1/16 of its model says nothing."""
    quiet = [flow(hour, sent=50_000) for hour in range(48)]

    assert find([*quiet, flow(48 + 31 * 24, sent=20_000_000)]).height == 0


def test_received_and_inner_bytes_do_not_count(flow: MakeFlow, find: Find) -> None:
    """Downloads and traffic between hosts are no loss."""
    flows = [flow(0, dst_payload=900_000_000), flow(0, "10.9.9.9", sent=900_000_000)]

    assert find(flows).height == 0
