"""Other tools' rules on conversations written by hand, with scores worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest

from egress import peers
from egress.inventory import Inventory
from egress.uploads import UPLOADS, of
from tests.egress import labelled
from tests.egress.labelled import DAY, HOUR, START

MB = 1_000_000


def uploads(*rows: tuple[int, int, int, str]) -> pl.DataFrame:
    """One row for (flow, end, bytes sent, place), all of one host over one port."""
    whole = [
        ("gpu-01", place.encode(), place, 443, flow, end - 1, end, sent, sent // 100, False, False)
        for flow, end, sent, place in rows
    ]
    return pl.DataFrame(whole, schema=UPLOADS, orient="row")


def rule(name: str) -> peers.Rule:
    return next(each for each in peers.RULES if each.name == name)


def scores(name: str, seen: pl.DataFrame) -> list[tuple[int, float]]:
    found = peers.alarms(rule(name), seen).sort("time")
    return [(time - START, score) for time, score in zip(found["time"], found["score"], strict=True)]


def test_bytes_a_flow_are_known_when_it_ends() -> None:
    """Two parts of 60 MB are one flow of 120."""
    seen = uploads((1, START + HOUR, 60 * MB, "a"), (1, START + 2 * HOUR, 60 * MB, "a"), (2, START + 3 * HOUR, MB, "b"))

    assert scores("100 MB a flow", seen) == [(2 * HOUR, 120e6), (3 * HOUR, 1e6)]


def test_bytes_an_hour_start_anew_with_the_hour() -> None:
    """Sums of one destination: 300 and 600 MB in one hour; 100 in the next rise above nothing."""
    seen = uploads(
        (1, START + 10, 300 * MB, "a"), (2, START + 20, 300 * MB, "a"), (3, START + HOUR + 10, 100 * MB, "a")
    )

    assert scores("500 MB an hour", seen) == [(10, 300e6), (20, 600e6)]


def test_bytes_in_8_hours_slide() -> None:
    """What is older than eight hours does not count any more, destinations do not add up."""
    seen = uploads(
        (1, START + HOUR, 400 * MB, "a"),
        (2, START + 8 * HOUR, 500 * MB, "a"),
        (3, START + 8 * HOUR, 900 * MB, "b"),
        (4, START + 10 * HOUR, 600 * MB, "a"),
    )

    assert (10 * HOUR, 1.1e9) in scores("1 GiB in 8 h", seen)
    assert (8 * HOUR, 9e8) in scores("1 GiB in 8 h", seen)


def test_high_sum_compares_a_destination_with_all_of_the_days_before() -> None:
    """Ten times the usual stands out the day after; on the first day there is nothing to compare with."""
    usual = [(n, START + n * HOUR, MB + n % 7 * 20_000, f"p{n % 5}") for n in range(48)]
    seen = uploads(*usual, (99, START + 50 * HOUR, 100 * MB, "p9"))

    found = scores("high sum of 3 h", seen)

    assert found[-1][0] == 51 * HOUR
    assert found[-1][1] > 10
    assert all(time > DAY for time, _ in found)


def test_the_series_of_14_days_knows_the_hour_of_the_day() -> None:
    """Every night a backup of 2 GB: usual at two o'clock, strange at noon; told at midnight."""
    nights = [(day, START + day * DAY + 2 * HOUR + 5, 2000 * MB, "backup") for day in range(10)]
    hours = [(100 + n, START + n * HOUR + 9, 20 * MB + n % 5 * MB, "other") for n in range(10 * 24)]
    noon = (999, START + 8 * DAY + 12 * HOUR + 7, 2000 * MB, "thief")

    found = peers.alarms(rule("14-day series"), uploads(*nights, *hours, noon)).sort("score")

    assert found["time"][-1] == START + 9 * DAY
    assert "thief" in found.filter(pl.col("score") == found["score"].max())["places"].explode().to_list()
    assert found.filter(pl.col("score") > 5)["time"].unique().to_list() == [START + 9 * DAY]


def test_far_from_its_baseline_needs_a_baseline_and_more_sent_than_received() -> None:
    """100 MB after two days of about one; nothing is said about the first day."""
    usual = [(n, START + n * HOUR, MB + n % 7 * 20_000, "a") for n in range(48)]
    seen = uploads(*usual, (99, START + 50 * HOUR, 100 * MB, "a"))
    pulled = seen.with_columns(received=pl.col("sent") * 3)

    assert scores("MAD, distance, PCR", seen)[-1][0] == 51 * HOUR
    assert scores("MAD, distance, PCR", pulled) == []


def test_clockwork_is_perfectly_regular_and_chance_is_not() -> None:
    """Equal sizes at equal distances score 1."""
    clock = [(n, START + n * HOUR // 2, MB, "clock") for n in range(1, 40)]
    chance = [(100 + n, START + n * n * HOUR // 80, MB * (1 + n * n * 13 % 17), "chance") for n in range(1, 40)]

    found = peers.alarms(rule("regularity"), uploads(*clock, *chance))
    best = found.explode("places").group_by("places").agg(pl.col("score").max()).sort("places")

    assert dict(best.iter_rows())["clock"] == pytest.approx(1.0)
    assert dict(best.iter_rows())["chance"] < 0.8


def test_an_allow_list_holds_what_approvals_name_and_rules_see_opened_conversations() -> None:
    """The approved backup place is listed, the stranger is not; an answer was not opened by the host."""
    rows = labelled.transfer(labelled.VICTIM, labelled.APPROVED, START, labelled.PART, MB)
    rows += labelled.transfer(labelled.VICTIM, labelled.STRANGER, START, labelled.PART, MB)
    pulled = dict(rows[1], side="dst", src_ip=rows[1]["dst_ip"], dst_ip=rows[1]["src_ip"], dst_bytes=7)
    inventory = Inventory(labelled.config())

    seen = of(labelled.frame([*rows, pulled]), inventory).sort("place", "is_answer")

    assert seen.select("place", "is_listed", "is_answer", "sent").rows() == [
        ("198.51.100.0/24", True, False, MB + 52),
        ("203.0.113.0/24", False, False, MB + 52),
        ("203.0.113.0/24", False, True, 7),
    ]
    assert peers.unlisted(peers.opened(seen))["place"].to_list() == ["203.0.113.0/24"]
