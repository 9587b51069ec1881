"""When windows rise, what becomes one episode, and what is raised again."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.addresses import bytes_of, network_of
from egress.config import Approval, Config, LifecycleEvent, Model
from egress.contracts import Level
from egress.episodes import moment_of
from tests.egress.strategies import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    Transfer,
    alarm_of,
    cells_of,
    few,
    findings_of,
    fleet,
    site,
)

M = 16_000_000
"""A model whose sixteenth is a million bytes."""

MODEL = site(size=M)


def part(share: float, start: int = NOON, **changes: object) -> Transfer:
    return replace(Transfer(sent=round(M * share), start=start), **changes)


@pytest.mark.parametrize(
    ("share", "level"), [(1 / 64, Level.INFO), (1 / 32, Level.MEDIUM), (1 / 16, Level.HIGH), (1 / 4, Level.CRITICAL)]
)
def test_a_level_holds_from_its_share_on(share: float, level: Level) -> None:
    """To the byte: one byte less is one level less."""
    exact, short = Transfer(sent=round(M * share)), Transfer(sent=round(M * share) - 1)

    assert alarm_of(findings_of(MODEL, exact)) == level
    assert alarm_of(findings_of(MODEL, short)) < level


def test_an_episode_grows_until_a_day_of_silence() -> None:
    """A transfer with pauses is one; the next one, 24 hours after its end, is another."""
    pauses = [part(0.1, NOON + hour * HOUR) for hour in (0, 20, 40)]
    later = part(0.1, NOON + 40 * HOUR + 10_000_000 + DAY)

    first, second = findings_of(MODEL, *pauses, later)

    assert (first.bytes, first.is_closed) == (3 * M // 10, True)
    assert (second.bytes, second.is_closed) == (M // 10, False)
    assert first.uid != second.uid


def test_an_episode_takes_nothing_from_the_one_before() -> None:
    """The week's sum is medium because of both; each says what was new."""
    first, second = findings_of(MODEL, part(1 / 64), part(1 / 64, NOON + 3 * DAY))

    assert [(each.level, each.bytes) for each in (first, second)] == [(Level.INFO, M // 64), (Level.MEDIUM, M // 64)]


def test_an_episode_has_the_same_id_while_it_grows() -> None:
    """Retries and later answers overwrite instead of doubling."""
    (early,) = findings_of(MODEL, part(0.1))
    (late,) = findings_of(MODEL, part(0.1), part(0.5, NOON + HOUR))

    assert early.uid == late.uid
    assert (early.level, late.level, late.revision) == (Level.HIGH, Level.CRITICAL, 2)


@pytest.mark.parametrize("thefts", [1, 9])
def test_a_second_theft_after_a_saturated_lifetime_is_raised(thefts: int) -> None:
    """Whatever was stolen before."""
    again = [part(1.0, NOON + n * 40 * DAY) for n in range(thefts + 1)]

    found = findings_of(MODEL, *again)

    assert [finding.level for finding in found] == [Level.CRITICAL] * (thefts + 1)
    assert {finding.bytes for finding in found} == {M}


@pytest.mark.slow
def test_a_slow_second_theft_is_raised_at_each_quarter() -> None:
    """1/200 of the model a day stays below every shorter window once that is saturated; the lifetime counts on."""
    drip = [part(1 / 200, NOON + 2 * n * DAY) for n in range(110)]

    found = findings_of(MODEL, *drip)

    critical = [finding for finding in found if finding.level == Level.CRITICAL]
    assert len(critical) == 2


def test_little_that_completes_much_is_told_with_what_it_completes() -> None:
    """Else the title of a critical finding would speak of two percent."""
    *_, last = findings_of(MODEL, part(0.24), part(0.02, NOON + 40 * DAY))

    assert (last.level, last.window) == (Level.CRITICAL, "lifetime")
    assert "26 % of m left h1 since the last review, 2.0 % of it now for" in last.title


@pytest.mark.slow
def test_the_shortest_window_explains() -> None:
    """A burst is seen by the hour, a drip by the month."""
    (burst,) = findings_of(MODEL, part(0.3))
    drip = findings_of(MODEL, *(part(0.02, NOON + 2 * n * DAY) for n in range(15)))

    assert burst.window == "1h"
    assert "30d" in {finding.window for finding in drip}


def test_bytes_that_left_the_window_do_not_count() -> None:
    """Two halves of 1/16, 90 minutes apart, are medium by the hour and high by the day."""
    first, second = part(1 / 32), part(1 / 32, NOON + 90 * MINUTE)

    (finding,) = findings_of(MODEL, first, second)

    assert (finding.level, finding.window) == (Level.HIGH, "1d")


def frame_of(pieces: list[tuple[int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(pieces, schema=dict.fromkeys(("first", "last", "bytes"), pl.Int64), orient="row")


@few
@given(st.integers(0, 10), st.integers(1, 2**55), st.integers(0, 10**9))
def test_a_moment_lies_where_its_bytes_are(overlap: int, size: int, needed: int) -> None:
    """At the moment found enough has flowed, and a microsecond earlier it had not."""
    pieces = [(NOON, NOON + 1000, size), (NOON + overlap * 200, NOON + overlap * 200 + 500, size)]
    needed = 1 + needed * size // 10**9

    moment = moment_of(frame_of(pieces), needed)

    def flowed(at: int) -> int:
        return sum(each * min(max(at - a + 1, 0), b - a + 1) // (b - a + 1) for a, b, each in pieces)

    assert flowed(moment) >= needed
    assert flowed(moment - 1) < needed


@few
@given(st.integers(1, 2**63 - 1), st.integers(1, 30 * DAY), st.integers(0, 100))
def test_a_moment_in_long_and_huge_pieces_is_exact(size: int, duration: int, percent: int) -> None:
    """Past what 64 bits hold of a product or a sum."""
    needed = max(1, 2 * size * percent // 100)

    moment = moment_of(frame_of([(NOON, NOON + duration - 1, size)] * 2), needed)

    assert 2 * (size * (moment - NOON + 1) // duration) >= needed
    assert 2 * (size * (moment - NOON) // duration) < needed


# Sizes


@pytest.mark.parametrize("percent", [100, 67, 50, 28])
def test_the_size_of_a_known_copy_of_a_file_goes_one_level_up(percent: int) -> None:
    """2 % of the model would be info; the size of a shard, raw or compressed, is medium."""
    shard = M * 2 // percent
    config = replace(MODEL, models=(Model("m", M, ("h1",), shards=(shard,)),))

    (finding,) = findings_of(config, Transfer(sent=shard * percent // 100 + 100))

    assert finding.level == Level.MEDIUM
    assert any("m file" in reason and "one level up" in reason for reason in finding.reasons)


@pytest.mark.parametrize(
    ("factor", "level"), [(0.99, Level.INFO), (0.996, Level.MEDIUM), (1.05, Level.MEDIUM), (1.07, Level.INFO)]
)
def test_a_size_matches_within_headers_and_compression(factor: float, level: Level) -> None:
    """From 0.5 % below to 6 % above."""
    config = replace(MODEL, models=(Model("m", M, ("h1",), shards=(M // 50,)),))

    assert alarm_of(findings_of(config, Transfer(sent=round(factor * M / 50)))) == level


# Reviews and retirement


def event(kind: str, time: int, **fields: object) -> LifecycleEvent:
    return replace(LifecycleEvent(time, kind, by="alice"), **fields)


def with_events(*events: LifecycleEvent, config: Config = MODEL) -> Config:
    return replace(config, lifecycle=events)


RETIRING = event("retire_requested", NOON, model="m")


def test_a_retiring_model_is_one_level_up() -> None:
    """From the request until deletion is verified."""
    verified = event("retire_verified", NOON + HOUR, model="m")

    assert alarm_of(findings_of(with_events(RETIRING), part(1 / 64))) == Level.MEDIUM
    assert alarm_of(findings_of(with_events(RETIRING, verified), part(1 / 64, NOON + 2 * HOUR))) == Level.INFO
    assert alarm_of(findings_of(with_events(RETIRING), part(1 / 64, NOON - HOUR))) == Level.INFO


def test_a_retiring_model_reaches_levels_earlier() -> None:
    """Critical at a sixteenth, and the reason says why."""
    (finding,) = findings_of(with_events(RETIRING), part(1 / 8, seconds=200))

    assert finding.level_times[Level.CRITICAL] - NOON == pytest.approx(100_000_000, abs=10)
    assert any("critical from 6.25 % while m is retiring" in reason for reason in finding.reasons)


APPROVED = Approval("push", ("h1",), 10 * M, NOON + 30 * DAY, "o", "t", networks=(network_of("198.51.100.0/24"),))


def test_unproven_bytes_count_while_a_model_is_retiring() -> None:
    """An approval that nobody has proved used is no excuse then; before, it is."""
    config = replace(MODEL, approvals=(APPROVED,))

    assert findings_of(config, part(1 / 16)) == []
    assert alarm_of(findings_of(with_events(RETIRING, config=config), part(1 / 16))) == Level.CRITICAL
    assert findings_of(with_events(RETIRING, config=config), part(1 / 16, NOON - HOUR)) == []


def test_a_missed_receipt_does_not_count_again_what_counted_while_retiring() -> None:
    """The bytes left once."""
    config = replace(MODEL, approvals=(replace(APPROVED, receipts=()),))
    later = Transfer(src="10.0.2.1", sent=1, start=NOON + 5 * DAY)

    retiring = findings_of(with_events(RETIRING, config=config), part(1 / 16), later)
    usual = findings_of(config, part(1 / 16), later)

    assert [(each.start, each.bytes) for each in retiring] == [(NOON, M // 16)]
    assert [(each.start, each.bytes) for each in usual] == [(NOON + DAY + MINUTE, M // 16)]


def test_a_review_restarts_the_lifetime() -> None:
    """What it names is drained; what comes after it counts anew."""
    drip = [part(1 / 100, NOON + n * 40 * DAY) for n in range(4)]
    review = event("review", NOON + 60 * DAY, host="h1")

    assert alarm_of(findings_of(MODEL, *drip)) == Level.MEDIUM
    assert alarm_of(findings_of(with_events(review), *drip)) == Level.INFO


@pytest.mark.parametrize(
    ("named", "levels"),
    [
        ((), [Level.INFO, Level.INFO]),
        (("198.51.100.0/24",), [Level.INFO, Level.INFO, Level.MEDIUM]),
        (("198.51.100.10",), [Level.INFO, Level.INFO, Level.MEDIUM]),
        (("192.0.2.0/24",), [Level.INFO, Level.MEDIUM]),
    ],
    ids=["everything", "a group", "an address", "elsewhere"],
)
def test_a_review_drains_only_the_destinations_it_names(named: tuple[str, ...], levels: list[Level]) -> None:
    """1 % every 40 days to two destinations in turn; reviewed after the third, 1 %, 1/64 and 1/32 come back later."""
    drip = [part(1 / 100, NOON + n * 40 * DAY, dst=dst) for n, dst in enumerate(["198.51.100.10", "203.0.113.5"] * 3)]
    review = event("review", NOON + 90 * DAY, model="m", destinations=named)

    assert [finding.level for finding in findings_of(with_events(review), *drip)] == levels


def test_a_review_may_name_a_domain_that_the_sites_resolvers_gave() -> None:
    """Anybody's resolver can name an address anything."""
    named = part(1.0, NOON + HOUR, name="a.partner.org", name_from="dns")
    config = with_events(event("review", NOON, host="h1", destinations=("partner.org",), until=NOON + DAY))
    resolving = replace(config, fleet=fleet(resolvers=frozenset([bytes_of("10.0.0.53")])))

    assert alarm_of(findings_of(config, named)) == Level.CRITICAL
    assert findings_of(resolving, named) == []


def test_what_a_review_accepts_until_later_is_no_excess() -> None:
    """To those destinations, until then."""
    review = event("review", NOON, host="h1", destinations=("198.51.100.0/24",), until=NOON + DAY)
    config = with_events(review)

    assert findings_of(config, part(1.0, NOON + HOUR)) == []
    assert alarm_of(findings_of(config, part(1.0, NOON + 2 * DAY))) == Level.CRITICAL
    assert alarm_of(findings_of(config, part(1.0, NOON + HOUR, dst="203.0.113.9"))) == Level.CRITICAL


def test_findings_do_not_depend_on_the_order_of_rows() -> None:
    """Cells are canonical, so whatever is made of them is."""
    sent = [part(0.1, NOON + n * 10 * MINUTE, dst=dst) for n, dst in enumerate(["203.0.113.9", "198.51.100.10"] * 4)]

    assert cells_of(MODEL, sent).equals(cells_of(MODEL, sent[::-1]))
    assert findings_of(MODEL, *sent) == findings_of(MODEL, *sent[::-1])
