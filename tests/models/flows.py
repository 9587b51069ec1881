"""What tests of detectors speak of: flows, windows of signals, and a detector that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import polars as pl
import pytest

from egress.contracts import Detector
from egress.signals import SCORES

START = datetime(2026, 11, 2, tzinfo=UTC)
THIEF = "198.51.100.9"

Flow = dict[str, object]
MakeFlow = Callable[..., Flow]
Windowed = Callable[[Iterable[Flow]], list[pl.DataFrame]]
Find = Callable[[Iterable[Flow]], pl.DataFrame]


def run(detector: Detector, windows: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Scores of windows, each scored before it is learned."""
    scores = [SCORES.empty()]
    for window in windows:
        scores.append(detector.score(window))
        detector.learn(window)
    return pl.concat(scores)


def finder(detector: Callable[[], Detector]) -> Callable[..., Find]:
    """A fixture: flows in, scores of a detector out that has learned nothing yet."""

    @pytest.fixture
    def find(windowed: Windowed) -> Find:
        return lambda flows: run(detector(), windowed(flows))

    return find
