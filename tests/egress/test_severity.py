"""Levels of what detectors say: by rarity among the days before, and by what could be gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import alarms, findings, severity
from egress.addresses import bytes_of, network_of
from egress.config import DAY_US, Approval, Config, Detect, Fleet, Host, Model
from egress.contracts import Finding, Level
from egress.days import Day
from egress.inventory import Inventory
from egress.schema import CELLS, conform
from egress.severity import EXPECTED, WATCHED, Context, Open
from egress.signals import SCORES
from egress.words import EPOCH
from tests.egress.dayparts import by_day

FIRST_DAY = 20_700
HOSTS = tuple(f"gpu-{n:03}" for n in range(100))
MODEL = Model("llama", 64_000_000_000, holders=("gpu-*",))
FLEET = Fleet(
    internal=(network_of("10.0.0.0/8"),),
    resolvers=frozenset([bytes_of("10.0.0.53")]),
    hosts=tuple(Host(host, (bytes_of(f"10.77.1.{n}"),), "inference") for n, host in enumerate(HOSTS)),
)
SITE = Inventory(Config(fleet=FLEET, models=(MODEL,)))
WHOLE = pl.DataFrame([(host, FIRST_DAY + day) for host in HOSTS for day in range(60)], schema=WATCHED, orient="row")
ENOUGH, COMPLETE = 1_000_000_000, 4_000_000_000
"""1/64 and 1/16 of the model."""

Row = dict[str, object]


def moment(day: float) -> datetime:
    return EPOCH + timedelta(days=FIRST_DAY + day)


def score(day: float, value: float = 0.9, sent: int = ENOUGH, host: int = 0, **others: object) -> Row:
    row: Row = {
        "window_start": moment(day),
        "window_s": 300,
        "host": HOSTS[host],
        "detector": "volume",
        "group": "198.51.100.0/24",
        "what": "unusual volume to",
        "score": value,
        "bytes": sent,
        "first": moment(day),
        "last": moment(day),
        "low_address": bytes_of("198.51.100.17"),
        "high_address": bytes_of("198.51.100.17"),
        "reason": "much",
    }
    return row | others


def found(rows: list[Row], site: Inventory = SITE, **known: object) -> dict[str, Finding]:
    """Findings by host and first day."""
    context = Context(**({"watched": WHOLE} | known))  # type: ignore[arg-type]  # test values
    every = findings.from_scores(pl.DataFrame(rows, schema=SCORES.polars), site, None, context)
    return {f"{each.host} {each.start // DAY_US - FIRST_DAY}": each for each in every}


def test_a_rare_score_with_enough_bytes_is_medium() -> None:
    """Budget .01, shared by six detectors: once in 600 host-days; a hundred hosts have had seven days, and nothing."""
    finding = found([score(7)])["gpu-000 7"]

    assert finding.level == Level.MEDIUM
    assert finding.reasons[-1] == (
        "such a score comes without a known cause once in 701 host-days "
        "(too few of 0 episodes for a tail: 0 as high in 700 host-days of role inference)"
    )


def test_the_same_score_a_week_earlier_is_information() -> None:
    assert found([score(0)])["gpu-000 0"].level == Level.INFO


def test_a_score_that_others_had_without_cause_is_information() -> None:
    """One a week among a hundred hosts is already more than once in 600 host-days."""
    rows = [score(1 + 3 * n, 0.8, host=n) for n in range(6)]

    assert found([*rows, score(20, 0.8, host=50)])["gpu-050 20"].level == Level.INFO
    assert found([*rows, score(20, 0.81, host=50)])["gpu-050 20"].level == Level.MEDIUM


@pytest.mark.parametrize(("sent", "level"), [(ENOUGH - 1, Level.INFO), (ENOUGH, Level.MEDIUM)])
def test_less_than_the_ledger_mentions_is_information(sent: int, level: Level) -> None:
    """However rare."""
    assert found([score(50, 1.0, sent)])["gpu-000 50"].level == level


@pytest.mark.parametrize(("sent", "level"), [(COMPLETE - 1, Level.MEDIUM), (COMPLETE, Level.HIGH)])
def test_high_takes_ten_times_the_rarity_and_a_complete_model(sent: int, level: Level) -> None:
    """6,000 host-days and more than that without one, and 1/16 of the model."""
    days = pl.concat([WHOLE.with_columns(pl.col("day") - 60), WHOLE])

    assert found([score(50, 1.0, sent)], watched=days)["gpu-000 50"].level == level


def test_the_highest_score_is_no_more_than_high() -> None:
    days = pl.concat([WHOLE.with_columns(pl.col("day") - 60), WHOLE])

    assert found([score(50, 1.0, 2**60)], watched=days)["gpu-000 50"].level == Level.HIGH


def test_a_budget_of_nothing_is_kept() -> None:
    """Then detectors alone only inform."""
    site = Inventory(replace(SITE.config, detect=Detect(budget=0.0)))

    assert found([score(50, 1.0, 2**60)], site)["gpu-000 50"].level == Level.INFO


def test_a_larger_budget_is_reached_sooner() -> None:
    site = Inventory(replace(SITE.config, detect=Detect(budget=0.1)))

    assert found([score(1)], site)["gpu-000 1"].level == Level.MEDIUM


def test_what_belongs_to_an_open_finding_teaches_nothing() -> None:
    """Thieves do not make each other ordinary."""
    rows = [score(n, 0.8, host=n) for n in range(1, 19, 3)]
    spans = tuple(Open(HOSTS[n], (FIRST_DAY + n) * DAY_US, (FIRST_DAY + n + 1) * DAY_US) for n in range(1, 19, 3))

    assert found([*rows, score(20, 0.8, host=50)], open=spans)["gpu-050 20"].level == Level.MEDIUM


def test_a_finding_that_opened_later_explains_nothing_before() -> None:
    """What was not known when the day was over did not keep it from teaching."""
    rows = [score(n, 0.8, host=n) for n in range(1, 19, 3)]
    spans = tuple(Open(HOSTS[n], (FIRST_DAY + n + 2) * DAY_US, 2**60) for n in range(1, 19, 3))

    assert found([*rows, score(20, 0.8, host=50)], open=spans)["gpu-050 20"].level == Level.INFO


def test_what_an_approval_allows_is_information_and_teaches_nothing() -> None:
    rows = [score(1 + 3 * n, 0.8, host=n) for n in range(6)]
    allowed = pl.DataFrame(
        [(HOSTS[n], "198.51.100.0/24", FIRST_DAY + 1 + 3 * n) for n in range(6)], schema=EXPECTED, orient="row"
    )

    levels = found([*rows, score(20, 0.8, host=50)], expected=allowed)

    assert {each.level for each in levels.values() if each.host != "gpu-050"} == {Level.INFO}
    assert levels["gpu-050 20"].level == Level.MEDIUM


def cell(name: str, sent: int, name_from: str = "dns") -> dict[str, object]:
    return {
        "host": HOSTS[0],
        "sensor": "s",
        "remote_ip": bytes_of("198.51.100.17"),
        "name": name,
        "name_from": name_from,
        "served_port": 0,
        "proto": 6,
        "minute": moment(3),
        "sent": sent,
        "received": 0,
        "missed": 0,
        "first": moment(3),
        "last": moment(3),
    }


@pytest.mark.parametrize(
    ("cells", "is_expected"),
    [
        ([cell("a.buckets.example.org", 5)], True),
        ([cell("a.buckets.example.org", 5, "sni")], False),
        ([cell("a.buckets.example.org", 5), cell("drop.example.net", 5)], True),
        ([cell("a.buckets.example.org", 5), cell("drop.example.net", 6)], False),
    ],
    ids=["named by DNS", "claimed by the sender", "half of it", "less than half"],
)
def test_approvals_by_name_count_where_the_ledger_would_believe_the_name(
    cells: list[dict[str, object]], is_expected: bool
) -> None:
    """Most of what went to the place that day: one name in a shared network does not speak for the others."""
    approval = Approval("buckets", ("gpu-*",), 1, 2**60, "o", "t", names=("*.buckets.example.org",))
    site = Inventory(replace(SITE.config, approvals=(approval,)))
    scores = pl.DataFrame([score(3)], schema=SCORES.polars)

    allowed = severity.expected(conform(pl.DataFrame(cells), CELLS), scores, site)

    assert allowed.rows() == [(HOSTS[0], "198.51.100.0/24", FIRST_DAY + 3)] * is_expected


class _Days(NamedTuple):
    """Cells and signals by days."""

    cells: pl.DataFrame
    signals: pl.DataFrame

    def days(self, kind: str) -> list[Day]:
        return by_day(self.cells) if kind == "cells" else by_day(self.signals, "window_start")


networks = st.sampled_from(["198.51.100.17", "198.51.101.17", "203.0.113.5"])
talk = st.tuples(
    st.integers(3, 5), networks, st.sampled_from(["a.buckets.example.org", "x.example"]), st.integers(1, 9)
)
places = st.tuples(st.integers(3, 5), networks, st.sampled_from(["one", "other"]))


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(talk, max_size=5), st.lists(places, max_size=3)), max_size=4))
def test_what_is_asked_by_days_is_what_all_cells_say(
    portions: list[tuple[list[tuple[int, str, str, int]], list[tuple[int, str, str]]]],
) -> None:
    """Of the days that have a score of a place: its networks may be told by scores of other days, before or since."""
    approval = Approval("buckets", ("gpu-*",), 1, 2**60, "o", "t", names=("*.buckets.example.org",))
    site, memo = Inventory(replace(SITE.config, approvals=(approval,))), severity.Memo()
    talked, scored = list[dict[str, object]](), list[Row]()
    for more, seen in portions:
        talked += [
            cell(name, sent) | {"remote_ip": bytes_of(to), "minute": moment(day)} for day, to, name, sent in more
        ]
        scored += [score(day, group=group, low_address=bytes_of(to)) for day, to, group in seen]
        cells, scores = conform(pl.DataFrame(talked, schema=TALK), CELLS), pl.DataFrame(scored, schema=SCORES.polars)
        signals = pl.DataFrame({"window_start": scores["window_start"], "host": scores["host"]})

        found = severity.context_again(_Days(cells, signals), scores, [], site, memo)

        asked = {(row["host"], row["group"], int((row["window_start"] - EPOCH).days)) for row in scored}  # type: ignore[operator]  # times
        assert set(found.expected.iter_rows()) == asked & set(severity.expected(cells, scores, site).iter_rows())
        assert set(found.watched.iter_rows()) == {(host, day) for host, _, day in asked}


TALK = {name: CELLS.polars[name] for name in cell("", 0)}
rows = st.builds(
    score,
    st.integers(0, 400).map(lambda tenth: tenth / 10),
    st.sampled_from([0.3, 0.7, 0.9, 0.99]),
    st.sampled_from([1, ENOUGH, COMPLETE]),
    st.integers(0, 5),
    detector=st.sampled_from(["volume", "novelty", "tunnels"]),
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(rows, max_size=40), st.integers(0, 40))
def test_later_scores_change_nothing_before(scores: list[Row], day: int) -> None:
    """The levels that were reached until a day, and when, are the same whatever comes after it."""
    until = (FIRST_DAY + day) * DAY_US
    before = [row for row in scores if row["window_start"] < moment(day)]  # type: ignore[operator]  # times

    whole, part = found(scores), found(before)

    told = {key: {level: at for level, at in each.level_times.items() if at < until} for key, each in whole.items()}
    assert {key: times for key, times in told.items() if times} == {key: each.level_times for key, each in part.items()}


def test_a_rate_is_an_alarm_that_is_due_once_in_so_many_host_days() -> None:
    """Of all six detectors together: what comes once in 701 host-days of one, comes six times as often of six."""
    context = Context(watched=WHOLE)
    rated = severity.judged(findings.episodes(pl.DataFrame([score(7)], schema=SCORES.polars)), context, SITE)

    (alarm,) = alarms.of_rates(rated).to_dicts()

    assert alarm["score"] == pytest.approx(701 / 6)
    assert (alarm["host"], alarm["places"]) == (HOSTS[0], ["198.51.100.0/24"])
    assert alarm["time"] == (FIRST_DAY + 7) * DAY_US + 300_000_000
