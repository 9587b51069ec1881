"""Files that a recorder goes on writing: each is collected once, when it is finished."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from egress.collect import Outcome, Request, collect
from egress.following import Follower, follow
from egress.metrics import Metrics
from egress.service import Log, Service
from tests.egress.bus import MemoryBus
from tests.egress.strategies import site

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def put(path: Path, content: bytes, changed_s: int) -> Path:
    path.write_bytes(content)
    os.utime(path, (changed_s, changed_s))
    return path


def test_a_file_is_finished_when_a_later_one_stands_beside_it(tmp_path: Path) -> None:
    first, second = put(tmp_path / "1.pcap", b"a", 100), put(tmp_path / "2.pcap", b"b", 160)
    follower = Follower([tmp_path], Clock())

    assert follower.take() == [first]
    assert follower.take() == []
    put(tmp_path / "3.pcap", b"c", 220)
    assert follower.take() == [second]


def test_the_last_file_is_finished_when_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    only = put(tmp_path / "1.pcap", b"a", 100)
    follower = Follower([tmp_path], clock, settled_s=300)

    assert follower.take() == []
    clock.now = 299
    put(only, b"ab", 101)
    assert follower.take() == []
    clock.now = 598
    assert follower.take() == []
    clock.now = 599
    assert follower.take() == [only]


def test_recorders_in_two_folders_do_not_finish_each_other(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    put(tmp_path / "a" / "1.pcap", b"a", 100)
    put(tmp_path / "b" / "1.pcap", b"b", 500)

    assert Follower([tmp_path], Clock()).take() == []


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> tuple[Service, io.StringIO]:
    """A service that is asked to stop when it first has nothing to do."""
    said, metrics = io.StringIO(), Metrics("collect")
    service = Service("collect", Log(said, False, metrics), metrics)
    monkeypatch.setattr(service.stop, "wait", lambda *_: service.stop.set())
    return service, said


@pytest.mark.slow
def test_what_was_sent_goes_and_what_cannot_be_read_stays(tmp_path: Path, running: tuple[Service, io.StringIO]) -> None:
    """As many messages are on the bus as when each file is collected alone."""
    service, said = running
    captures = tmp_path / "captures"
    captures.mkdir()
    put(captures / "1.pcap", (DEMO / "ordinary_day.pcap").read_bytes(), 100)
    put(captures / "2.pcap", b"no capture", 160)
    last = put(captures / "3.pcap", (DEMO / "outsider_pulls_model.pcap").read_bytes(), 220)
    bus, alone = MemoryBus(), MemoryBus()

    def one(path: Path) -> Outcome:
        return collect(Request((path,), site(), tmp_path / "spool"), bus.connect, service)

    collect(Request((captures / "1.pcap",), site(), tmp_path / "other"), alone.connect, service)
    follow([captures], one, service, is_removing=True)

    assert not (captures / "1.pcap").exists()
    assert (captures / "2.pcap").exists()
    assert last.exists()
    assert [each for each in bus.messages if each[0] == "flows"] == [
        each for each in alone.messages if each[0] == "flows"
    ]
    assert "collected" in said.getvalue()
