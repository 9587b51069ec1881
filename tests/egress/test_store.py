"""The store over embedded ClickHouse: what goes in comes out, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from egress import ddl, schema
from egress.config import Fleet, Host
from egress.contracts import Count, Level
from egress.errors import StoreError, UsageError
from egress.schema import FLOWS
from egress.store import Store, open_store, write, write_once
from egress.storerows import to_arrow
from tests.egress.stored import DAY_US, FINDING, NOON_US, SUMS, TALLY, address, cells, flows, sums

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_flows_come_back_as_they_went_in(store: Store) -> None:
    """All columns, addresses and microseconds included."""
    given = flows(500)

    store.insert_flows(given)

    order = ["host", "start", "flow_id"]
    assert store.flows().sort(order).equals(given.sort(order))


def test_flows_are_found_by_host_and_time(store: Store) -> None:
    """From `start` on, before `end`."""
    given = flows(500)
    store.insert_flows(given)
    first, last = NOON_US + DAY_US // 4, NOON_US + DAY_US

    found = store.flows("gpu-02", first, last)

    start = pl.col("start").cast(pl.Int64)
    expected = given.filter((pl.col("host") == "gpu-02") & (start >= first) & (start < last))
    assert sums(found) == sums(expected)


def test_the_same_replay_twice_is_stored_once(store: Store) -> None:
    """In other batches, under another file name."""
    given = flows(1000)
    for begin in range(0, 1000, 300):
        store.insert_flows(given[begin : begin + 300])
    store.flush()
    renamed = given.with_columns(origin=pl.lit("copy-of-lab.pcap"))
    for begin in range(0, 1000, 170):
        store.insert_flows(renamed[begin : begin + 170])
    store.flush()

    assert store.query(SUMS).row(0) == sums(given)


def test_an_interrupted_replay_and_then_the_whole_is_the_whole(store: Store) -> None:
    """The interrupted one saw a part of the capture, and of its last conversations only the beginning."""
    given = flows(1000)
    seen = given[:600].with_columns(
        pl.when(pl.int_range(pl.len()) > 550).then(pl.col(name) // 3).otherwise(pl.col(name)).alias(name)
        for name in ("src_bytes", "dst_bytes", "src_packets", "dst_packets")
    )
    store.insert_flows(seen.with_columns(end=pl.col("start")))
    store.flush()

    store.insert_flows(given)
    store.flush()

    assert store.query(SUMS).row(0) == sums(given)


def test_records_of_other_tools_that_share_a_start_are_all_kept(store: Store) -> None:
    """Whole seconds as time, several records of the same ends: each counted something else, or it is the same."""
    record = flows(1).with_columns(collector=pl.lit("netflow"), flow_id=pl.lit(0, pl.UInt64), part=pl.lit(0, pl.UInt32))
    records = pl.concat([record, record.with_columns(src_bytes=pl.lit(7, pl.UInt64)), record])

    store.insert_flows(records)
    store.insert_flows(records)
    store.flush()

    assert store.query(SUMS).row(0) == sums(records[:2])


def test_a_whole_replay_is_not_diminished_by_an_interrupted_one(store: Store) -> None:
    """Whatever the order in which they were stored."""
    given = flows(200)
    store.insert_flows(given)
    store.flush()

    store.insert_flows(given.with_columns(pl.col("src_bytes", "src_packets", "dst_packets") // 2))
    store.flush()

    assert store.query(SUMS).row(0) == sums(given)


def test_the_roll_up_keeps_peers_by_minute(store: Store) -> None:
    """Names are added up; of two sensors that saw the same, the larger sum counts."""
    both = [
        cells(sent=10, name="a.example"),
        cells(sent=20, name="b.example"),
        cells(sent=25, name="a.example", sensor="netflow/edge"),
        cells(sent=40, minute=60_000_000),
    ]
    for frame in [*both, *both]:
        store.insert_cells(frame)

    found = store.query("SELECT toUnixTimestamp64Micro(minute) AS minute, peer_ip, sent FROM flows_1m ORDER BY minute")

    assert found.rows() == [(0, address(1), 30), (60_000_000, address(1), 40)]


def test_peers_know_their_first_and_last_packet(store: Store) -> None:
    """Over all minutes."""
    for minute in (0, 60_000_000, 120_000_000):
        store.insert_cells(cells(sent=10, minute=minute))

    found = store.query(
        "SELECT host, peer_ip, sent, minutes, toUnixTimestamp64Micro(first_seen) AS first,"
        " toUnixTimestamp64Micro(last_seen) AS last FROM peers"
    )

    assert found.rows() == [("gpu-01", address(1), 30, 3, 0, 120_000_010)]


def test_timestamps_of_every_year_are_stored_quickly(store: Store) -> None:
    """A capture of 20,000 days once made 20,000 partitions and took 72 s."""
    days = np.linspace(0, 2**32 * 1_000_000 - 1, 20_000).astype(np.int64)
    given = flows(20_000).with_columns(pl.Series("start", days).cast(schema.TIME))
    begun = time.monotonic()

    store.insert_flows(given)
    store.flush()

    assert time.monotonic() - begun < 20
    assert store.query(SUMS).row(0) == sums(given)


def test_cells_written_again_keep_the_larger_counters(store: Store) -> None:
    """They are grow-only and written whole, as `ledger.join` merges them."""
    for sent in (10, 30, 20):
        store.insert_cells(cells(sent=sent))

    assert store.cells().rows() == cells(sent=30).rows()


def test_cells_of_two_tasks_add_up(store: Store) -> None:
    """A host whose partition changed within a minute; each task's own state is still the largest that it said."""
    for task, sent in ((0, 10), (3, 5), (0, 7), (3, 6)):
        frame = cells(sent=sent).with_columns(task=pl.lit(task))
        store.run(lambda client, rows=frame: write(client, "ledger_parts", rows, ddl.LEDGER)).result()

    assert store.cells()["sent"].to_list() == [16]
    assert store.query("SELECT sum(sent) AS sent FROM flows_1m")["sent"][0] == 16


