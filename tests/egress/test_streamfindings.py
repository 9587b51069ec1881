"""Findings about the stream itself: nothing for a clean one, numbers in plain words for every other."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import arrivals, ocsf, streamfindings
from egress.arrivals import SENSORS
from egress.contracts import Finding, Level
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.partition import PartitionTask
from egress.schema import TIME, conform
from egress.streamfindings import GAP, LATE, ROLLBACK, SILENT, SKEW, beating_of
from egress.wire import FLOWS_V1, Header
from tests.egress.strategies import DAY, HOUR, MINUTE, NOON, SECOND, Transfer, few, flows_of, site

SITE = Inventory(site("h1"))
Row = dict[str, object]
Message = tuple[str, str, int, Transfer]
"""Boot, epoch, number, and what happened."""


def epoch(name: str = "e1", **changes: object) -> Row:
    """A thousand messages in an hour, none of them missing."""
    usual: Row = {
        "host": "h1",
        "sensor": "sockets",
        "boot": "b1",
        "epoch": name,
        "first_seq": 0,
        "last_seq": 999,
        "received": 1000,
        "rows": 9000,
        "first_offset": 0,
        "last_offset": 999,
        "first": NOON,
        "last": NOON + HOUR,
    }
    return usual | changes


def found(
    *rows: Row, until: int = NOON + HOUR, beats: pl.DataFrame | None = None, inventory: Inventory = SITE
) -> list[Finding]:
    sensors = [sensors_of(*rows)]
    return streamfindings.findings_of(
        sensors, beating_of(HEARTBEATS.empty() if beats is None else beats), until, inventory
    )


def sensors_of(*rows: Row) -> pl.DataFrame:
    """What one partition knows of sensors."""
    plain = {name: pl.Int64 if dtype == TIME else dtype for name, dtype in SENSORS.polars.items()}
    frame = pl.DataFrame(rows, schema={name: plain[name] for name in rows[0]}) if rows else SENSORS.empty()
    return conform(frame.with_columns(pl.col("first", "last").cast(TIME)), SENSORS)


def beats_of(host: str = "h1", nic_tx_bytes: int | None = 5) -> pl.DataFrame:
    beat = {"time": NOON, "host": host, "sensor": "sockets", "seq": 0, "nic_tx_bytes": nic_tx_bytes}
    return conform(pl.DataFrame([beat]).with_columns(pl.col("time").cast(TIME)), HEARTBEATS)


def of_log(messages: Sequence[Message], until: int = NOON + HOUR) -> list[Finding]:
    """What is said of a partition that holds these messages of one sensor."""
    task = PartitionTask(SITE, 6 * HOUR)
    for offset, (boot, name, seq, transfer) in enumerate(messages):
        rows = SITE.attribute(flows_of([transfer]))
        host = rows["host"][0]
        task.feed(Header(FLOWS_V1, host, "sockets", boot, name, seq, rows.height), rows, offset)
    sensors = arrivals.join([task.take_changes()["sensors"]])
    return streamfindings.findings_of([sensors], beating_of(HEARTBEATS.empty()), until, SITE)


def message(seq: int, name: str = "e1", boot: str = "b1", minute: int | None = None) -> Message:
    return boot, name, seq, Transfer(sent=100, start=NOON + (seq if minute is None else minute) * MINUTE)


@pytest.mark.slow
def test_a_clean_stream_has_no_findings() -> None:
    """Restarts, reboots and messages that came twice are what happens to every fleet."""
    first = [message(seq) for seq in range(9)]
    second = [message(seq, "e2", minute=20 + seq) for seq in range(9)]
    rebooted = [message(seq, "e3", "b2", minute=40 + seq) for seq in range(9)]
    assert of_log([*first, *first[3:], *second, *second[8:], *rebooted]) == []
    assert found() == []
    assert found(epoch()) == []


def test_a_file_that_was_collected_again_after_another_is_no_rollback() -> None:
    """All of it is known already: nobody went back."""
    one = [message(seq, "file-1", "") for seq in range(5)]
    other = [message(seq, "file-2", "", minute=10 + seq) for seq in range(5)]
    assert of_log([*one, *other, *one]) == []


def test_messages_that_never_came_are_a_gap() -> None:
    """By their numbers: three holes of one, and the first two."""
    (gap,) = of_log([message(seq) for seq in range(2, 20) if seq not in (5, 9, 12)])
    assert (gap.detector, gap.host, gap.level, gap.bytes) == (GAP, "h1", Level.MEDIUM, 0)
    assert "sensor sockets, epoch e1: 5 messages never came" in gap.reasons[0]
    assert gap.reasons[-1] == streamfindings.ALIKE


def test_a_gap_that_is_filled_later_is_none() -> None:
    """A spool sends what it kept."""
    assert of_log([message(seq) for seq in (0, 1, 4, 5, 2, 3)]) == []


def test_a_host_that_changed_its_partition_lost_nothing() -> None:
    """More partitions: the epoch goes on in another one, whose offsets begin anywhere, and the next begins there."""
    before = sensors_of(epoch(last_seq=599, received=600, last_offset=5000))
    after = sensors_of(
        epoch(first_seq=600, received=400, first_offset=10, last_offset=500),
        epoch("e2", first_offset=501, last_offset=1500, first=NOON + HOUR),
    )
    lossy = sensors_of(epoch(first_seq=600, received=300, first_offset=10, last_offset=500))
    nothing = beating_of(HEARTBEATS.empty())

    assert streamfindings.findings_of([before, after], nothing, NOON + HOUR, SITE) == []
    (gap,) = streamfindings.findings_of([before, lossy], nothing, NOON + HOUR, SITE)
    assert "100 messages never came" in gap.reasons[0]


def test_a_gap_says_the_same_while_the_epoch_goes_on() -> None:
    """Or it would be published again with every message."""
    early, late = (found(epoch(received=990, last=NOON + hours * HOUR)) for hours in (1, 2))
    assert early == late


def test_a_gap_whose_card_was_counted_is_information() -> None:
    """What left meanwhile is measured, by another detector with a level of its own."""
    (counted,) = found(epoch(received=990), beats=beats_of())
    assert (counted.level, counted.reasons[-1]) == (Level.INFO, streamfindings.CARD)
    (uncounted,) = found(epoch(received=990), beats=beats_of(nic_tx_bytes=None))
    assert uncounted.level == Level.MEDIUM


def test_hosts_without_a_model_are_information() -> None:
    (gap,) = found(epoch(host="h3", received=990))
    assert (gap.level, gap.models) == (Level.INFO, ())


def test_a_sensor_that_used_its_numbers_twice_went_back() -> None:
    """A machine restored from its picture says other things under the same numbers: they count, and it is told."""
    before = [message(seq) for seq in range(9)]
    (rollback,) = of_log([*before, *[message(seq, minute=30 + seq) for seq in range(4, 9)]])
    assert (rollback.detector, rollback.level) == (ROLLBACK, Level.MEDIUM)
    assert "5 messages had numbers that earlier traffic had used" in rollback.reasons[0]


def test_an_epoch_that_comes_back_is_a_rollback() -> None:
    """The second sensor of a cloned machine, or an old picture of it: both speak in turn."""
    turns = [message(n // 2, f"e{n % 2}", minute=n) for n in range(8)]
    (rollback,) = of_log(turns)
    assert rollback.reasons[0] == "sensor sockets: epoch e0 came again after epoch e1 began"


def test_a_boot_that_comes_back_is_a_rollback() -> None:
    """Each epoch is new, and yet the machine is an older one."""
    starts = enumerate([("e1", "b1"), ("e2", "b2"), ("e3", "b1")])
    (rollback,) = of_log([message(0, name, boot, minute=n) for n, (name, boot) in starts])
    assert rollback.reasons[0] == "sensor sockets: boot b1 came again after boot b2 began"


def test_a_wrong_clock_is_told() -> None:
    good = [message(seq) for seq in range(9)]
    wrong = ("b1", "e1", 4, Transfer(sent=100, start=NOON + 3000 * DAY))
    (skew,) = of_log([*good[:4], wrong, *good[5:]])
    assert (skew.detector, skew.level) == (SKEW, Level.INFO)
    assert "1 rows with times that the others contradict" in skew.reasons[0]


@pytest.mark.slow
def test_data_behind_the_horizon_is_told() -> None:
    good = [message(seq, minute=30 * seq) for seq in range(30)]
    late = message(30, minute=1)
    (told,) = of_log([*good, late])
    assert (told.detector, told.level) == (LATE, Level.INFO)
    assert "1 rows behind the horizon" in told.reasons[0]


def test_a_host_that_fell_silent_is_missed_by_event_time() -> None:
    """A message every 3.6 s for an hour; a hundred take 6 minutes, so an hour is waited."""
    assert found(epoch(), until=NOON + 2 * HOUR) == []
    (silent,) = found(epoch(), until=NOON + 2 * HOUR + SECOND)
    assert (silent.detector, silent.level, silent.last_seen) == (SILENT, Level.MEDIUM, NOON + HOUR)
    assert silent.level_times == {Level.MEDIUM: NOON + 2 * HOUR}
    assert found(epoch(), until=NOON + 9 * HOUR) == [silent]


@pytest.mark.parametrize(
    "quiet",
    [
        epoch(boot=""),
        epoch(received=99, last_seq=98),
        epoch(last=NOON + 30 * HOUR),
    ],
    ids=["a file", "seldom heard", "slow"],
)
def test_silence_that_says_nothing_is_no_finding(quiet: Row) -> None:
    assert found(quiet, until=NOON + 32 * HOUR) == []


def test_silence_of_a_host_with_heartbeats_is_coverages() -> None:
    """It has the card's word, and a level that rests on it."""
    assert found(epoch(), until=NOON + 9 * HOUR, beats=beats_of()) == []


