"""Laws of one partition's task: whatever it goes through, it says what the log says, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import eventtime, kept, taskstate
from egress.addresses import bytes_of, network_of
from egress.arrivals import SENSORS
from egress.cells import DAY_US, HOUR_US
from egress.config import Config, Fleet, Host
from egress.inventory import Inventory
from egress.partition import PartitionTask
from egress.schema import CELLS
from egress.sums import KINDS
from egress.taskstate import StateError
from egress.wire import FLOWS_V1, Header
from tests.egress.logs import (
    LONG,
    SITE,
    Message,
    Step,
    Sums,
    again,
    attributed,
    fresh,
    joined,
    log_of,
    read,
    steps,
    told_by,
    told_on_the_way,
    wanderings,
)
from tests.egress.strategies import HOUR, MINUTE, NOON, SECOND, Transfer, few, flows_of, traffic

SHORT = 2 * HOUR
A, B = bytes_of("10.0.0.1"), bytes_of("10.0.0.2")


@pytest.fixture(autouse=True, scope="module")
def forgets_at_once() -> Iterator[None]:
    """What is forgotten when there is much of it is forgotten at once: small logs show the same as large ones then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "FEW", 0)
        patch.setattr(kept, "LOOKS_AGAIN", 0)
        patch.setattr(eventtime, "PERSISTS", 3)
        patch.setattr(eventtime, "MOST_CLOSED", 3)
        patch.setattr(eventtime, "MOST_STRAYS", 8)
        yield


def assert_same(one: Sums, other: Sums) -> None:
    for name, sums in one.items():
        assert_frame_equal(sums, other[name])


def engine_sums(transfers: list[Transfer]) -> Sums:
    """The replay engine's, over the same rows."""
    watched = attributed(transfers).filter(pl.col("host") != "")
    return {kind.name: kind.add([kind.of(watched, SITE)]) for kind in KINDS}


@pytest.mark.slow
@few
@given(traffic, st.integers(1, 3), steps)
def test_however_it_is_cut_and_killed_the_sums_are_the_engines(
    dealt: list[Transfer], rows: int, schedule: list[Step]
) -> None:
    told = told_on_the_way(log_of(dealt, rows), schedule)

    assert_same(engine_sums(dealt), told)


@pytest.mark.slow
@few
@given(traffic, steps, st.data())
def test_messages_that_come_again_count_once(dealt: list[Transfer], schedule: list[Step], data: st.DataObject) -> None:
    """At-least-once delivery, and a collector that sends its spool again after a crash."""
    log = log_of(dealt)
    for message in data.draw(st.lists(st.sampled_from(log), max_size=4)) if log else []:
        log.insert(data.draw(st.integers(log.index(message) + 1, len(log))), message)

    told = told_on_the_way(log, schedule)

    assert_same(engine_sums(dealt), told)
    assert told[SENSORS.name]["duplicates"].sum() == len(log) - len(log_of(dealt))


@pytest.mark.slow
@settings(few, max_examples=40)
@given(wanderings(), st.integers(1, 3), steps)
def test_whatever_the_clocks_do_the_schedule_says_nothing(
    dealt: list[Transfer], rows: int, schedule: list[Step]
) -> None:
    """Late rows, leaps back and forth: sums that were forgotten on the way are those that nothing adds to any more."""
    log = log_of(dealt, rows)

    assert_same(told_by(log, SHORT), told_on_the_way(log, schedule, SHORT))


@pytest.mark.slow
@settings(few, max_examples=25)
@given(wanderings(), st.integers(1, 3))
def test_whatever_the_clocks_do_no_byte_is_lost(dealt: list[Transfer], rows: int) -> None:
    told, whole = told_by(log_of(dealt, rows), SHORT), engine_sums(dealt)

    assert told["cells"]["sent"].sum() == whole["cells"]["sent"].sum()
    assert told["cells"]["minute"].max() <= whole["cells"]["minute"].max()


def steady(number: int, first: int = NOON, step: int = MINUTE) -> list[Transfer]:
    return [Transfer(sent=1000, start=first + n * step, seconds=5) for n in range(number)]


