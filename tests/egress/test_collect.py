"""`egress collect file`: from captures and flow files to messages, the same ones however often it is begun again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from egress import registry
from egress.addresses import network_of
from egress.collect import Outcome, Request, collect, digest_of
from egress.config import Config
from egress.contracts import ReadSettings
from egress.detect import Engine
from egress.errors import InputError, ServiceError, StoreError, UsageError
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.replay import Request as ReplayRequest
from egress.replay import replay
from egress.schema import conform
from egress.spool import Spool
from tests.egress.bus import MemoryBus
from tests.egress.collected import (
    DEMO,
    NO_WAIT,
    SETTINGS,
    SITE,
    Collect,
    busy,
    decoded,
    named,
    parquet,
    rows_of,
    service,
)
from tests.egress.strategies import NOON, SECOND, Transfer, flows_of, site


@pytest.fixture
def run(tmp_path: Path) -> Collect:
    """`run(bus, paths, **changes)` collects into a memory bus."""

    def go(bus: MemoryBus, *paths: Path, **changes: object) -> Outcome:
        request = Request(paths, SITE, tmp_path / "spool", settings=SETTINGS)
        return collect(replace(request, **changes), bus.connect, service())

    return go


def test_every_row_that_replay_charges_is_sent_once(run: Collect) -> None:
    """The demo's captures: each host's rows under its key, rows of nobody under none, each as attributed."""
    bus = MemoryBus()
    captures = sorted(DEMO.glob("*.pcap"))
    expected = pl.concat(
        Inventory(SITE).attribute(batch.flows)
        for collector in registry.collectors()
        if collector.name == "capture"
        for batch in collector.read(captures, SETTINGS)
    )

    outcome = run(bus, *captures)

    order = ["host", "start", "flow_id", "part", "side"]
    assert_frame_equal(rows_of(bus.messages).sort(order), expected.sort(order))
    assert outcome.tally.read.frames > 0
    assert outcome.sent.rows == outcome.rows == expected.height + 1
    assert named(bus.messages)


@pytest.mark.slow
def test_the_summary_adds_up(run: Collect, tmp_path: Path, impatient: None) -> None:
    """read = metered + skipped; rows = sent + waiting + shed + refused; also beside a file that is no input."""
    (tmp_path / "notes.txt").write_text("nothing")
    bus = MemoryBus(room=1)

    summary = run(bus, DEMO / "ordinary_day.pcap", tmp_path / "notes.txt", wait_for_kafka_s=None).summary(1.0)

    read, metered, skipped = summary["read"], summary["metered"], summary["skipped"]
    assert isinstance(skipped, dict)
    for what in ("frames", "bytes"):
        assert read[what] == metered[what] + sum(count[what] for count in skipped.values())
    rows = [summary[name]["rows"] for name in ("sent", "waiting", "shed", "refused", "known", "held")]
    assert summary["rows"] == sum(rows)
    assert rows[0] > 0
    assert rows[1] > 0
    assert json.dumps(summary)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once."""
    monkeypatch.setattr("egress.shipper.PAUSES_S", (0.02,))
    monkeypatch.setattr("egress.shipper.IDLE_S", 0.005)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a bus that is away: nobody waits ten seconds for it."""
    monkeypatch.setattr("egress.collect.PATIENCE_S", 0.2)


@pytest.mark.slow
def test_collecting_the_same_content_again_sends_the_same_messages(run: Collect, tmp_path: Path) -> None:
    """In another order, under other names: what differs is only where rows say that they were read."""
    first, again, elsewhere = MemoryBus(), MemoryBus(), MemoryBus()
    captures = sorted(DEMO.glob("*.pcap"))
    run(first, *captures)
    run(again, *reversed(captures))
    moved = [Path(shutil.copy(path, tmp_path / f"{n}.cap")) for n, path in enumerate(captures)]
    run(elsewhere, *moved)

    assert sorted(first.messages) == sorted(again.messages)
    assert named(first.messages).keys() == named(elsewhere.messages).keys()
    place = ["origin", "position"]
    assert_frame_equal(
        rows_of(first.messages).drop(place), rows_of(elsewhere.messages).drop(place), check_row_order=False
    )


def test_other_content_or_another_inventory_is_another_epoch(tmp_path: Path) -> None:
    """A number may not stand for other rows."""
    one = Request((DEMO / "ordinary_day.pcap",), SITE, tmp_path)
    fleet = replace(SITE.fleet, internal=(*SITE.fleet.internal, network_of("192.168.0.0/16")))

    epochs = [
        digest_of(one),
        digest_of(replace(one, paths=(DEMO / "outsider_pulls_model.pcap",))),
        digest_of(replace(one, config=replace(SITE, fleet=fleet))),
        digest_of(replace(one, config=replace(SITE, fleet=replace(SITE.fleet, hosts=SITE.fleet.hosts[:-1])))),
        digest_of(replace(one, sensor="tap-2")),
        digest_of(replace(one, settings=ReadSettings(is_disjoint=True))),
        digest_of(replace(one, pace=2.0)),  # cut finer
    ]

    assert len(set(epochs)) == len(epochs)
    assert epochs[0] == digest_of(replace(one, spool=Path("elsewhere"), config=replace(SITE, models=())))


@pytest.mark.slow
def test_without_kafka_everything_is_spooled_and_sent_by_the_next_run(run: Collect, impatient: None) -> None:
    """The first run ends well, and says so; the second sends what it left, and then its own."""
    bus = MemoryBus(is_there=False)
    day = DEMO / "ordinary_day.pcap"
    left = run(bus, day)

    bus.is_there = True
    other = run(bus, DEMO / "outsider_pulls_model.pcap")

    assert (left.sent.rows, left.waiting.rows) == (0, left.rows)
    assert "no broker" in left.trouble
    assert other.carried == left.waiting
    assert other.sent.rows == other.rows
    epochs = [header.epoch for header, _ in decoded(bus.messages)]
    assert epochs == sorted(epochs, key=[left.epoch, other.epoch].index)


@pytest.mark.slow
def test_what_waits_in_the_spool_already_is_not_put_there_again(run: Collect, impatient: None) -> None:
    """A job that collects the same file every minute while Kafka is away."""
    bus = MemoryBus(is_there=False)
    day = DEMO / "ordinary_day.pcap"
    first = run(bus, day)

    second = run(bus, day)
    bus.is_there = True
    third = run(bus, day)

    assert second.known == third.known == third.carried == first.waiting
    assert second.waiting.rows == third.sent.rows == 0
    assert len(bus.messages) == len(named(bus.messages)) == first.waiting.messages


@pytest.mark.slow
def test_kafka_away_is_an_error_only_where_that_was_asked_for(run: Collect) -> None:
    """`--wait-for-kafka`: with what it leaves in the spool."""
    bus = MemoryBus(is_there=False)

    with pytest.raises(ServiceError, match=r"Kafka takes nothing for 0.1 s .no broker answers.*in the spool") as caught:
        run(bus, DEMO / "ordinary_day.pcap", wait_for_kafka_s=0.1)

    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_a_producer_that_failed_is_replaced_and_nothing_is_missing(run: Collect) -> None:
    """Refused for good, twice, and late acknowledgements: sent again, under the same numbers."""
    calm, rough = MemoryBus(), MemoryBus(refusals=["not authorised", "record too large"], keeps=3)
    run(calm, DEMO / "ordinary_day.pcap")

    outcome = run(rough, DEMO / "ordinary_day.pcap")

    assert rough.connections == 3
    assert named(rough.messages) == named(calm.messages)
    assert outcome.sent.rows == outcome.rows


@pytest.mark.slow
def test_a_paced_source_does_not_wait_for_room_and_says_what_it_shed(
    run: Collect, tmp_path: Path, impatient: None
) -> None:
    """Kafka is away and the spool is small: the oldest goes, the law of rows holds, and the notice is sent later."""
    transfers = [Transfer(src=f"10.0.0.{n % 200 + 1}", sent=n, start=NOON + n * SECOND) for n in range(600)]
    flows = parquet(tmp_path / "flows.parquet", flows_of(transfers))
    bus = MemoryBus(is_there=False)
    fleet = site()

    outcome = run(bus, flows, config=fleet, spool_bytes=64 << 10, pace=1e9)
    bus.is_there = True
    again = run(bus, DEMO / "ordinary_day.pcap", spool_bytes=64 << 10)

    assert outcome.shed.rows > 0
    assert outcome.rows == outcome.sent.rows + outcome.waiting.rows + outcome.shed.rows
    notices = [rows for header, rows in decoded(bus.messages, "heartbeats") if header.epoch.endswith("-shed")]
    told = pl.concat(notices)
    assert told["shed_rows"].sum() == outcome.shed.rows
    assert set(told["epoch"]) == {outcome.epoch}
    assert again.shed.rows == 0


@pytest.mark.slow
def test_at_full_speed_a_file_waits_for_room(run: Collect, tmp_path: Path) -> None:
    """A slow Kafka and a small spool lose nothing of what can be read again."""
    transfers = [Transfer(src=f"10.0.0.{n % 200 + 1}", sent=n, start=NOON + n * SECOND) for n in range(600)]
    flows = parquet(tmp_path / "flows.parquet", flows_of(transfers))

    outcome = run(MemoryBus(keeps=20), flows, config=site(), spool_bytes=64 << 10)

    assert outcome.shed.rows == 0
    assert outcome.sent.rows == outcome.rows


def test_heartbeat_files_go_to_their_topic_by_host(run: Collect, tmp_path: Path) -> None:
    """As they were read, beside a last word of the source itself."""
    lines = [{"time": "2026-11-20T12:00:00Z", "host": host, "sensor": "s", "seq": n} for n in range(3) for host in "ab"]
    path = tmp_path / "beats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bus = MemoryBus()

    outcome = run(bus, path, DEMO / "ordinary_day.pcap")

    beats = {(header.host, header.seq): rows for header, rows in decoded(bus.messages, "heartbeats")}
    assert {host for host, _ in beats} == {"a", "b", ""}
    assert beats["a", 0]["seq"].to_list() == [0, 1, 2]
    last = beats["", 0]
    assert last["seen_bytes"].item() == outcome.tally.metered.bytes
    assert last["time"].item() >= rows_of(bus.messages)["end"].dt.truncate("1m").max()


@pytest.mark.slow
def test_the_last_word_moves_no_finding() -> None:
    """It is about no host, so coverage has nothing to say of it: what streams ends as replay ends."""
    flows = flows_of([Transfer(sent=30_000_000)])
    beats = conform(
        pl.DataFrame({"time": [NOON, NOON + 10**12], "host": ["", ""], "sensor": ["replay"] * 2}), HEARTBEATS
    )
    found = []
    for more in (None, beats):
        engine = Engine(Inventory(site()), registry.detectors)
        engine.feed(flows)
        if more is not None:
            engine.feed_heartbeats(more)
        found.append(list(engine.findings()))

    assert found[0] == found[1]
    assert found[0]


def test_a_sensor_has_the_name_that_it_was_given(run: Collect) -> None:
    """Two taps are two sensors, in their rows and in their headers."""
    bus = MemoryBus()

    run(bus, DEMO / "ordinary_day.pcap", sensor="tap-2")

    assert set(rows_of(bus.messages)["sensor"]) == {"tap-2"}
    assert {header.sensor for header, _ in decoded(bus.messages)} == {"tap-2"}


@pytest.mark.slow
def test_stopping_early_leaves_the_rest_for_the_next_time(tmp_path: Path) -> None:
    """What was cut is in the spool or sent; the next run sends the whole."""
    flows = parquet(tmp_path / "flows.parquet", busy(20_000))
    bus, stopped = MemoryBus(), service()
    request = Request((flows,), site(), tmp_path / "spool", settings=ReadSettings(chunk_bytes=64 << 10), pace=NO_WAIT)

    def stop_soon(tally: object) -> bool:
        if bus.messages:
            stopped.stop.set()
        return True

    half = collect(request, bus.connect, stopped, stop_soon)
    whole = collect(request, bus.connect, service())
    calm = MemoryBus()
    collect(replace(request, spool=tmp_path / "other"), calm.connect, service())

    assert half.was_interrupted
    assert 0 < half.rows < whole.rows
    assert half.rows == half.sent.rows + half.waiting.rows + half.held
    assert named(bus.messages) == named(calm.messages)


@pytest.mark.slow
def test_a_pace_is_kept_and_pauses_are_not_waited_out(tmp_path: Path) -> None:
    """Ten minutes at 1,200 times take half a second; the day without traffic before takes nothing."""
    transfers = [Transfer(sent=1, start=NOON - 86_400 * SECOND)]
    transfers += [Transfer(sent=1, start=NOON + n * 60 * SECOND) for n in range(11)]
    flows = parquet(tmp_path / "flows.parquet", flows_of(transfers))

    began = time.monotonic()
    collect(Request((flows,), site(), tmp_path / "spool", pace=1200.0), MemoryBus().connect, service())

    assert 0.4 < time.monotonic() - began < 3


def test_what_cannot_be_collected_is_refused_in_words(run: Collect, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(MemoryBus(), tmp_path / "nowhere.pcap")
    with pytest.raises(UsageError, match="standard input cannot be read again"):
        run(MemoryBus(), Path("-"))
    with Spool_in(tmp_path / "spool"), pytest.raises(StoreError, match="in use by process"):
        run(MemoryBus(), DEMO / "ordinary_day.pcap")


class Spool_in:
    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder, 1 << 20)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.spool.close()


def streamed(paths: tuple[Path, ...], tmp_path: Path) -> Iterator[pl.DataFrame]:
    bus = MemoryBus()
    collect(Request(paths, SITE, tmp_path / "s", settings=SETTINGS), bus.connect, service())
    yield from (rows for _, rows in decoded(bus.messages))


@pytest.mark.slow
def test_what_went_over_the_wire_gives_the_findings_of_replay(tmp_path: Path) -> None:
    """The demo's theft, charged from decoded messages."""
    paths = tuple(sorted(DEMO.glob("*.pcap")))
    engine = Engine(Inventory(SITE), registry.detectors)
    for rows in streamed(paths, tmp_path):
        engine.feed(rows)

    found = [replace(each, evidence=()) for each in engine.findings()]
    expected = [replace(each, evidence=()) for each in replay(ReplayRequest(paths, SITE, SETTINGS)).findings]

    assert found == expected
    assert any(each.level >= 4 for each in found)


def test_no_kafka_in_the_configuration_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from egress.kafka import settings_of

    monkeypatch.delenv("EGRESS_KAFKA", raising=False)
    with pytest.raises(UsageError, match="no Kafka is named"):
        settings_of(Config())
