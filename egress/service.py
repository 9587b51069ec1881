"""What runs until it is told to stop: signals, log lines and metrics of `collect`, `detect` and `store`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Literal, Self, TextIO

from egress.exposition import Exposition
from egress.metrics import Metrics
from egress.words import safe

STOPS = (signal.SIGTERM, signal.SIGINT)
BY_SIGNAL = 128
"""Exit code of what a signal ended, as shells have it, is this and the signal's number."""

Level = Literal["info", "warning", "error"]
Field = str | int | float | bool


class Log:
    """One event a line: when, how bad, what, and its fields; as words or as JSON.

    Log lines are for people and never read back; nothing is concluded from their time.
    """

    def __init__(self, stream: TextIO, is_json: bool, metrics: Metrics) -> None:
        self._stream = stream
        self._is_json = is_json
        self._metrics = metrics
        self._lock = threading.Lock()

    def info(self, event: str, **fields: Field) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Field) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Field) -> None:
        self._say("error", event, fields)

    def _say(self, level: Level, event: str, fields: dict[str, Field]) -> None:
        self._metrics.add("log_lines", level=level)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")  # noqa: TID251 - shown, never used
        values = {"time": now.replace("+00:00", "Z"), "level": level, "event": event, **fields}
        text = json.dumps(values) if self._is_json else " ".join(map(_pair, values, values.values()))
        with self._lock, suppress(OSError, ValueError):  # a closed terminal is no reason to stop
            self._stream.write(text + "\n")
            self._stream.flush()


class Service:
    """A context in which the first SIGTERM or SIGINT asks to stop and the second ends the process at once.

    Signals are seen by a thread that waits on a pipe, so they are also seen while the main thread is inside a library.
    """

    def __init__(self, name: str, log: Log, metrics: Metrics, address: str = "") -> None:
        self.name = name
        self.log = log
        self.metrics = metrics
        self.stop = threading.Event()
        self._address = address
        self._exposition: Exposition | None = None

    def wait(self, seconds: float) -> bool:
        """Sleeps for so long, or until asked to stop; true if so."""
        return self.stop.wait(seconds)

    def clock(self) -> float:
        """Seconds that pass, from nowhere in particular: how long to wait, never when something happened."""
        return time.monotonic()

    def __enter__(self) -> Self:
        if self._address:
            self._exposition = Exposition(self.metrics, self._address)
            self.log.info("metrics", url=f"http://{self._exposition.address}/metrics")
        self._signals = _Signals(self.stop, self.log) if _is_main_thread() else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._signals is not None:
            self._signals.close()
        if self._exposition is not None:
            self._exposition.close()
        if error is None:
            self.log.info("stopped")


def of_options(name: str, options: Namespace) -> Service:
    """The service that `--metrics` and `--log` describe; enter it to start."""
    metrics = Metrics(name)
    return Service(name, Log(sys.stderr, options.log == "json", metrics), metrics, options.metrics)


class _Signals:
    """Handlers that do nothing, because what they could do safely is next to nothing: a pipe and a thread do it."""

    def __init__(self, stop: threading.Event, log: Log) -> None:
        self._stop = stop
        self._log = log
        self._out, self._in = os.pipe()
        os.set_blocking(self._in, False)
        self._before = {number: signal.signal(number, _ignore) for number in STOPS}
        self._wakeup = signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="egress-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._in)
        self._thread.join()
        os.close(self._out)

    def _watch(self) -> None:
        while received := os.read(self._out, 1):
            number = received[0]
            if number not in STOPS:
                continue
            if self._stop.is_set():
                os._exit(BY_SIGNAL + number)
            self._log.info("stopping", signal=signal.Signals(number).name, hint="again to end at once")
            self._stop.set()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Its presence makes the interpreter write the number into the pipe."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _pair(name: str, value: Field) -> str:
    text = str(value).lower() if isinstance(value, bool) else safe(str(value))
    return f"{name}={json.dumps(text, ensure_ascii=False) if _needs_quotes(text) else text}"


def _needs_quotes(text: str) -> bool:
    return not text or any(sign in text for sign in ' "=')