@pytest.mark.slow
def test_state_does_not_grow_with_time() -> None:
    """Days of steady traffic leave what one day leaves."""
    task, sizes = fresh(SHORT), []
    for day in range(4):
        log = log_of(steady(24 * 60, first=NOON + day * DAY_US), 10, epoch=f"day {day}")
        for offset, message in enumerate(log, task.next_offset):
            task.feed(message.header, message.flows, offset)
        task.take_changes()
        sizes.append(sum(each.total.height for each in task.kept.values()))

    assert sizes[1:] == sizes[:1] * 3


@pytest.mark.parametrize("odd", [0, 4_291_747_200_000_000], ids=["1970", "2106"])
def test_one_record_with_a_broken_clock_moves_nothing(odd: int) -> None:
    """It keeps its own time, as in a replay, and is counted; everything else is where it was."""
    dealt = [*steady(200), Transfer(sent=5, start=odd), *steady(200, first=NOON + 200 * MINUTE)]

    told = told_by(log_of(dealt, 3), SHORT)

    assert_same(engine_sums(dealt), told)
    assert told[SENSORS.name].select("late_rows", "skewed_rows").row(0) == (0, 1)


def test_a_late_row_is_charged_at_the_horizon() -> None:
    """Three hours late, with a horizon of two: it counts two hours ago."""
    dealt = [*steady(300), replace(steady(1)[0], dst="203.0.113.5", start=NOON + 119 * MINUTE)]

    told = told_by(log_of(dealt, 10), SHORT)

    (cell,) = told[CELLS.name].filter(pl.col("remote_ip").bin.ends_with(b"\x71\x05")).to_dicts()
    assert cell["first"].timestamp() == (NOON + 299 * MINUTE - SHORT) / SECOND
    assert told[SENSORS.name]["late_rows"].to_list() == [1]


def test_a_week_that_comes_after_the_next_one_is_where_it_happened() -> None:
    """Two captures collected in the wrong order are no broken clock: once it persists, it is believed."""
    earlier, later = steady(400, first=NOON - 7 * DAY_US), steady(400)
    dealt = [*later, *earlier, *steady(100, first=NOON + 400 * MINUTE)]

    told = told_by(log_of(dealt, 5), SHORT)

    assert_same(engine_sums(dealt), told)
    assert told[SENSORS.name].select("late_rows", "skewed_rows").row(0) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "seconds"),
    [(HOUR, 0), (-HOUR, 5 * 3600), (HOUR, 3 * 86_400), (2 * DAY_US, 86_400 + 5 * 3600), (-40 * DAY_US, 41 * 86_400)],
    ids=["in it", "from before", "out of it", "into the next", "longer than is believed"],
)
def test_what_reaches_into_a_closed_place_is_charged_beside_it(start: int, seconds: int) -> None:
    """The sums there are forgotten: what added to them would be lost, where the larger count holds."""
    there = steady(7, step=50 * MINUTE) + steady(7, first=NOON + 3 * DAY_US, step=50 * MINUTE)
    dealt = [*there, replace(there[0], start=NOON + start, seconds=seconds, sent=10)]

    told = told_on_the_way(log_of(dealt, 1), [Step(1)] * len(dealt), SHORT)

    assert told[CELLS.name]["sent"].sum() == 14_010
    assert told[SENSORS.name]["late_rows"].to_list() == [1]


def test_a_late_row_that_is_longer_than_is_believed_counts_where_it_ends() -> None:
    """As in a replay: 31 days are no conversation, so its start says nothing."""
    there = steady(7, step=50 * MINUTE)
    odd = Transfer(dst="203.0.113.5", sent=10, start=NOON - 40 * DAY_US, seconds=40 * 86_400 + 4 * 3600)

    told = told_by(log_of([*there, odd], 1), SHORT)

    (cell,) = told[CELLS.name].filter(pl.col("sent") == 10).to_dicts()
    assert cell["first"].timestamp() == (NOON + 4 * HOUR) / SECOND


@pytest.mark.slow
def test_a_row_that_reaches_ahead_into_a_closed_place_is_charged_beside_it() -> None:
    """A second file about earlier days: its last row goes on into what the first one was about."""
    there = steady(7, step=50 * MINUTE, first=NOON + 3 * DAY_US) + steady(21, step=15 * MINUTE)
    dealt = [*there, Transfer(sent=10, start=NOON + 300 * MINUTE, seconds=3 * 86_400)]

    told = told_on_the_way(log_of(dealt, 1), [Step(1)] * len(dealt), SHORT)

    assert told[CELLS.name]["sent"].sum() == 28_010
    assert told[SENSORS.name]["late_rows"].to_list() == [1]


