"""Hosts that turn from pulling to pushing."""

from __future__ import annotations

import pytest

from models import roles
from models.roles import Roles
from tests.models.flows import THIEF, Find, Flow, MakeFlow, finder

find = finder(Roles)


@pytest.fixture
def work(flow: MakeFlow) -> list[Flow]:
    """Twenty days on which a host pulls ten times what it sends, four times a day."""
    return [flow(hour, sent=5_000_000, dst_payload=50_000_000) for hour in range(0, 480, 6)]


def test_a_host_that_begins_to_push_is_told(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """600 MB beside 24 hours of 20 MB out and 200 MB in: (620 - 200) / 820 = +0.51; before, -9/11 = -0.82."""
    (row,) = find([*work, flow(474.5, THIEF, sent=600_000_000)]).to_dicts()

    assert (row["group"], row["what"]) == ("198.51.100.0/24", "pushing instead of pulling to")
    assert row["reason"].startswith("620 MB left and 200 MB came in within 24 hours, producer/consumer ratio +0.51")
    assert "usual -0.82 with 20.0 MB a day over 19 days: 13.3 times the usual spread" in row["reason"]


def test_ordinary_days_are_silent(work: list[Flow], find: Find) -> None:
    assert find(work).height == 0


def test_a_push_beside_a_larger_pull_is_not_told(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Whoever downloads a model on the day of the theft hides it from this detector, as the documentation says."""
    assert find([*work, flow(474.5, THIEF, sent=600_000_000), flow(474.5, dst_payload=900_000_000)]).height == 0


def test_missing_pulls_are_no_push(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """On the 20th day the host sends what it always sent, and fetches nothing."""
    idle = [flow(hour, sent=5_000_000) for hour in range(480, 504, 6)]

    assert find([*work, *idle]).height == 0


def test_a_host_that_always_pushed_has_nothing_to_turn(flow: MakeFlow, find: Find) -> None:
    uploads = [flow(hour, sent=50_000_000, dst_payload=5_000_000) for hour in range(0, 480, 6)]

    assert find([*uploads, flow(474.5, THIEF, sent=900_000_000)]).height == 0


def test_a_host_without_a_week_of_past_is_left_alone(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work[:20], flow(120, THIEF, sent=600_000_000)]).height == 0


@pytest.mark.slow
def test_less_than_bulk_is_left_alone(flow: MakeFlow, find: Find) -> None:
    """1/64 of the 1 GB model is 15.6 MB."""
    quiet = [flow(hour, sent=10_000, dst_payload=100_000) for hour in range(0, 480, 6)]

    assert find([*quiet, flow(474.5, THIEF, sent=15_000_000)]).height == 0
    assert find([*quiet, flow(474.5, THIEF, sent=16_000_000)]).height == 1


def test_bytes_are_told_once(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """The first push comes with the 20 MB of a day's work, the second alone."""
    pushes = [flow(474.5, THIEF, sent=600_000_000), flow(475.5, THIEF, sent=400_000_000)]

    assert find([*work, *pushes])["bytes"].to_list() == [620_000_000, 400_000_000]


@pytest.mark.slow
def test_several_destinations_count_for_less(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """The same bytes to six networks: no place is named, and the score is eight tenths."""
    many = [flow(474.5, f"198.51.{100 + n}.9", sent=100_000_000) for n in range(6)]

    (row,) = find([*work, *many]).to_dicts()
    (one,) = find([*work, flow(474.5, THIEF, sent=600_000_000)]).to_dicts()

    assert row["group"] == ""
    assert row["score"] == pytest.approx(0.8 * one["score"])


@pytest.mark.slow
def test_days_that_could_hold_a_model_teach_nothing(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """A theft a day, for as long as it takes to outvote four weeks of past, stays strange."""
    later = [flow(hour, sent=5_000_000, dst_payload=50_000_000) for hour in range(480, 1440, 6)]
    thefts = [flow(24 * day + 1, THIEF, sent=600_000_000) for day in range(20, 60)]

    times = find([*work, *later, *thefts])["window_start"]

    assert times.dt.date().n_unique() == 40


def test_a_threshold_out_of_reach_silences_it(
    work: list[Flow], flow: MakeFlow, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "STRANGE", 100.0)

    assert find([*work, flow(474.5, THIEF, sent=600_000_000)]).height == 0
