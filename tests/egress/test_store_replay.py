"""Real captures replayed into one store, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from egress import configfile
from egress.contracts import ReadSettings
from egress.replay import Request, replay
from egress.store import open_store

pytestmark = pytest.mark.slow

CAPTURES = ("slow_chunks", "relay_agent", "relay_gpu", "udp_sender")

QUESTIONS = {
    "flows": "SELECT * EXCEPT (origin, position) FROM flows ORDER BY ALL",
    "roll-up": "SELECT * FROM flows_1m ORDER BY ALL",
    "ledger": "SELECT * FROM ledger ORDER BY ALL",
    "peers": "SELECT * FROM peers ORDER BY ALL",
    "findings": "SELECT * EXCEPT (run, edition, finding) FROM findings ORDER BY ALL",
}


def answers(where: Path) -> dict[str, pl.DataFrame]:
    with open_store(str(where)) as store:
        return {what: store.query(sql) for what, sql in QUESTIONS.items()}


@pytest.fixture
def request_for(data: Path) -> Callable[..., Request]:
    """The four captures into a store."""

    def make(store: Path, *captures: Path) -> Request:
        paths = captures or tuple(data / "recorded" / f"{name}.pcap" for name in CAPTURES)
        return Request(paths, configfile.assumed(), ReadSettings(), str(store), None, None)

    return make


@pytest.fixture
def once(tmp_path: Path, request_for: Callable[..., Request]) -> dict[str, pl.DataFrame]:
    """What a single run leaves."""
    replay(request_for(tmp_path / "once"))
    return answers(tmp_path / "once")


def differing(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> list[str]:
    assert all(frame.height for frame in one.values())
    return [what for what in QUESTIONS if not one[what].equals(other[what])]


def test_replaying_again_in_other_chunks_leaves_what_one_run_leaves(
    tmp_path: Path, request_for: Callable[..., Request], once: dict[str, pl.DataFrame]
) -> None:
    """Chunks of 10 kB and one thread the second time."""
    request = request_for(tmp_path / "twice")
    replay(request)
    replay(replace(request, settings=ReadSettings(chunk_bytes=10_000, threads=1)))

    assert differing(once, answers(tmp_path / "twice")) == []


@pytest.mark.parametrize("batches", [1, 7, 40])
def test_an_interrupted_replay_before_the_whole_leaves_what_one_run_leaves(
    tmp_path: Path,
    request_for: Callable[..., Request],
    once: dict[str, pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    """Ctrl-C after some batches, in the middle of conversations."""
    monkeypatch.setattr("collectors.reading.BATCH_BYTES", 1)
    request = request_for(tmp_path / "again")
    countdown = iter(range(batches, 0, -1))
    stopped = replay(replace(request, settings=ReadSettings(chunk_bytes=5_000)), lambda tally: next(countdown) > 1)

    replay(request)

    assert stopped.was_interrupted
    assert differing(once, answers(tmp_path / "again")) == []


def test_a_capture_that_was_still_being_written_and_then_the_whole_leaves_what_one_run_leaves(
    tmp_path: Path, request_for: Callable[..., Request]
) -> None:
    """The first time its last conversations were there by half; the findings of that file stay its own."""
    request = request_for(tmp_path / "whole", *request_for(tmp_path).paths[:1])
    replay(request)
    half = tmp_path / "half.pcap"
    half.write_bytes(request.paths[0].read_bytes()[: request.paths[0].stat().st_size * 2 // 3])
    replay(replace(request, store=str(tmp_path / "grown"), paths=(half,)))

    replay(replace(request, store=str(tmp_path / "grown")))

    assert differing(answers(tmp_path / "whole"), answers(tmp_path / "grown")) in ([], ["findings"])


def test_an_interrupted_repetition_takes_nothing_away(
    tmp_path: Path, request_for: Callable[..., Request], once: dict[str, pl.DataFrame]
) -> None:
    """Ctrl-C after the first batch of the second run."""
    request = request_for(tmp_path / "kept")
    replay(request)

    replay(request, lambda tally: False)

    assert differing(once, answers(tmp_path / "kept")) == []


def test_one_file_first_and_then_all_leaves_what_one_run_leaves(
    tmp_path: Path, request_for: Callable[..., Request], once: dict[str, pl.DataFrame]
) -> None:
    """Runs that share an input share its flows; the conversations of other files are added."""
    request = request_for(tmp_path / "grown")
    replay(replace(request, paths=request.paths[:1]))

    replay(request)

    assert differing(once, answers(tmp_path / "grown")) in ([], ["findings"])
