"""What counts as found and what as a false alarm, on alarms written by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from egress.alarms import ALARMS
from egress.labels import Incident, Label, Theft
from egress.scoring import OFF, Scored, Trial
from tests.egress.labelled import DAY, GB, HOUR, START

BEGIN, END = START + 3 * DAY, START + 3 * DAY + HOUR
PLACE = "192.0.2.0/24"


def theft() -> Theft:
    label = Label(
        "burst-1", "burst", "gpu-01", "inference", ("gpu-01",), "small", 16 * GB, ("192.0.2.7",), BEGIN, END, 8 * GB
    )
    return Theft(label, BEGIN, np.array([BEGIN]), np.array([END - 1]), np.array([8 * GB]), frozenset({PLACE}))


def scored(*alarms: tuple[str, int, float, str, str], incidents: tuple[Incident, ...] = ()) -> Scored:
    """Alarms (host, time, score, place, episode) over 10 days of 10 hosts."""
    rows = [
        (host, time, score, [place] if place else [], episode, [], "") for host, time, score, place, episode in alarms
    ]
    trial = Trial("fleet", (theft(),), incidents, 10, START, START + 10 * DAY)
    return Scored([trial], [pl.DataFrame(rows, schema=ALARMS, orient="row")])


def test_an_alarm_in_time_that_names_the_place_finds_the_theft() -> None:
    """A quarter of an hour into an hour: a quarter of its 8 GB, which are half of the model, had left."""
    point = scored(("gpu-01", BEGIN + HOUR // 4 - 1, 1.0, PLACE, "")).at(1.0)

    assert (point.found, point.false_episodes) == (1, 0)
    assert point.outcomes[0].gone == pytest.approx(0.125)
    assert point.outcomes[0].delay_us == HOUR // 4 - 1


@pytest.mark.parametrize(
    "alarm",
    [
        ("gpu-01", BEGIN - 1, 1.0, PLACE, ""),
        ("gpu-01", END + 3 * DAY, 1.0, PLACE, ""),
        ("gpu-01", BEGIN + 1, 1.0, "203.0.113.0/24", ""),
        ("gpu-02", BEGIN + 1, 1.0, PLACE, ""),
    ],
    ids=["too early", "too late", "about another place", "on another host"],
)
def test_an_alarm_about_something_else_is_false(alarm: tuple[str, int, float, str, str]) -> None:
    """Also on a host where a theft goes on: it is luck there."""
    point = scored(alarm).at(1.0)

    assert (point.found, point.false_episodes) == (0, 1)


def test_a_theft_that_was_missed_is_gone_whole() -> None:
    """8 of 16 GB."""
    assert scored(("gpu-02", BEGIN, 1.0, "", "")).at(2.0).gone(0.5) == 0.5


def test_false_alarms_of_a_host_less_than_a_day_apart_are_one_episode() -> None:
    """The favour that rules without findings get."""
    alarms = [("gpu-02", START + hours * HOUR, 1.0, "", "") for hours in (0, 20, 40, 70)]

    assert scored(*alarms).at(1.0).false_episodes == 2


def test_a_finding_that_was_false_first_stays_a_false_one_and_still_finds_when_it_rises() -> None:
    """An analyst was called for nothing, and called again in time."""
    alarms = [("gpu-01", START, 3.0, PLACE, "f"), ("gpu-01", BEGIN + 60, 4.0, PLACE, "f")]

    assert (scored(*alarms).at(3.0).found, scored(*alarms).at(3.0).false_episodes) == (1, 1)
    assert (scored(*alarms).at(4.0).found, scored(*alarms).at(4.0).false_episodes) == (1, 0)


def test_a_budget_picks_the_lowest_threshold_that_keeps_it() -> None:
    """100 host-days: at .01 one false episode is allowed, at .001 none."""
    alarms = [
        ("gpu-01", BEGIN + 60, 2.0, PLACE, ""),
        ("gpu-02", START, 3.0, "", ""),
        ("gpu-03", START, 1.0, "", ""),
    ]

    assert scored(*alarms).within(0.01).threshold == 2.0
    assert scored(*alarms).within(0.001).threshold == OFF
    assert scored(*alarms).within(0.001).found == 0
    assert scored(*alarms).within(0.1).threshold == 1.0


def test_a_held_out_half_tells_what_a_threshold_costs_there() -> None:
    """Set where nothing happened, it lets through all that comes later."""
    late = [(f"gpu-{host:02}", START + 8 * DAY, 5.0, "", "") for host in range(3, 6)]

    held = scored(("gpu-02", START, 5.0, "", ""), *late).held_out(0.1)

    assert (held.threshold, held.first_rate, held.second_rate) == (5.0, 1 / 50, 3 / 50)


def test_an_incident_is_disturbed_by_a_false_alarm_on_its_hosts() -> None:
    """One of two restore tests."""
    quiet = Incident("restore-test", ("gpu-03",), START, START + HOUR)
    loud = Incident("restore-test", ("gpu-02",), START, START + HOUR)

    point = scored(("gpu-02", START + DAY, 1.0, "", ""), incidents=(quiet, loud)).at(1.0)

    assert point.disturbed == {"restore-test": (1, 2)}


def test_halves_cost_what_fell_into_them() -> None:
    """One false episode in the first five days of ten hosts, two in the last, above the threshold."""
    alarms = [("gpu-02", START + day * DAY, 2.0, PLACE, f"{day}") for day in (1, 7, 9)]

    assert scored(*alarms, ("gpu-02", START + 8 * DAY, 1.0, PLACE, "low")).halves(2.0) == (1 / 50, 2 / 50)
