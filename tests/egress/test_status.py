"""How the services stand, from what is on the bus alone."""

from __future__ import annotations

import io
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from egress import cli, statuspage, statusreader, wire
from egress.config import Config, Fleet, Host, Kafka
from egress.errors import BusError
from egress.heartbeats import HEARTBEATS
from egress.kafka import Consumer, Producer, make_topics
from egress.schema import TIME, conform
from egress.status import DeadLetter, Look, Snapshot, Status, Tails, judged

NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
READERS = {"egress.detect": ("flows", "sums"), "egress.store": ("flows",)}
FLOWS = [("flows", 0), ("flows", 1)]
WELL = Tails({"gpu-01": NOW_US}, (Snapshot("flows-0", NOW_US), Snapshot("flows-1", NOW_US)), (), 0)


def look(at_us: int, end: int, store: int, detect: int, members: int = 1) -> Look:
    """Two partitions of flows with as many messages, read as far by each group."""
    committed = {"egress.store": dict.fromkeys(FLOWS, store), "egress.detect": dict.fromkeys(FLOWS, detect)}
    ends, begins = dict.fromkeys(FLOWS, end), dict.fromkeys(FLOWS, 0)
    return Look(at_us, ends, begins, committed, dict.fromkeys(READERS, members))


FIRST = look(NOW_US - 10 * SECOND_US, 100, 90, 80)
LATER = look(NOW_US, 200, 190, 80)


def status(first: Look = FIRST, second: Look = LATER, tails: Tails = WELL, declared: tuple[str, ...] = ()) -> Status:
    return judged(first, second, tails, READERS, declared)


def test_all_is_well_where_things_move() -> None:
    """Detectors commit with their snapshots, a minute apart: that nothing moves between two looks is no problem."""
    found = status()

    assert found.problems == ()
    assert found.written_per_s == {"flows": 20.0}
    lags = {(lag.group, lag.partition): (lag.behind, lag.read_per_s, lag.written_per_s) for lag in found.lags}
    assert lags["egress.store", 1] == (10, 10.0, 10.0)
    assert lags["egress.detect", 0] == (120, 0.0, 10.0)


def test_a_group_that_does_not_move_is_named() -> None:
    """What was there at the first look is still not committed."""
    found = status(second=look(NOW_US, 200, 90, 80))

    assert found.problems == ("egress.store does not move: 220 messages behind in flows/0, flows/1",)


def test_two_looks_shortly_after_each_other_do_not_tell_who_is_stuck() -> None:
    """The store writes every five seconds."""
    assert status(look(NOW_US - 5 * SECOND_US, 100, 90, 80), look(NOW_US, 200, 90, 80)).problems == ()


def test_messages_that_came_between_the_looks_are_nobodys_delay() -> None:
    """Everything that was there is read."""
    assert status(look(NOW_US - 10 * SECOND_US, 90, 90, 80), look(NOW_US, 200, 90, 80)).problems == ()


def test_a_group_without_members_is_asked_after() -> None:
    """Whatever the looks say."""
    found = status(second=replace(LATER, members={"egress.detect": 1, "egress.store": 0}))

    assert found.problems == ("egress.store has no member: does it run?: 20 messages behind in flows/0, flows/1",)


def test_a_detector_whose_snapshots_are_old_is_a_problem() -> None:
    """Old, while flows come."""
    old = replace(WELL, snapshots=(Snapshot("flows-0", NOW_US - 20 * MINUTE_US), WELL.snapshots[1]))

    assert status(tails=old).problems == (
        "egress.detect does not move: 120 messages behind in flows/0",
        "snapshot of flows-0 is 20 min old; does egress detect run?",
    )
    idle = look(NOW_US - 10 * SECOND_US, 80, 80, 80), look(NOW_US, 80, 80, 80)
    assert status(*idle, old).problems == ()


def test_a_group_that_never_committed_is_behind_by_everything_there_is() -> None:
    """From the oldest message that is kept."""
    second = replace(LATER, committed={}, begins=dict.fromkeys(FLOWS, 50))
    found = status(replace(FIRST, committed={}), second)

    assert {lag.behind for lag in found.lags} == {150}


def test_hosts_that_fall_behind_the_fleet_are_silent() -> None:
    """By event time: behind the newest event of the fleet, not behind the clock of whoever asks."""
    seen = {"a": NOW_US - 90 * MINUTE_US, "b": NOW_US - 91 * MINUTE_US, "c": NOW_US - 93 * MINUTE_US}
    found = status(tails=replace(WELL, hosts=seen), declared=("a", "b", "c", "d"))

    assert [(host.id, host.is_silent) for host in found.hosts] == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert found.problems == ("silent: c, d; does the collector run there?",)


def test_a_clock_of_2106_makes_nobody_else_silent() -> None:
    """Nor is a host silent whose clock is ahead."""
    found = status(tails=replace(WELL, hosts={"a": NOW_US, "b": 2**32 * SECOND_US}), declared=("a", "b"))

    assert found.problems == ()


def test_hosts_that_nobody_declared_are_shown_and_not_missed() -> None:
    """An unlisted address may come and go."""
    found = status(tails=replace(WELL, hosts={"gpu-01": NOW_US, "10.0.0.9": NOW_US - 60 * MINUTE_US}))

    assert [host.id for host in found.hosts if host.is_silent] == ["10.0.0.9"]
    assert found.problems == ()


