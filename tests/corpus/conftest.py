"""Every capture of the corpus, metered once for all tests of this folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from collectors.capture import CaptureCollector
from egress.contracts import ReadSettings, Tally
from tests.corpus.conversations import Sums, new_sums, of_flows
from tests.corpus.oracle_reader import is_capture

NEVER_S = 400 * 365 * 86_400
"""Longer than any capture: tools that know no time-out are compared with."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What the product made of one capture."""

    path: Path
    sums: Sums
    tally: Tally
    seconds: float


@pytest.fixture(scope="session")
def captures(corpus: Path) -> list[Path]:
    """Everything in the corpus that is a capture, and the recorded ones."""
    files = (path for path in corpus.rglob("*") if path.is_file() and "zeeklogs" not in path.parts)
    return sorted(path for path in files if is_capture(path))


@pytest.fixture(scope="session")
def meter(data: Path) -> Callable[[Path], Metered]:
    """Meters a capture; the second time from memory. The kernel is compiled before the first is timed."""
    meter_now(data / "recorded" / "udp_sender.pcap")

    @cache
    def metered(path: Path) -> Metered:
        return meter_now(path)

    return metered


def meter_now(path: Path) -> Metered:
    began = time.perf_counter()
    batches = list(CaptureCollector().read([path], ReadSettings(idle_timeout_s=NEVER_S)))
    seconds = time.perf_counter() - began
    tally = sum((batch.tally for batch in batches), Tally())
    sums = of_flows(batch.flows for batch in batches)
    return Metered(path, sums or new_sums(), tally, seconds)
