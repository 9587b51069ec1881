"""Services that begin before their broker does."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egress import kafkawait
from egress.config import Kafka
from egress.errors import BusAway, BusError
from egress.kafka import Consumer
from egress.kafkawait import connected
from egress.metrics import Metrics
from egress.service import Log, Service
from tests.egress.detectors import MAIN

DEAD = Kafka(("127.0.0.1:1",))


class Late(Consumer):
    """Answers from the third time on."""

    tries = 0

    def connect(self, timeout_s: float = 1.0) -> bool:
        self.tries += 1
        return self.tries >= 3


def service() -> tuple[Service, io.StringIO]:
    said, metrics = io.StringIO(), Metrics("detect")
    return Service("detect", Log(said, False, metrics), metrics), said


def test_it_goes_on_when_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong is said once, and that it is over."""
    monkeypatch.setattr(kafkawait, "PAUSES_S", (0.0,))
    running, said = service()

    assert connected(Late(DEAD, "", ["flows"]), DEAD, running, is_patient=True)

    assert [line.split()[2] for line in said.getvalue().splitlines()] == ["event=kafka_away", "event=kafka_back"]


def test_a_command_that_is_to_end_is_told_at_once() -> None:
    """`--until-idle` stands in scripts."""
    running, said = service()

    with pytest.raises(BusAway, match="cannot be reached"):
        connected(Late(DEAD, "", ["flows"]), DEAD, running, is_patient=False)

    assert said.getvalue() == ""


def test_what_does_not_get_better_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password, or TLS where there is none."""
    monkeypatch.setattr(kafkawait, "diagnose", lambda settings: BusError("the password is refused"))

    with pytest.raises(BusError, match="password"):
        connected(Late(DEAD, "", ["flows"]), DEAD, service()[0], is_patient=True)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("detect",), ("store", "--store", "kept"), ("collect", "goflow", "flow-messages")])
def test_services_wait_and_can_be_stopped_meanwhile(words: tuple[str, ...], tmp_path: Path) -> None:
    """SIGTERM ends them well."""
    (tmp_path / "egress.toml").write_text('[fleet]\ninternal = ["10.0.0.0/8"]\n')
    environment = {**os.environ, "EGRESS_KAFKA": DEAD.servers[0]}
    log = tmp_path / "log"
    with log.open("wb") as out:
        line = [sys.executable, "-c", MAIN, *words, "--config", "egress.toml"]
        process = subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=out)
    until = time.monotonic() + 60
    while "kafka_away" not in log.read_text() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0, log.read_text()
    assert log.read_text().count("kafka_away") == 1
