"""More partitions while a fleet is watched: hosts change theirs, and nothing shows of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from egress.config import Kafka
from egress.kafka import make_topics, read_all
from tests.bench.rows import Busy, rows_of
from tests.chaos.kept import kept_in
from tests.chaos.site import Input, Site, make_input, replay, site
from tests.egress.detectors import found_on, letters
from tests.services.broker import Brokers

pytestmark = [pytest.mark.slow, pytest.mark.service]

BUSY = Busy(hosts=20, conversations=10, ticks=20, remotes=5)
FAST = 1000.0


def test_partitions_grow_and_the_last_word_is_that_of_replay(broker: str, tmp_path: Path) -> None:
    """Of each minute, one half of the rows came before and one after: what two tasks summed up is one sum."""
    few = Kafka((broker,), prefix=f"growth{os.getpid()}", partitions=2)
    more = replace(few, partitions=5)
    given = halves(tmp_path / "input")
    make_topics(few)
    with site(Brokers({}), few, tmp_path / "site", given, FAST) as made:
        _, expected = replay(made, given.paths)
        stream(made)
        before = places(few)
        make_topics(more)
        made.portion = 1
        stream(made)
    moved = {host for host, partitions in places(more).items() if partitions - before[host]}

    assert len(moved) > BUSY.hosts / 2
    assert expected
    assert found_on(more) == expected
    streamed, replayed = kept_in(made.store), kept_in(made.folder / "replayed")
    assert streamed.cells.equals(replayed.cells)
    assert streamed.ids == replayed.ids
    assert streamed.findings == expected
    assert letters(more) == []


def halves(folder: Path) -> Input:
    """Every second row in a file of its own."""
    given = make_input(folder, 1, BUSY)
    rows = rows_of(BUSY).with_row_index("serial")
    paths = []
    for rest in (0, 1):
        path = folder / f"half-{rest}.parquet"
        rows.filter(pl.col("serial") % 2 == rest).drop("serial").write_parquet(path)
        paths.append((path,))
    return replace(given, portions=tuple(paths))


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
