"""Frames of the corpus with bytes changed at random: the product and the independent decoder must read them alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egress.contracts import Count
from tests.corpus.conftest import meter_now
from tests.corpus.conversations import Way, of_capture
from tests.corpus.oracle_decoder import LINKS
from tests.corpus.oracle_reader import Frame, frames
from tests.corpus.rewrap import SLL, SLL2, Timed, pcap

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

FRAMES_OF_EACH = 4
DIRECTIONLESS = sorted(set(LINKS) - {SLL, SLL2})
"""Cooked links say which way and where a frame was seen, so damage there makes views that compete."""
HEADERS = 90
"""Bytes from the front that are worth damaging."""
MOST_DAMAGE = 3
FRAMES_A_FILE = 300


@pytest.mark.parametrize("seed", range(3))
def test_damaged_frames_are_read_alike(seed: int, captures: list[Path], tmp_path: Path) -> None:
    """Lengths, versions, offsets, flags, ports at any value: conserved, and the same packets, bytes and payload."""
    dice = np.random.Generator(np.random.PCG64(seed))
    wrong, read = [], Count()
    for link, damaged in _by_link(captures, dice).items():
        for number, some in enumerate(_groups(damaged)):
            path = tmp_path / f"{link}-{number}.pcap"
            path.write_bytes(pcap([Timed(1_600_000_000_000_000 + place, one) for place, one in enumerate(some)]))
            expected, metered = of_capture(path)[0], meter_now(path)
            tally, actual = metered.tally, metered.sums
            keys = [key for key in set(expected) | set(actual) if _numbers(expected[key]) != _numbers(actual[key])]
            wrong += [f"{path}: {key}: decoder {expected[key]}, ours {actual[key]}" for key in sorted(keys)]
            assert tally.read == sum(tally.skipped.values(), tally.metered)
            read += tally.read

    assert wrong == []
    assert read.frames > 1000


def _by_link(captures: list[Path], dice: np.random.Generator) -> dict[int, list[Frame]]:
    found: dict[int, list[Frame]] = {}
    for path in captures:
        whole = [frame for frame in frames(path) if frame.link in DIRECTIONLESS and frame.data]
        for place in dice.choice(len(whole), min(len(whole), FRAMES_OF_EACH), replace=False) if whole else ():
            found.setdefault(whole[place].link, []).append(_damaged(whole[place], dice))
    return found


def _damaged(frame: Frame, dice: np.random.Generator) -> Frame:
    data = bytearray(frame.data)
    for _ in range(dice.integers(1, MOST_DAMAGE + 1)):
        place = dice.integers(0, min(len(data), HEADERS))
        bit = data[place] ^ 1 << int(dice.integers(0, 8))
        data[place] = int(dice.choice([0, 255, bit, dice.integers(0, 256)]))
    if dice.random() < 0.2:
        data = data[: dice.integers(0, len(data) + 1)]
    wire = int(dice.integers(0, 70_000)) if dice.random() < 0.1 else frame.wire
    return replace(frame, data=bytes(data), wire=max(wire, len(data)))


def _groups(damaged: list[Frame]) -> Iterator[list[Frame]]:
    for start in range(0, len(damaged), FRAMES_A_FILE):
        yield damaged[start : start + FRAMES_A_FILE]


def _numbers(ways: tuple[Way, Way]) -> list[tuple[int, int, int]]:
    return [(way.packets, way.ip_bytes, way.payload) for way in ways]
