"""More partitions while a fleet is watched: hosts change theirs, and nothing shows of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from egress.config import Kafka
from egress.growth import LEAD_US
from egress.kafka import make_topics, read_all
from egress.kafkagrowth import read_growth
from tests.bench.rows import Busy, rows_of
from tests.chaos.kept import kept_in
from tests.chaos.site import Site, make_input, replay, site
from tests.egress.detectors import found_on, letters
from tests.services.broker import Brokers

pytestmark = [pytest.mark.slow, pytest.mark.service]

BUSY = Busy(hosts=20, conversations=5, ticks=60, remotes=5)
FAST = 1000.0


def test_partitions_grow_and_the_last_word_is_that_of_replay(broker: str, tmp_path: Path) -> None:
    """Half of the rows of each minute are in a file that began before the step: what two tasks summed is one sum."""
    few = Kafka((broker,), prefix=f"growth{os.getpid()}", partitions=2)
    more = replace(few, partitions=5)
    busy = replace(BUSY, begin_us=time.time_ns() // 1000 + LEAD_US)
    rows = rows_of(busy).with_row_index("serial")
    given, halves = make_input(tmp_path / "input", 1, busy), pl.col("serial") % 2 == 0
    made_few = replace(given, portions=(written(tmp_path / "before.parquet", rows.filter(halves)),))
    make_topics(few)
    with site(Brokers({}), few, tmp_path / "site", made_few, FAST) as made:
        stream(made)
        before = places(few)
        make_topics(more)
        rest = rows.filter(~halves, pl.col("start").cast(pl.Int64) >= step(more))
        made.given = replace(given, portions=(*made_few.portions, written(tmp_path / "after.parquet", rest)))
        made.portion = 1
        stream(made)
        _, expected = replay(made, made.given.paths)
    moved = {host for host, partitions in places(more).items() if partitions - before[host]}

    assert rest.height > rows.height / 4
    assert len(moved) > BUSY.hosts / 2
    assert expected
    assert found_on(more) == expected
    streamed, replayed = kept_in(made.store), kept_in(made.folder / "replayed")
    assert streamed.cells.equals(replayed.cells)
    assert streamed.ids == replayed.ids
    assert streamed.findings == expected
    assert letters(more) == []


def written(path: Path, rows: pl.DataFrame) -> tuple[Path]:
    rows.drop("serial").write_parquet(path)
    return (path,)


def step(settings: Kafka) -> int:
    """From when on more partitions are used."""
    found = read_growth(settings, settings.partitions)
    assert found is not None
    return found.steps[-1][0]


def stream(made: Site) -> None:
    """Collects the portion that is next, and has it judged and stored."""
    made.collect(FAST)
    assert made.pieces["collect"].wait() == 0, made.pieces["collect"].last_words()
    made.finish("detect-a")
    made.finish("store")


def places(settings: Kafka) -> dict[bytes, set[int]]:
    """Partitions in which each host lies."""
    found: dict[bytes, set[int]] = {}
    for message in read_all(settings, "flows"):
        found.setdefault(message.key or b"", set()).add(message.partition)
    return found