def test_a_new_sensor_on_the_host_ends_its_silence() -> None:
    """An upgrade begins an epoch."""
    after = epoch("e2", first_offset=1000, last_offset=1999, first=NOON + 5 * HOUR, last=NOON + 6 * HOUR)
    assert found(epoch(), after, until=NOON + 7 * HOUR) == []


def test_rows_about_nobody_are_nobodys_trouble() -> None:
    assert found(epoch(host="", received=900)) == []


def test_troubles_a_quiet_day_apart_are_findings_of_their_own() -> None:
    """The first is closed by then."""
    later = NOON + 9 * DAY
    second = epoch("e2", received=998, first=later, last=later + HOUR, first_offset=1000, last_offset=1999)
    recent, old = sorted(found(epoch(received=990), second, until=later + HOUR), key=lambda each: each.is_closed)
    assert (recent.is_closed, old.is_closed) == (False, True)
    assert recent.uid != old.uid


def test_many_lossy_epochs_are_counted() -> None:
    """Some are spelled out."""
    rows = [epoch(f"e{n:02}", received=990, first_offset=1000 * n, last_offset=1000 * n + 999) for n in range(12)]
    (gap,) = found(*rows)
    assert len(gap.reasons) == streamfindings.MOST_TOLD + 2
    assert gap.reasons[-2] == "and 7 more"
    assert gap.revision == 12