@pytest.mark.slow
def test_who_comes_back_finds_closed_what_was() -> None:
    """A clock that is right again goes on where it was, and its horizon is not behind the one it had."""
    there = steady(7, step=50 * MINUTE) + steady(7, first=NOON + 3 * DAY_US, step=50 * MINUTE)
    back = steady(4, first=NOON + 4 * HOUR)
    late = replace(back[0], start=NOON + 150 * MINUTE, sent=10)

    told = told_on_the_way(log_of([*there, *back, late], 1), [Step(1)] * 19, SHORT)

    assert told[CELLS.name]["sent"].sum() == 18_010
    assert told[SENSORS.name]["late_rows"].to_list() == [1]


def test_a_machine_that_went_back_to_its_picture_is_heard() -> None:
    """Restored, a sensor uses numbers again for traffic that nobody has seen yet."""
    log = log_of(steady(4), 1)
    log += [again(message, seq=n) for n, message in enumerate(log_of(steady(2, first=NOON + HOUR_US), 1), 1)]

    told = told_by([*log, log[-1]])

    assert told[CELLS.name]["sent"].sum() == 6000
    assert told[SENSORS.name].select("rewound", "duplicates", "received").row(0) == (2, 1, 4)


def test_what_never_came_is_known() -> None:
    """A gap is data: numbers 0, 1, 4 of five."""
    log = log_of(steady(5), 1)

    told = told_by([log[0], log[1], log[4]])

    assert told[SENSORS.name].select("first_seq", "last_seq", "received").row(0) == (0, 4, 3)


@pytest.mark.slow
def test_two_rows_of_one_conversation_in_two_messages_do_not_depend_on_the_schedule() -> None:
    """What a host sends itself passes no card, wherever its rows lie."""
    own = Inventory(Config(Fleet((network_of("10.0.0.0/8"),), hosts=(Host("h", (A, B)),))))
    rows = own.attribute(flows_of([Transfer(src="10.0.0.1", dst="10.0.0.2", sent=5000)] * 2))
    rows = rows.with_columns(flow_id=pl.Series([1, 1, 2, 2], dtype=pl.UInt64))
    log = [Message(Header(FLOWS_V1, "h", "replay", "", "e", n, 1), rows[n : n + 1]) for n in range(rows.height)]
    told = []
    for most in (1, 2, 3, 4):
        task, published = PartitionTask(own, LONG), []
        while task.next_offset < len(log):
            published.append(read(task, log, most).take_changes())
        told.append(joined(published)["on_cards"])

    assert all(each.equals(told[0]) for each in told)
    assert told[0].is_empty()


def test_rows_about_nobody_are_counted_and_not_charged() -> None:
    message = log_of([Transfer(src="198.51.100.7", dst="203.0.113.5", sent=9)])[0]

    told = told_by([message])

    assert message.header.host == ""
    assert told[CELLS.name].is_empty()
    assert told[SENSORS.name]["rows"].to_list() == [1]


def test_a_message_without_rows_is_a_sign_of_life() -> None:
    message = log_of(steady(1))[0]
    empty = Message(replace(message.header, rows=0), message.flows.clear())

    told = told_by([empty])

    assert told[SENSORS.name].select("received", "rows").row(0) == (1, 0)


def test_a_state_with_one_bit_turned_is_refused() -> None:
    task = read(fresh(), log_of(steady(3)))
    task.take_changes()
    state = bytearray(taskstate.dump(task))
    state[len(state) // 2] ^= 1

    with pytest.raises(StateError, match="checksum"):
        taskstate.load(bytes(state), SITE, LONG)


def test_a_state_of_what_was_not_handed_on_is_refused() -> None:
    """It would never be handed on: the next task begins behind it."""
    task = read(fresh(), log_of(steady(3)))

    with pytest.raises(ValueError, match="take the changes first"):
        taskstate.dump(task)


@pytest.mark.slow
def test_a_restored_task_has_nothing_to_hand_on_and_goes_on() -> None:
    """What a state holds was handed on before it was written: taking over costs what is new."""
    log = log_of(steady(6), 1)
    task = read(fresh(), log, 3)
    taken = task.take_changes()

    restored = taskstate.load(taskstate.dump(task), SITE, LONG)

    assert restored.take_changes() == {}
    assert_same(told_by(log), joined([taken, read(restored, log).take_changes()]))
