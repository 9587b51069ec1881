"""From a real bus into a real ClickHouse, each row once, whoever is killed when."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from egress import cli, configfile, findingjson, storing, wire
from egress.config import Fleet, Kafka
from egress.contracts import Finding, Level, ReadSettings
from egress.errors import StoreError
from egress.heartbeats import HEARTBEATS
from egress.kafka import Consumer, Producer, make_topics
from egress.metrics import Metrics
from egress.replay import Request, replay
from egress.schema import CELLS, FLOWS, TIME, V4_MAPPED_PREFIX, conform
from egress.service import Log, Service
from egress.store import Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.service]

NOON_US = 20_000 * 86_400_000_000
ADDRESS = V4_MAPPED_PREFIX + b"\x0a\x00\x00\x01"
FINDING = Finding("ab12", "ledger", "host:g", "g", Level.HIGH, "left", 5, "1h", 0, 0, 0, {Level.HIGH: 0})
NUMBERS = itertools.count()
PATIENCE_S = 60
KILLS = int(os.environ.get("EGRESS_KILLS", "6"))
LIFE_S = 1.0
"""Of a process once it works, at least, unless it dies before."""


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for company for a moment only."""
    monkeypatch.setattr(storing, "FLUSH_S", 0.3)


@pytest.fixture
def settings(broker: str) -> Kafka:
    """A bus of one's own: topics under a new prefix."""
    made = Kafka((broker,), prefix=f"storing{os.getpid()}x{next(NUMBERS)}", partitions=3)
    make_topics(made)
    return made


@contextmanager
def storing_into(store: Store, settings: Kafka) -> Iterator[Service]:
    """The service, in a thread of its own."""
    metrics = Metrics("store")
    running = Service("store", Log(sys.stderr, False, metrics), metrics)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with running:
                storing.store(settings, store, running)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert errors == []