def test_cells_are_found_by_host_and_minute(store: Store) -> None:
    """The end is exclusive."""
    for host in ("gpu-01", "gpu-02"):
        for minute in (0, 60_000_000, 120_000_000):
            store.insert_cells(cells(host=host, minute=minute))

    found = store.cells("gpu-02", 60_000_000, 120_000_000)

    assert found.equals(cells(host="gpu-02", minute=60_000_000))


def test_a_finding_comes_back_whole(store: Store) -> None:
    """By level, by host, by the beginning of its uid."""
    store.insert_outcome("run", TALLY, [FINDING])

    assert store.findings() == [FINDING]
    assert store.findings(Level.HIGH, "gpu-01") == [FINDING]
    assert store.findings(Level.CRITICAL) == []
    assert store.findings(host="gpu-02") == []
    assert store.finding("5f1") == FINDING


def test_a_token_stands_for_its_rows_in_however_many_pieces_they_come(store: Store) -> None:
    """ClickHouse makes something else of a token for each number of pieces; whoever comes again has others."""
    frame = flows(300, span_us=1_000_000)
    given, less = to_arrow(frame, FLOWS), to_arrow(frame[:100], FLOWS)
    pieces = pa.concat_tables([less, to_arrow(frame[100:200], FLOWS), to_arrow(frame[200:], FLOWS)])
    store.run(lambda client: client.command("SYSTEM STOP MERGES flows_parts")).result()

    for rows, token in ((given, "a"), (pieces, "a"), (less, "a"), (given, "b")):
        store.run(lambda client, rows=rows, name=token: write_once(client, "flows_parts", rows, name)).result()

    assert store.query("SELECT uniqExact(_part) AS n FROM flows_parts")["n"][0] == 2


def test_findings_are_worst_first_then_largest(store: Store) -> None:
    """The queue of the first screen."""
    small = replace(FINDING, uid="b", level=Level.CRITICAL, bytes=5)
    large = replace(FINDING, uid="a", level=Level.MEDIUM, bytes=2**64 - 1)

    store.insert_outcome("run", TALLY, [large, FINDING, small])

    assert [finding.uid for finding in store.findings()] == ["b", "5f1c0a77", "a"]
    assert [finding.uid for finding in store.findings(limit=1)] == ["b"]


@pytest.mark.parametrize("prefix", ["", "5f1c0", "zz", "%"])
def test_a_uid_that_is_not_one_finding_is_explained(store: Store, prefix: str) -> None:
    """None or several."""
    store.insert_outcome("run", TALLY, [FINDING, replace(FINDING, uid="5f1c0b00")])

    with pytest.raises(UsageError, match=r"begins several|no finding"):
        store.finding(prefix)


def test_a_run_that_is_repeated_replaces_its_findings(store: Store) -> None:
    """Another configuration may have approved what was a finding."""
    other = replace(FINDING, uid="0ther")
    store.insert_outcome("run", TALLY, [FINDING, other])

    store.insert_outcome("run", TALLY, [other])

    assert store.findings() == [other]
    assert store.query("SELECT count() AS n FROM coverage WHERE item = 'read'")["n"][0] == 1


def test_a_run_that_came_less_far_replaces_nothing(store: Store) -> None:
    """Ctrl-C in the second replay leaves the result of the first."""
    store.insert_outcome("run", TALLY, [FINDING])

    store.insert_outcome("run", replace(TALLY, read=Count(7, 700)), [])

    assert store.findings() == [FINDING]
    assert store.query("SELECT frames FROM coverage WHERE item = 'read'")["frames"].to_list() == [100]


def test_runs_that_share_an_input_show_an_episode_once(store: Store) -> None:
    """By its fuller revision."""
    store.insert_outcome("one file", TALLY, [replace(FINDING, revision=2)])
    store.insert_outcome("two files", TALLY, [FINDING])

    assert store.findings() == [replace(FINDING, revision=2)]


def test_coverage_keeps_inputs_reasons_and_examples(store: Store) -> None:
    """What an examiner has to be able to show later."""
    store.insert_outcome("run", TALLY, [])

    rows = store.query("SELECT item, name, frames, bytes, sha256, text FROM coverage ORDER BY item, name").rows()

    assert rows == [
        ("example", "arp 0", 0, 0, "", "lab.pcap, packet 3: no IP"),
        ("input", "lab.pcap", 100, 9500, "ab" * 32, ""),
        ("metered", "", 90, 8000, "", ""),
        ("note", "merged", 2, 0, "", ""),
        ("read", "", 100, 9000, "", ""),
        ("skipped", "arp", 10, 1000, "", ""),
    ]


def _insert_and_wait(store: Store) -> None:
    store.insert_cells(cells(sent=2))
    store.flush()


def test_a_store_is_for_one_fleet(store: Store) -> None:
    """The same flows attributed to other hosts would be there twice."""
    fleet = Fleet(hosts=(Host("gpu-01", (address(1),)),))
    store.bind(fleet)
    store.bind(fleet)
    store.flush()

    store.bind(Fleet())
    with pytest.raises(StoreError, match="other hosts or another perimeter"):
        _insert_and_wait(store)

    assert store.cells().is_empty()