def test_dead_letters_of_a_day_are_a_problem() -> None:
    """Older ones are counted."""
    letter = DeadLetter("flows/1/7", "damaged", "no zstd", "store", NOW_US - 60 * MINUTE_US)
    older = replace(letter, written_us=NOW_US - 3000 * MINUTE_US)

    assert status(tails=replace(WELL, letters=(older,), letter_count=1)).problems == ()
    assert status(tails=replace(WELL, letters=(letter, older), letter_count=2)).problems == (
        "dead letters since a day ago: 1 or more; the newest: damaged, flows/1/7",
    )


def test_the_page_shows_everything_and_no_terminal_is_steered() -> None:
    """Names of hosts and words of dead letters come from the bus."""
    out = io.StringIO()
    tails = replace(
        WELL,
        hosts={f"gpu-{number}\x1b[31m": NOW_US - number for number in range(30)},
        letters=(DeadLetter("flows/1/7", "damaged", "\x1b]0;x", "store", NOW_US),),
        letter_count=1,
    )

    statuspage.show(status(tails=tails, declared=("absent",)), Console(file=out, width=200, color_system=None))

    page = out.getvalue()
    assert "\x1b" not in page
    for words in ("silent: absent", "egress.store", "31 hosts, 1 silent", "11 more hosts", "flows-0", "damaged"):
        assert words in page


@pytest.fixture
def settings(broker: str) -> Kafka:
    made = Kafka((broker,), prefix=f"status{os.getpid()}x{next(NUMBERS)}", partitions=2)
    make_topics(made)
    return made


NUMBERS = itertools.count()


@pytest.fixture
def producer(settings: Kafka) -> Iterator[Producer]:
    with closing(Producer(settings)) as made:
        yield made


def beat(host: str, time_us: int, seq: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    said = pl.DataFrame({"time": [time_us], "host": [host], "sensor": ["s"]})
    frame = conform(said.with_columns(pl.col("time").cast(TIME)), HEARTBEATS)
    return wire.encode(frame, wire.Header(wire.HEARTBEATS_V1, host, "s", "", "e", seq, 1))


@pytest.mark.slow
@pytest.mark.service
def test_a_real_bus_is_read_without_a_trace(settings: Kafka, producer: Producer) -> None:
    """Lag of a real group, hosts from heartbeats, snapshots and dead letters by their keys."""
    for seq in range(30):
        producer.send("heartbeats", b"gpu-01", *beat("gpu-01", NOW_US + seq * SECOND_US, seq))
        producer.send("heartbeats", b"gpu-02", *beat("gpu-02", NOW_US - MINUTE_US + seq * SECOND_US, seq))
        producer.send("flows", b"gpu-01", b"poison", partition=0)
    for key in (b"flows-0/1/0", b"flows-0/run", b"judge/cells", b"judge-next"):
        producer.send("state", key, b"piece", partition=0)
    letter = {"topic": "flows", "partition": 0, "offset": 7, "reason": "damaged", "what": "w", "service": "store"}
    producer.send("dlq", b"k", json.dumps(letter).encode())
    producer.send("dlq", b"k", b"whatever")
    producer.flush(10)
    with closing(Consumer(settings, f"{settings.prefix}.store", ["flows"])) as reader:
        while not reader.poll(0.2):
            pass
        reader.commit({("flows", 0): 20})

    config = Config(fleet=Fleet(hosts=(Host("gpu-01"), Host("gpu-03"))))
    found = statusreader.status(config, settings, lambda: time.time_ns() // 1000, 0.1)

    behind = {(lag.group, lag.topic, lag.partition): lag.behind for lag in found.lags if lag.behind}
    name = settings.prefix
    assert behind[f"{name}.store", "flows", 0] == 10
    assert behind[f"{name}.detect", "flows", 0] == 30
    assert {host.id: host.last_seen_us for host in found.hosts} == {
        "gpu-01": NOW_US + 29 * SECOND_US,
        "gpu-02": NOW_US - 31 * SECOND_US,
        "gpu-03": None,
    }
    assert [one.task for one in found.snapshots] == ["flows-0", "judge"]
    assert found.letter_count == 2
    assert {one.where for one in found.letters} == {"flows/0/7", "dlq/0/1"}
    again = statusreader.status(config, settings, lambda: time.time_ns() // 1000, 0.1)
    assert again.lags == found.lags


@pytest.mark.slow
@pytest.mark.service
def test_the_command_ends_with_1_where_something_is_wrong(
    settings: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a declared host of which nothing was heard; 0 where none is declared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EGRESS_KAFKA", raising=False)
    bus = f'[kafka]\nservers = ["{settings.servers[0]}"]\nprefix = "{settings.prefix}"\n'
    (tmp_path / "empty.toml").write_text(bus)
    host = '[[fleet.hosts]]\nid = "gpu-01"\naddresses = ["10.0.0.1"]\nrole = "inference"\n'
    (tmp_path / "egress.toml").write_text(f"{host}{bus}")

    assert cli.main(["status", "--json", "--seconds", "0.1"]) == 1
    assert json.loads(capsys.readouterr().out)["coverage"] == {"hosts": 1, "declared": 1, "silent": ["gpu-01"]}
    assert cli.main(["status", "--config", "empty.toml", "--seconds", "0.1"]) == 0
    assert "All is well" in capsys.readouterr().out


@pytest.mark.slow
def test_nobody_there_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, with what to check."""
    monkeypatch.setattr(statusreader, "CONNECT_S", 0.2)
    with pytest.raises(BusError, match="cannot be reached"):
        statusreader.status(Config(), Kafka(("127.0.0.1:1",)), lambda: 0, 0.1)
