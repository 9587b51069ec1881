"""What runs until it is told to stop."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from egress.metrics import Metrics
from egress.service import Log, Service


def log(*, is_json: bool = False) -> tuple[Log, io.StringIO, Metrics]:
    out, counted = io.StringIO(), Metrics("store")
    return Log(out, is_json, counted), out, counted


def test_a_line_is_an_event_with_fields() -> None:
    """Level, event and values; what needs quotes has them."""
    said, out, _ = log()

    said.warning("retry", where="http://a b", rows=5, is_last=False, why="")

    assert out.getvalue().partition(" ")[2] == (
        'level=warning event=retry where="http://a b" rows=5 is_last=false why=""\n'
    )


def test_foreign_text_steers_no_terminal_and_makes_no_second_line() -> None:
    """Host names come from the bus."""
    said, out, _ = log()

    said.info("seen", host="a\x1b[31m\nlevel=error event=forged")

    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_as_json_a_line_is_one_object() -> None:
    """Numbers stay numbers."""
    said, out, _ = log(is_json=True)

    said.error("refused", rows=5, host='a"\n')

    values = json.loads(out.getvalue())
    assert values.pop("time").endswith("Z")
    assert values == {"level": "error", "event": "refused", "rows": 5, "host": 'a"\n'}


def test_lines_are_counted_by_level() -> None:
    """`egress_log_lines_total` is what an alert watches."""
    said, _, counted = log()

    said.error("refused")
    said.error("refused")

    assert counted.value("log_lines", level="error") == 2
    assert counted.value("log_lines", level="info") == 0


def test_a_closed_terminal_stops_nobody() -> None:
    """The line is lost, the service is not."""
    said, out, counted = log()
    out.close()

    said.info("assigned")

    assert counted.value("log_lines", level="info") == 1


PROGRAM = """
import argparse, sys, time
from egress import service
options = argparse.Namespace(log="json", metrics="")
with service.of_options("store", options) as running:
    running.log.info("ready")
    while not running.wait({wait}):
        pass
    {then}
"""


def started(then: str = "pass", wait: float = 60) -> subprocess.Popen[str]:
    program = PROGRAM.format(then=then, wait=wait)
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert next_event(process) == "ready"
    return process


def next_event(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return str(json.loads(process.stderr.readline())["event"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    """The wait ends, the service leaves its context, the process ends well."""
    process = started()

    process.send_signal(number)

    assert [next_event(process), next_event(process)] == ["stopping", "stopped"]
    assert process.wait(timeout=10) == 0


@pytest.mark.slow
def test_the_second_signal_ends_at_once() -> None:
    """Also where the service is stuck inside a library that lets nobody else run Python's handlers."""
    process = started(then="import ctypes; ctypes.CDLL(None).sleep(60)")

    process.send_signal(signal.SIGTERM)
    assert next_event(process) == "stopping"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_handlers_are_put_back() -> None:
    """A service leaves the process as it found it."""
    before = signal.getsignal(signal.SIGTERM)
    said, _, counted = log()

    with Service("store", said, counted):
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before


def test_a_service_may_run_beside_the_main_thread() -> None:
    """Tests do so; signals are then the main thread's business."""
    said, out, counted = log()
    service = Service("store", said, counted)

    def run() -> None:
        with service:
            service.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    service.stop.set()
    thread.join(10)

    assert not thread.is_alive()
    assert "event=stopped" in out.getvalue()