@pytest.mark.parametrize("detector", streamfindings.NAMES)
def test_every_finding_is_an_event_for_other_tools(detector: str) -> None:
    """A rule, and what an attacker does to defences: no bytes left."""
    wrong = epoch(received=990, rewound=1, skewed_rows=1, late_rows=1)
    every = {each.detector: each for each in found(wrong, until=NOON + 9 * HOUR)}
    event = ocsf.event(every[detector])
    assert event["finding_info"]["analytic"] == {"name": detector, "type_id": ocsf.RULE}
    assert event["finding_info"]["attacks"] == [ocsf.IMPAIRED]


numbers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=30)


@pytest.mark.slow
@few
@given(numbers)
def test_states_may_come_in_any_order(dealt: list[tuple[int, int]]) -> None:
    """Sums of sensors join, and a finding follows from what they join to."""
    rows = [
        epoch(f"e{name}", first_offset=1000 * name, last_seq=least, received=max(1, least - 2), rows=least)
        for name, least in dealt
    ]
    plain = {name: pl.Int64 if dtype == TIME else dtype for name, dtype in SENSORS.polars.items()}
    frames = [pl.DataFrame([row], schema={name: plain[name] for name in row}) for row in rows]
    states = [conform(each.with_columns(pl.col("first", "last").cast(TIME)), SENSORS) for each in frames]
    turned = states[::-1] + states[::2]

    one, other = (
        streamfindings.findings_of([arrivals.join(every)], beating_of(HEARTBEATS.empty()), NOON, SITE)
        for every in (states, turned)
    )

    assert one == other
