"""`egress collect goflow` on a real broker: what others put on their topics arrives once, whoever is killed when."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from egress import configfile, registry, wire
from egress.config import Kafka
from egress.errors import BusError, UsageError
from egress.forwarding import Request, forward
from egress.inventory import Inventory
from egress.kafka import Consumer, Producer, make_topics, read_all
from egress.metrics import REFUSALS, Metrics
from egress.schema import FLOWS
from egress.service import Log, Service
from tests.egress.bus import Message
from tests.egress.collected import named, rows_of
from tests.services.broker import make_topic

pytestmark = [pytest.mark.service, pytest.mark.slow]

PARTITIONS = 2
COPIES = 12
SITE = '[fleet]\ninternal = ["10.0.0.0/8", "fd00::/8"]\n[kafka]\nservers = ["x:1"]\nprefix = "{prefix}"\n'
PROGRAM = """
import os, signal
from egress import forwarding
from egress.cli import main
forwarding.ROUND_MESSAGES = forwarding.MOST_MESSAGES = 40
which, left = {where}, {kill_at}
act = getattr(*which)
def counted(*words):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return act(*words)
setattr(*which, counted)
raise SystemExit(main())
"""
OFFER, COMMIT = "(forwarding.Producer, 'offer')", "(forwarding.Consumer, 'commit')"
LIVES = ((OFFER, 2), (COMMIT, 2), (OFFER, 7), (COMMIT, 4))
"""Before a round was sent, behind it, in the middle of another, behind another."""
_prefixes = count()
Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def bus(broker: str, tmp_path: Path) -> Kafka:
    prefix = f"forward{next(_prefixes)}-{time.monotonic_ns()}"
    settings = Kafka(tuple(broker.split(",")), prefix=prefix, partitions=3)
    make_topics(settings)
    make_topic(broker, topic(settings), PARTITIONS)
    (tmp_path / "egress.toml").write_text(SITE.format(prefix=prefix))
    return settings


@pytest.fixture
def flows(data: Path) -> list[bytes]:
    """Flows of a real exporter, at twelve different times: one a message, as goflow2 sends them."""
    lines = [json.loads(line) for line in (data / "goflow" / "netflow9.json").read_bytes().splitlines()]
    names = ("time_received_ns", "time_flow_start_ns", "time_flow_end_ns")
    return [
        json.dumps(line | {name: line[name] + copy * 1_000_000_000 for name in names}).encode()
        for copy in range(COPIES)
        for line in lines
    ]


@pytest.fixture
def command(bus: Kafka, tmp_path: Path) -> Iterator[Command]:
    """`command(word, ..., where=OFFER, kill_at=0)` starts `egress collect goflow`; it dies when it does that again."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, where: str = OFFER, kill_at: int = 0) -> subprocess.Popen[str]:
        program = PROGRAM.format(where=where, kill_at=kill_at)
        line = [sys.executable, "-c", program, "collect", "goflow", topic(bus), "--encoding", "json", *words]
        environment = {**os.environ, "EGRESS_KAFKA": ",".join(bus.servers), "POLARS_MAX_THREADS": "1"}
        process = subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def topic(bus: Kafka) -> str:
    return f"flows-of-{bus.prefix}"


def put(bus: Kafka, values: list[bytes]) -> None:
    """On the topic's partitions by turns."""
    producer = Producer(replace(bus, prefix=""))
    for number, value in enumerate(values):
        producer.send(topic(bus), b"", value, partition=number % PARTITIONS)
    assert producer.flush(20)
    producer.close()


def on(bus: Kafka) -> list[Message]:
    return [("flows", each.key or b"", each.value or b"", each.headers) for each in read_all(bus, "flows")]


def once(messages: list[Message]) -> pl.DataFrame:
    """Rows as whoever reads them counts them: each name once, with no number missing."""
    numbers: dict[tuple[str, str, str], list[int]] = {}
    for _, sensor, host, epoch, seq in named(messages):
        numbers.setdefault((sensor, host, epoch), []).append(seq)
    assert all(sorted(found) == list(range(len(found))) for found in numbers.values())
    kept = {(name := wire.read_header(message[3])): message for message in messages}
    assert len(kept) == len(named(messages)), name
    return in_order(rows_of(list(kept.values())))


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("host", "start", "flow_id", "side", "src_bytes", "dst_bytes", "end")


