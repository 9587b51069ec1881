"""Streaming while everything dies: nothing is lost, nothing is doubled, and the last word is that of replay."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from egress.config import Kafka
from egress.contracts import Finding
from egress.kafka import make_topics
from egress.streamfindings import GAP
from tests.bench.rows import Busy
from tests.chaos.chaos import Chaos
from tests.chaos.kept import as_files, kept_in, lines_of
from tests.chaos.probe import Probe
from tests.chaos.schedule import BROKERS, COLLECTOR, FREEZE, KILL, LEADER, Blow, schedule
from tests.chaos.site import make_input, replay, site, slowness, until
from tests.conftest import absent
from tests.egress.detectors import found_on, letters, written
from tests.services import broker as brokers

pytestmark = [pytest.mark.slow, pytest.mark.service]

SECONDS = float(os.environ.get("EGRESS_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("EGRESS_CHAOS_SEED", "1"))
PORTION_S = 40.0
"""How long the collector has for a portion, if it is left alone."""
BUSY = Busy(hosts=20, conversations=25, ticks=100, remotes=12)
PACE = BUSY.ticks * 10 / PORTION_S
MANY = 200
"""Messages: a tenth of a portion."""
LEADER_PAUSE_S = 6.0
"""The promise."""
NEVER_CAME = re.compile(r"([\d,]+) messages never came")
_prefixes = count()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Brokers]:
    try:
        with brokers.cluster(tmp_path_factory.mktemp("three"), nodes=3) as found:
            yield found
    except brokers.NotHere as problem:
        absent("Apache Kafka", str(problem))


@pytest.fixture
def settings(three: brokers.Brokers) -> Kafka:
    made = Kafka(tuple(three.servers.split(",")), prefix=f"chaos{next(_prefixes)}", partitions=4, replication=3)
    make_topics(made)
    return made


def never_came(finding: Finding) -> int:
    """Messages, by the words of a `telemetry_gap`."""
    return sum(int(found[1].replace(",", "")) for why in finding.reasons if (found := NEVER_CAME.search(why)))


def test_whoever_dies_when_the_last_word_is_that_of_replay(
    three: brokers.Brokers, settings: Kafka, tmp_path: Path
) -> None:
    """kill -9 and SIGSTOP of collector, detectors, store and the leader among the brokers, at random moments.

    `EGRESS_CHAOS_SECONDS` and `EGRESS_CHAOS_SEED` make it longer, and another one.
    """
    given = make_input(tmp_path / "input", max(1, int(SECONDS / PORTION_S / 2)), BUSY)
    with site(three, settings, tmp_path / "site", given, PACE) as made:
        kept, expected = replay(made, given.paths)
        made.begin()
        with Probe(settings) as probe:
            chaos = Chaos(made, probe)
            chaos.run(schedule(SEED, SECONDS, slowness()), SECONDS)
        made.calm_down()
        logs = made.logs()

    kills, freezes = chaos.pauses(KILL), chaos.pauses(FREEZE)
    print(f"{len(chaos.dealt)} blows, {len(chaos.missed)} at nobody, ended by themselves: {chaos.deaths}")
    print(f"pauses of the bus after a leader was killed: {kills}, frozen: {freezes}")
    assert found_on(settings) == expected
    assert letters(settings) == []
    assert "Traceback" not in logs
    streamed, replayed = kept_in(made.store), kept_in(kept)
    missing, doubled = Counter(replayed.ids) - Counter(streamed.ids), Counter(streamed.ids) - Counter(replayed.ids)
    assert (missing.total(), doubled.total()) == (0, 0)
    assert streamed.cells.equals(replayed.cells)
    assert streamed.findings == expected
    print(f"{len(streamed.ids):,} rows, {streamed.written:,} of them written")
    assert chaos.deaths == []
    assert max(kills) < LEADER_PAUSE_S * slowness()


@pytest.fixture
def small_disk(root_user: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    yield folder / "spool"
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_a_full_disk_costs_is_told_to_the_row(
    three: brokers.Brokers, settings: Kafka, tmp_path: Path, small_disk: Path
) -> None:
    """All brokers are away until the spool's disk is full: what is then missing is what the collector says it gave up.

    Detectors and store are killed and frozen meanwhile. All else is as in a replay of the rows that came through.
    """
    whole = make_input(tmp_path / "input", 1, BUSY)
    seconds, given = PORTION_S, replace(whole, portions=whole.portions[1:])
    away = Blow(0.0, seconds / 2, BROKERS, FREEZE)
    others = schedule(SEED, seconds, slowness(), spared=(LEADER, COLLECTOR))
    with site(three, settings, tmp_path / "site", given, PACE, small_disk) as made:
        everything, _ = replay(made, given.paths)
        made.begin()
        until(lambda: written(settings, "flows") > MANY, "work for everybody")
        with Probe(settings) as probe:
            chaos = Chaos(made, probe)
            chaos.run(sorted([away, *others]), seconds)
        made.calm_down()
        came = as_files(made.store, made.folder)
        again, findings = replay(made, came, "again")

    shed_rows, shed_messages = (sum(each["shed"][what] for each in made.outcomes) for what in ("rows", "messages"))
    streamed, entered, replayed = kept_in(made.store), kept_in(everything), kept_in(again)
    missing = Counter(entered.ids) - Counter(streamed.ids)
    gaps = [finding for finding in streamed.found if finding.detector == GAP]
    rest = [finding for finding in streamed.found if finding.detector != GAP]
    print(f"{shed_rows:,} of {len(entered.ids):,} rows given up in {len(gaps)} hosts; {chaos.deaths}")
    assert Counter(streamed.ids) - Counter(entered.ids) == Counter()
    assert missing.total() == shed_rows > 0
    assert Counter(str(host) for host, *_ in missing.elements()) == streamed.shed
    assert sum(map(never_came, gaps)) == shed_messages
    assert lines_of(rest) == findings
    assert streamed.cells.equals(replayed.cells)
    assert letters(settings) == []
