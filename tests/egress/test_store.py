"""The store over embedded ClickHouse: what goes in comes out, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from egress import ddl, schema
from egress.config import Fleet, Host
from egress.contracts import Count, Destination, Finding, InputTally, Level, ModelShare, Skipped, Tally
from egress.errors import StoreError, UsageError
from egress.schema import FLOWS
from egress.store import Store, open_store, run_of, write, write_once

pytestmark = pytest.mark.slow

DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2


def address(number: int) -> bytes:
    return schema.V4_MAPPED_PREFIX + number.to_bytes(4, "big")


def flows(count: int, seed: int = 1, span_us: int = 2 * DAY_US) -> pl.DataFrame:
    """Attributed rows of `count` different parts of conversations, over `span_us` from noon."""
    draw = np.random.default_rng(seed)
    start = NOON_US + np.sort(draw.integers(0, span_us, count))
    frame = pl.DataFrame(
        {
            "collector": ["capture"] * count,
            "host": draw.choice(["gpu-01", "gpu-02"], count),
            "side": draw.choice(["src", "dst"], count),
            "flow_id": draw.integers(0, 2**63, count).astype(np.uint64),
            "part": draw.integers(0, 3, count),
            "start": start,
            "end": start + draw.integers(0, 10_000_000, count),
            "src_ip": [address(int(number)) for number in draw.integers(0x0A000001, 0x0A000005, count)],
            "dst_ip": [address(int(number)) for number in draw.integers(0xC6336401, 0xC6336409, count)],
            "dst_port": draw.choice([22, 443], count),
            "proto": np.full(count, 6),
            **{name: draw.integers(1, 2**40, count) for name in ("src_bytes", "dst_bytes", "src_payload")},
            **{name: draw.integers(1, 2**20, count) for name in ("src_packets", "dst_packets")},
            "name": draw.choice(["", "a.example"], count),
            "origin": ["lab.pcap"] * count,
        }
    ).with_columns(pl.col("start", "end").cast(schema.TIME))
    return schema.conform(frame, schema.FLOWS)


def cells(
    *, sent: int = 10, minute: int = 0, host: str = "gpu-01", name: str = "", sensor: str = "capture/replay"
) -> pl.DataFrame:
    row = {"host": host, "sensor": sensor, "remote_ip": address(1), "minute": minute, "sent": sent, "name": name}
    frame = pl.DataFrame([{**row, "first": minute, "last": minute + sent}])
    return schema.conform(frame.with_columns(pl.col("minute", "first", "last").cast(schema.TIME)), schema.CELLS)


FINDING = Finding(
    uid="5f1c0a77",
    detector="ledger",
    subject="host:gpu-01",
    host="gpu-01",
    level=Level.HIGH,
    title="24 MB of llama-70b could be gone",
    bytes=2**63 + 1,
    window="1h",
    start=NOON_US,
    first_seen=NOON_US,
    last_seen=NOON_US + 1,
    level_times={Level.INFO: NOON_US, Level.HIGH: NOON_US + 1},
    models=(ModelShare("llama-70b", 2**63 + 1, 2**63),),
    destinations=(Destination("198.51.100.0/24", "unapproved", 7, ("198.51.100.10",), ("a.example",)),),
    path=("gpu-01", "198.51.100.10"),
    reasons=("1/16 of native in 1 h", "name \x1b[31m'; DROP TABLE findings"),
    evidence=({"src_ip": "10.0.0.1", "dst_port": 22, "bytes": 7},),
)
TALLY = Tally(
    Count(100, 9000),
    Count(90, 8000),
    {"arp": Count(10, 1000)},
    {"merged": 2},
    (Skipped("arp", "lab.pcap, packet 3", "no IP"),),
    (InputTally("lab.pcap", "ab" * 32, 9500, 100, 9000),),
)

SUMS = "SELECT count() AS n, sum(src_bytes) AS src, sum(dst_bytes) AS dst, sum(src_packets) AS packets FROM flows"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def sums(frame: pl.DataFrame) -> tuple[int, ...]:
    columns = ("src_bytes", "dst_bytes", "src_packets")
    return (frame.height, *(int(frame[column].sum()) for column in columns))


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
    given = flows(300, span_us=1_000_000)
    pieces = pl.concat([given[:100], given[100:200], given[200:]], rechunk=False)
    store.run(lambda client: client.command("SYSTEM STOP MERGES flows_parts")).result()

    for frame, token in ((given, "a"), (pieces, "a"), (given[:100], "a"), (given, "b")):
        store.run(lambda client, rows=frame, name=token: write_once(client, "flows_parts", rows, FLOWS, name)).result()

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


def test_a_store_is_for_one_fleet(store: Store) -> None:
    """The same flows attributed to other hosts would be there twice."""
    fleet = Fleet(hosts=(Host("gpu-01", (address(1),)),))
    store.bind(fleet)
    store.bind(fleet)

    with pytest.raises(StoreError, match="other hosts or another perimeter"):
        store.bind(Fleet())


def test_what_was_stored_is_there_after_reopening(tmp_path: Path) -> None:
    """And writing goes on."""
    where = str(tmp_path / "store")
    given = flows(100)
    with open_store(where) as store:
        store.insert_flows(given[:60])
    with open_store(where) as store:
        store.insert_flows(given[40:])
    with open_store(where) as store:
        assert store.query(SUMS).row(0) == sums(given)


def _with_meta(where: str, key: str, value: str) -> None:
    with open_store(where) as store:
        store._call(lambda client: client.command(f"ALTER TABLE meta DELETE WHERE key = '{key}'"))
        store._call(lambda client: client.insert("meta", [[key, value]], column_names=["key", "value"]))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("schema_version", "99", "newer Egress .schema 99.*update Egress"), ("tables", "x", "another build of Egress")],
)
def test_a_store_that_other_code_made_is_refused(tmp_path: Path, key: str, value: str, says: str) -> None:
    """Before anything is written into it."""
    _with_meta(str(tmp_path / "store"), key, value)
    store = open_store(str(tmp_path / "store"))

    with pytest.raises(StoreError, match=says):
        store.flush()


def test_a_store_whose_making_was_interrupted_is_finished(tmp_path: Path) -> None:
    """Its version is written last."""
    where = str(tmp_path / "store")
    with open_store(where) as store:
        store._call(lambda client: client.command("DROP VIEW peers"))
        store._call(lambda client: client.command("ALTER TABLE meta DELETE WHERE 1"))

    with open_store(where) as store:
        assert store.query("SELECT count() AS n FROM peers")["n"][0] == 0


def test_a_query_that_is_wrong_is_a_store_error(store: Store) -> None:
    """With ClickHouse's words in it."""
    with pytest.raises(StoreError, match="Unknown table expression identifier 'nosuch'"):
        store.query("SELECT * FROM nosuch")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Closing twice is fine."""
    store = open_store(str(tmp_path / "store"))
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed; open it again"):
        store.query("SELECT 1")


def test_ctrl_c_stops_a_query_and_leaves_the_store_usable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """ClickHouse itself does not listen to it."""
    monkeypatch.setattr("egress.store.QUERY_SECONDS", 20)
    store.flush()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        store.query("SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 9")

    assert store.query("SELECT 1 AS one")["one"].to_list() == [1]
    assert time.monotonic() - begun < 10


def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """Its lock goes with it, what it had written stays."""
    code = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[2]); import test_store as t;"
        "s = t.open_store(sys.argv[1]);"
        "s.insert_flows(t.flows(100)); s.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    where = str(tmp_path / "store")
    process = subprocess.run([sys.executable, "-c", code, where, str(Path(__file__).parent)], check=False)

    with open_store(where) as store:
        assert process.returncode == -signal.SIGKILL
        assert store.query(SUMS).row(0) == sums(flows(100))


def test_a_run_is_known_by_what_is_in_its_inputs(tmp_path: Path) -> None:
    """Not by names or order; a changed end, or one more file, is another run."""
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    one.write_bytes(b"a" * 200_000)
    two.write_bytes(b"a" * 200_000)
    three.write_bytes(b"a" * 199_999 + b"b")

    assert run_of([one]) == run_of([two])
    assert run_of([one, three]) == run_of([three, two])
    assert len({run_of(paths) for paths in ([one], [three], [one, one], [Path("-")], [])}) == 5


@pytest.mark.service
def test_a_full_disk_is_explained(tmp_path: Path, require: Callable[[str, str], str]) -> None:
    """A file system of 24 MB, which a million rows do not fit into."""
    mount = require("mount", "apt-get install mount")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False).returncode:
        require("the right to mount", "run the tests as root")
    try:
        with pytest.raises(StoreError, match="the disk is full; make room"):
            _fill(str(place / "store"))
    finally:
        subprocess.run(["umount", place], check=True)


def _fill(where: str) -> None:
    with open_store(where) as store:
        for seed in range(60):
            store.insert_flows(flows(20_000, seed))