def until(is_so: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def flows(host: str, seq: int, rows: int) -> pl.DataFrame:
    """Rows that no other message holds: the flow_id says which it is."""
    first = seq * 1_000_000
    frame = pl.DataFrame({"flow_id": np.arange(first, first + rows, dtype=np.uint64)}).with_columns(
        host=pl.lit(host),
        side=pl.lit("src"),
        collector=pl.lit("capture"),
        sensor=pl.lit("s"),
        start=pl.lit(NOON_US + seq * 1_000_000).cast(TIME),
        end=pl.lit(NOON_US + seq * 1_000_000 + 1).cast(TIME),
        src_ip=pl.lit(ADDRESS),
        dst_ip=pl.lit(ADDRESS),
        proto=6,
        src_bytes=pl.col("flow_id") % 1000 + 1,
    )
    return conform(frame, FLOWS)


def send(producer: Producer, host: str, seq: int, rows: int = 500) -> int:
    header = wire.Header(wire.FLOWS_V1, host, "s", "b", "e", seq, rows)
    value, headers = wire.encode(flows(host, seq, rows), header)
    producer.send("flows", host.encode(), value, headers)
    return rows


def count(store: Store, table: str = "flows_parts") -> int:
    return int(store.query(f"SELECT count() AS n FROM {table}")["n"][0])


@pytest.fixture
def producer(settings: Kafka) -> Iterator[Producer]:
    with closing(Producer(settings)) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_everything_on_the_bus_is_stored(settings: Kafka, producer: Producer, store: Store) -> None:
    """Flows as they were sent, heartbeats, cells and findings."""
    rows = sum(send(producer, host, seq) for host in ("gpu-01", "gpu-02") for seq in range(20))
    beat = pl.DataFrame({"time": [NOON_US], "host": ["g"], "seq": [0], "nic_tx_bytes": [2**63]})
    beats = conform(beat.with_columns(pl.col("time").cast(TIME)), HEARTBEATS)
    value, headers = wire.encode(beats, wire.Header(wire.HEARTBEATS_V1, "g", "", "", "", 0, 1))
    producer.send("heartbeats", b"g", value, headers)
    cell = {"host": "g", "sensor": "s", "remote_ip": ADDRESS, "minute": 0, "first": 0, "last": 1, "sent": 2**60}
    cells = conform(pl.DataFrame([cell]).with_columns(pl.col("minute", "first", "last").cast(TIME)), CELLS)
    producer.send("sums", b"k", wire.pack(cells, CELLS), [("kind", b"cells"), ("task", b"0")])
    producer.send("findings", b"ab12", findingjson.encode(FINDING).encode())
    producer.flush(10)

    with storing_into(store, settings) as running:
        until(lambda: count(store) == rows and store.findings(), "stored")

    sent = pl.concat([flows(host, seq, 500) for host in ("gpu-01", "gpu-02") for seq in range(20)])
    assert store.flows().sort("host", "flow_id").equals(sent.sort("host", "flow_id"))
    assert conform(store.query("SELECT * FROM heartbeats"), HEARTBEATS).equals(beats)
    assert store.cells().equals(cells)
    assert store.findings() == [FINDING]
    stored = {table: running.metrics.value("stored_rows", table=table) for table in ("flows", "heartbeats", "ledger")}
    assert stored == {"flows": rows, "heartbeats": 1, "ledger": 1}
    assert running.metrics.value("stored_batches") >= 1
    assert running.metrics.value("store_busy_seconds") > 0


def test_what_was_stored_is_not_read_again(settings: Kafka, producer: Producer, store: Store) -> None:
    """A clean stop commits all that was written."""
    rows = sum(send(producer, "gpu-01", seq) for seq in range(5))
    producer.flush(10)
    with storing_into(store, settings):
        until(lambda: count(store) == rows, "stored")

    rows += send(producer, "gpu-01", 5)
    producer.flush(10)
    with storing_into(store, settings) as running:
        until(lambda: count(store) == rows, "stored")

    assert running.metrics.value("received_messages", topic="flows") == 1


def test_a_finding_is_replaced_and_withdrawn(settings: Kafka, producer: Producer, store: Store) -> None:
    """The last word counts, also where it came in a later round."""
    larger = replace(FINDING, bytes=6, revision=2)
    other = replace(FINDING, uid="cd34")
    with storing_into(store, settings):
        for said, expected in (
            ([FINDING, other], [FINDING, other]),
            ([larger], [larger, other]),
            ([replace(larger, level=Level.INFO, revision=1)], [other, replace(larger, level=Level.INFO, revision=1)]),
        ):
            for finding in said:
                producer.send("findings", finding.uid.encode(), findingjson.encode(finding).encode())
            until(lambda expected=expected: store.findings() == expected, "replaced")
        producer.send("findings", b"cd34", None)
        until(lambda: len(store.findings()) == 1, "withdrawn")
        producer.send("findings", b"cd34", findingjson.encode(other).encode())
        until(lambda: len(store.findings()) == 2, "found again")


def test_findings_come_out_as_replay_writes_them(
    settings: Kafka, producer: Producer, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line for line, byte for byte: what the detector says and what an examiner's replay says is one."""
    demo = data / "demo"
    written = tmp_path / "findings.jsonl"
    captures = tuple(sorted(demo.glob("*.pcap")))
    request = Request(captures, configfile.load(demo / "egress.toml"), ReadSettings(), "", written, None)
    for finding in replay(request).findings:
        producer.send("findings", finding.uid.encode(), findingjson.encode(finding).encode())
    producer.flush(10)

    where = str(tmp_path / "stored")
    with open_store(where) as store, storing_into(store, settings):
        until(lambda: len(store.findings()) == len(written.read_text().splitlines()), "stored")
    cli.main(["findings", "list", "--json", "--store", where])

    assert sorted(capsys.readouterr().out.splitlines()) == sorted(written.read_text().splitlines())
    assert written.read_text()


def test_poison_is_set_aside_by_reference_and_its_neighbours_are_kept(
    settings: Kafka, producer: Producer, store: Store
) -> None:
    """The dead letter says where it lies; the service goes on."""
    send(producer, "gpu-01", 0)
    producer.send("flows", b"gpu-01", b"no arrow", [("schema", b"egress.flows.v1")])
    producer.send("findings", b"ab12", b"no json")
    send(producer, "gpu-01", 1)
    producer.flush(10)

    with storing_into(store, settings) as running:
        until(lambda: count(store) == 1000, "stored")

    with closing(Consumer(settings, "", ["dlq"])) as letters:
        found: list[bytes] = []
        until(lambda: found.extend(m.value or b"" for m in letters.poll(0.2)) or len(found) == 2, "dead letters")
    assert not any(b"no arrow" in letter or b"no json" in letter for letter in found)
    assert running.metrics.value("dead_letters", topic="flows") == 1
    assert running.metrics.value("dead_letters", topic="findings") == 1


def test_two_members_share_the_work(settings: Kafka, producer: Producer, store: Store) -> None:
    """A member that joins takes partitions over, one that leaves gives them back; each row is written once."""
    hosts = [f"gpu-{number:02}" for number in range(12)]
    with storing_into(store, settings) as first:
        rows = sum(send(producer, host, seq, 100) for host in hosts for seq in range(3))
        with storing_into(store, settings) as second:
            until(lambda: second.metrics.value("partitions", topic="flows") > 0, "joined")
            rows += sum(send(producer, host, seq, 100) for host in hosts for seq in range(3, 6))
            until(lambda: count(store) == rows, "stored by both")
        rows += sum(send(producer, host, seq, 100) for host in hosts for seq in range(6, 9))
        until(lambda: first.metrics.value("partitions", topic="flows") == 3, "came back")
        until(lambda: count(store) == rows, "stored by the first")

    assert count(store) == rows == count(store, "flows")
    assert second.metrics.value("stored_rows", table="flows") > 0


def test_reading_pauses_where_writing_does_not_keep_up(
    settings: Kafka, producer: Producer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays within its bound while ClickHouse is away, and everything is stored once it is back."""
    monkeypatch.setattr(storing, "MOST_WAITING_BYTES", 2 << 20)
    monkeypatch.setattr(storing, "LONGEST_WAIT_S", 1.0)
    is_away = threading.Event()
    is_away.set()
    writer = storing.write_once

    def failing(*arguments: object) -> None:
        if is_away.is_set():
            raise StoreError("store x: the server cannot be reached")
        writer(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(storing, "write_once", failing)
    rows = sum(send(producer, f"gpu-{seq % 5}", seq, 1000) for seq in range(60))
    producer.flush(20)

    with storing_into(store, settings) as running:
        until(lambda: running.metrics.value("is_paused") == 1, "paused")
        until(lambda: running.metrics.value("store_retries") >= 2, "tried again")
        waiting = running.metrics.value("waiting_bytes")
        is_away.clear()
        until(lambda: count(store) == rows, "stored")
        until(lambda: running.metrics.value("is_paused") == 0, "resumed")

    assert waiting < (2 << 20) + storing.MOST_MESSAGES * (1 << 20)
    assert running.metrics.value("log_lines", level="warning") >= 3


def test_lag_is_shown_by_partition(
    settings: Kafka, producer: Producer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bus holds and nobody has dealt with yet."""
    monkeypatch.setattr(storing, "LAG_S", 0.2)
    send(producer, "gpu-01", 0)
    producer.flush(10)

    with storing_into(store, settings) as running:
        until(lambda: count(store) == 500, "stored")
        lags = [("flows", str(number)) for number in range(3)]
        until(
            lambda: all(("lag_messages", lag) in running.metrics._values for lag in lags), "every partition is reported"
        )
        until(lambda: all(running.metrics.value("lag_messages", topic=t, partition=p) == 0 for t, p in lags), "no lag")


def test_a_store_of_replays_is_not_filled_by_a_stream(settings: Kafka, store: Store) -> None:
    """And the other way round: the same rows could be in it twice."""
    store.bind(Fleet())
    metrics = Metrics("store")
    with pytest.raises(StoreError, match="holds replays"):
        storing.store(settings, store, Service("store", Log(StringIO(), False, metrics), metrics))


def test_a_replay_does_not_go_into_the_store_of_a_stream(store: Store) -> None:
    """It says who fills it."""
    store.bind_stream()
    store.bind_stream()

    store.bind(Fleet())
    with pytest.raises(StoreError, match="filled by `egress store`"):
        store.flush()


PROGRAM = """
import os, signal, sys
import numpy as np
from egress import cli, kafka, storing

seed, risk = int(sys.argv.pop(1)), float(sys.argv.pop(1))
draw = np.random.default_rng(seed)

def deadly(act):
    def acting(*arguments, **more):
        if draw.random() < risk:
            os.kill(os.getpid(), signal.SIGKILL)
        result = act(*arguments, **more)
        if draw.random() < risk:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return acting

storing.FLUSH_S = 0.2
storing.write_once, storing.write = deadly(storing.write_once), deadly(storing.write)
kafka.Consumer.commit = deadly(kafka.Consumer.commit)
sys.exit(cli.main(sys.argv[1:]))
"""
ROOT = Path(__file__).resolve().parents[2]
NO_MERGES = """
ALTER TABLE flows_parts MODIFY SETTING
  max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1
"""
"""A merge would hide that a row was there twice."""


def program(settings: Kafka, folder: Path, seed: int, risk: float, *options: str) -> subprocess.Popen[str]:
    """The command as people run it, only that it writes small batches, and dies around a step with some probability."""
    (folder / "egress.toml").write_text(f'[kafka]\nservers = ["{settings.servers[0]}"]\nprefix = "{settings.prefix}"\n')
    words = ["store", "--store", str(folder / "store"), "--config", str(folder / "egress.toml"), "--member", "one"]
    command = [sys.executable, "-c", PROGRAM, str(seed), str(risk), *words, *options]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_whoever_is_killed_when_each_row_is_stored_once(settings: Kafka, producer: Producer, tmp_path: Path) -> None:
    """kill -9 around any step, and at any moment, while flows keep coming: no row is missing, none is there twice.

    What a collector sends a second time, hours apart or after a crash here, is known by its content: the view has it
    once.
    """
    draw = np.random.default_rng(1)
    rows = 0
    with open_store(str(tmp_path / "store")) as store:
        store.run(lambda client: client.command(NO_MERGES)).result()
    for number in range(KILLS):
        process = program(settings, tmp_path, number, 0.05)
        assert process.stderr is not None
        assert any("event=assigned" in line for line in process.stderr)
        end = time.monotonic() + LIFE_S * (1 + draw.random())
        while process.poll() is None and time.monotonic() < end:
            rows += send(producer, f"gpu-{draw.integers(5)}", rows // 100, 100)
            send(producer, "twice", int(draw.integers(1 + number)), 100)
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    producer.flush(10)

    last = program(settings, tmp_path, 0, 0.0, "--until-idle", "3")
    _, said = last.communicate(timeout=PATIENCE_S)

    assert last.returncode == 0, said
    with open_store(str(tmp_path / "store")) as store:
        assert count(store, "flows_parts WHERE host != 'twice'") == rows
        assert count(store, "flows WHERE host != 'twice'") == rows
        twice = store.query("SELECT count() AS n, uniqExact(flow_id) AS different FROM flows WHERE host = 'twice'")
        assert twice["n"][0] == twice["different"][0] > 0