def expected(values: list[bytes], tmp_path: Path) -> pl.DataFrame:
    """What the reader makes of all values at once."""
    inventory = Inventory(configfile.load(tmp_path / "egress.toml"))
    return in_order(inventory.attribute(registry.rows_reader("goflow-json").read(values).flows))


def service() -> Service:
    metrics = Metrics("collect")
    return Service("collect", Log(io.StringIO(), False, metrics), metrics)


def request(bus: Kafka, tmp_path: Path) -> Request:
    return Request((topic(bus),), "json", configfile.load(tmp_path / "egress.toml"), bus)


def done(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    return said


def test_who_is_killed_in_the_middle_doubles_nothing(
    bus: Kafka, command: Command, flows: list[bytes], tmp_path: Path
) -> None:
    """Four times, at other places of a round; more comes meanwhile. The rows are those of one who was left alone."""
    for part, (where, kill_at) in enumerate(LIVES):
        put(bus, flows[part * 99 : part * 99 + 99])
        process = command("--member", "one", where=where, kill_at=kill_at)
        process.communicate(timeout=90)
        assert process.returncode == -signal.SIGKILL

    done(command("--member", "one", "--until-idle", "1.5"))

    messages = on(bus)
    assert len(messages) > len(named(messages))
    assert_frame_equal(once(messages), expected(flows, tmp_path))


def test_what_is_sent_again_after_partitions_grew_goes_where_it_went(
    bus: Kafka, command: Command, flows: list[bytes], tmp_path: Path
) -> None:
    """Killed at other places of a round, with more partitions of ours at each start; what begins anew uses them."""
    for part, (where, kill_at) in enumerate(LIVES):
        put(bus, flows[part * 80 : part * 80 + 80])
        process = command("--member", "one", where=where, kill_at=kill_at)
        process.communicate(timeout=90)
        make_topics(replace(bus, partitions=4 + 3 * part))

    done(command("--member", "one", "--until-idle", "1.5"))
    put(bus, flows[320:])
    done(command("--member", "one", "--until-idle", "1.5"))

    messages = on(bus)
    places: dict[wire.Header, set[int]] = {}
    for each in read_all(bus, "flows"):
        places.setdefault(wire.read_header(each.headers), set()).add(each.partition)
    assert len(messages) > len(named(messages))
    assert [found for found in places.values() if len(found) > 1] == []
    assert max(partition for found in places.values() for partition in found) > 4
    assert_frame_equal(once(messages), expected(flows, tmp_path))


def test_a_clean_stop_leaves_nothing_to_be_sent_again(
    bus: Kafka, command: Command, flows: list[bytes], tmp_path: Path
) -> None:
    """SIGTERM while it works; the next one goes on behind, in a new epoch, and sends nothing twice."""
    put(bus, flows)
    process = command("--member", "one", "--from", ",".join(bus.servers))
    until = time.monotonic() + 60
    while not on(bus) and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    done(process)

    said = done(command("--member", "one", "--until-idle", "1.5"))

    messages = on(bus)
    assert "epoch_not_continued" not in said
    assert len(messages) == len(named(messages))
    assert_frame_equal(once(messages), expected(flows, tmp_path))


def test_members_share_the_partitions_and_take_them_over(
    bus: Kafka, command: Command, flows: list[bytes], tmp_path: Path
) -> None:
    """A second one joins while the first works, which is killed then: the other does the rest."""
    put(bus, flows[:200])
    first = command(kill_at=30)
    second = command()
    put(bus, flows[200:])
    everything, until = expected(flows, tmp_path), time.monotonic() + 90

    while not ((messages := on(bus)) and once(messages).height == everything.height) and time.monotonic() < until:
        time.sleep(0.5)
    second.terminate()
    done(second)

    assert first.poll() is None or first.returncode == -signal.SIGKILL
    assert_frame_equal(once(on(bus)), everything)


def test_everything_is_counted(bus: Kafka, flows: list[bytes], tmp_path: Path) -> None:
    """Messages = taken + refused, rows = sent + unfit; what cannot be read is told by where it is, and passed over."""
    arp = json.dumps({"src_addr": "", "dst_addr": "", "type": "SFLOW_5"}).encode()
    values = [flows[0], b"rubbish", arp, flows[1], b"{}x", flows[2]]
    put(bus, values)
    squeeze(bus, flows[3:5])
    put(bus, [flows[5]])
    running = service()

    forward(request(bus, tmp_path), running, until_idle_s=1.0)

    metrics = running.metrics
    refused = {reason: metrics.value("refused_messages", reason=reason) for reason in REFUSALS}
    assert {reason: number for reason, number in refused.items() if number} == {
        "malformed": 2,
        "no_address": 1,
        "compressed": 1,
    }
    assert metrics.value("taken_messages") == 4
    assert metrics.value("read_rows") == metrics.value("sent_rows", topic="flows") > 0
    assert metrics.value("unfit_rows") == 0
    told = [json.loads(letter.value or b"") for letter in read_all(bus, "dlq")]
    places = sorted((letter["partition"], letter["offset"], letter["records"]) for letter in told)
    assert {letter["topic"] for letter in told} == {topic(bus)}
    assert places == [(0, 2, 1), (0, 3, 2), (1, 0, 1)]
    left = [*flows[:3], flows[5]]
    assert_frame_equal(once(on(bus)), expected(left, tmp_path))


def squeeze(bus: Kafka, values: list[bytes]) -> None:
    """What an exporter puts there that was told to compress: one batch of partition 0."""
    from kafka import KafkaProducer

    client = KafkaProducer(bootstrap_servers=list(bus.servers), compression_type="gzip", linger_ms=500)
    for value in values:
        client.send(topic(bus), value=value, partition=0)
    client.flush()
    client.close()


def test_what_is_behind_is_shown_and_the_offset_moves_with_what_arrived(
    bus: Kafka, flows: list[bytes], tmp_path: Path
) -> None:
    """Tools that show a group's lag show the truth; a stop leaves no note that would have to be read again."""
    put(bus, flows[:10])
    running = service()
    asked = request(bus, tmp_path)

    forward(asked, running, until_idle_s=0.5)

    reader = Consumer(replace(bus, prefix=""), asked.group, [topic(bus)])
    noted = reader.noted([(topic(bus), number) for number in range(PARTITIONS)])
    reader.close()
    assert noted == {(topic(bus), 0): (5, ""), (topic(bus), 1): (5, "")}
    assert running.metrics.value("source_lag_messages") in (0, 10)


def test_another_inventory_begins_another_epoch(bus: Kafka, flows: list[bytes], tmp_path: Path) -> None:
    """Between two starts a network was added: no name of the first is used again."""
    put(bus, flows[:33])
    forward(request(bus, tmp_path), service(), until_idle_s=0.5)
    before = len(named(on(bus)))
    (tmp_path / "egress.toml").write_text(SITE.format(prefix=bus.prefix).replace('"fd00', '"192.0.2.0/24", "fd00'))
    put(bus, flows[33:66])

    forward(request(bus, tmp_path), service(), until_idle_s=0.5)

    assert len(named(on(bus))) == len(on(bus)) > before
    assert rows_of(on(bus)).schema == FLOWS.polars


def test_what_cannot_work_is_said_at_once(bus: Kafka, tmp_path: Path) -> None:
    asked = request(bus, tmp_path)

    with pytest.raises(BusError, match="not-there is not there; check its name"):
        forward(replace(asked, topics=("not-there",)), service(), until_idle_s=1.0)
    with pytest.raises(BusError, match=r"127\.0\.0\.1:1"):
        forward(replace(asked, source=("127.0.0.1:1",)), service(), until_idle_s=1.0)
    with pytest.raises(UsageError, match="at most 200 can travel"):
        forward(replace(asked, sensor="x" * 200), service(), until_idle_s=1.0)
