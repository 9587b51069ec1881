"""Metering against other meters, and memory against the length of the input; `make bench`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import page, programs
from tests.bench.programs import ONE_CORE, Run
from tests.bench.traffic import FLOWS, PACKETS, SPAN_US, Shape, write_capture

pytestmark = [pytest.mark.bench, pytest.mark.slow]

ROUNDS = int(os.environ.get("EGRESS_BENCH_ROUNDS", "3"))
ONCE = Shape()
SAME_CONVERSATIONS = Shape(10, FLOWS // 10, SPAN_US // 10)
"""Ten times the packets, in as many conversations and as many minutes."""
MORE_CONVERSATIONS = Shape(10)
"""Ten times of everything: what the ledger has to remember grows with it."""
TIMES_NFPCAPD, TIMES_NFSTREAM, WHOLE_PROCESS, MORE_MEMORY = 5, 40, 2, 1.2
"""What must hold: at least, at least, at most, at most."""


@pytest.fixture(scope="module")
def cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = base / "egress" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """Parts of the page, by what they are about."""
    return {}


def made(cache: Path, shape: Shape) -> Path:
    """The capture, made once; the name says what is in it."""
    path = cache / shape.name
    if not path.exists():
        write_capture(path, shape)
    return path


def typical(measure: Callable[[], Run]) -> Run:
    """The run of median duration."""
    runs = sorted((measure() for _ in range(ROUNDS)), key=lambda run: run.seconds)
    return runs[len(runs) // 2]


def publish(sections: dict[str, str], cache: Path) -> None:
    capture = made(cache, ONCE)
    page.write(
        [sections[key] for key in sorted(sections, reverse=True)], ROUNDS, PACKETS, FLOWS, capture.stat().st_size
    )


def test_metering_is_many_times_faster_than_other_meters(
    cache: Path, tmp_path: Path, sections: dict[str, str], require: Callable[[str, str], str]
) -> None:
    """On one core against nfpcapd and NFStream on one core; the whole command against nfpcapd on all of them."""
    require("nfpcapd", "apt-get install nfdump")
    capture = made(cache, ONCE)
    capture.read_bytes()
    programs.metering(capture)

    runs = {
        "egress: metering, warm, one core": typical(lambda: programs.metering(capture)),
        "nfpcapd": typical(lambda: programs.nfpcapd(capture, tmp_path / "nf")),
        "nfpcapd, one core": typical(lambda: programs.nfpcapd(capture, tmp_path / "nf", ONE_CORE)),
        "egress: replay to findings and store, cold": typical(lambda: programs.replay(capture, tmp_path / "egress")),
    }
    notes = []
    if programs.has_nfstream():
        runs["nfstream, one core"] = typical(lambda: programs.nfstream(capture))
    else:
        notes.append("nfstream could not be measured: it is not installed here.")
    sections["speed"] = page.speed(runs, PACKETS, notes)
    publish(sections, cache)
    print(sections["speed"])

    # Pinned to one core, work is CPU seconds; the clock also counts what other programs did there.
    metering = runs["egress: metering, warm, one core"].cpu_seconds
    assert runs["nfpcapd, one core"].cpu_seconds / metering >= TIMES_NFPCAPD
    assert runs["egress: replay to findings and store, cold"].seconds / runs["nfpcapd"].seconds <= WHOLE_PROCESS
    if "nfstream, one core" in runs:
        assert runs["nfstream, one core"].cpu_seconds / metering >= TIMES_NFSTREAM


def test_memory_does_not_grow_with_the_capture(cache: Path, tmp_path: Path, sections: dict[str, str]) -> None:
    """Ten times the packets in as many conversations: at most a fifth more memory."""
    shapes = {
        f"{ONCE.packets:,} packets, {FLOWS:,} conversations, 10 minutes": ONCE,
        f"{SAME_CONVERSATIONS.packets:,} packets, {FLOWS:,} conversations, 10 minutes": SAME_CONVERSATIONS,
        f"{MORE_CONVERSATIONS.packets:,} packets, {10 * FLOWS:,} conversations, 100 minutes": MORE_CONVERSATIONS,
    }
    peaks = {name: programs.replay(made(cache, shape), tmp_path / "egress").peak_mb for name, shape in shapes.items()}
    sections["memory"] = page.memory(peaks)
    publish(sections, cache)
    print(sections["memory"])

    once, longer, _ = peaks.values()
    assert longer <= MORE_MEMORY * once
