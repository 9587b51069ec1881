"""What every detector in the registry promises, whatever it finds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from egress import registry
from egress.contracts import Detector
from egress.errors import UsageError
from egress.signals import SCORES, SIGNALS
from models.guards import RECORD

NAMES = sorted(registry.DETECTORS)
ORDINARY = 40 + 48
"""Windows of the stream before anything strange happens."""
LEAK = ORDINARY + 2
SLOW = ("shape",)
"""Its trees are of Python objects, planted anew at every restart."""
each_detector = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NAMES]
)


def fresh(name: str) -> Detector:
    return next(detector for detector in registry.detectors() if detector.name == name)


def run(detector: Detector, windows: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All scores of a stream, each window scored before it is learned."""
    scores = [SCORES.empty()]
    for window in windows:
        scores.append(detector.score(window))
        detector.learn(window)
    return pl.concat(scores)


@each_detector
@pytest.mark.slow
def test_detector_scores_what_the_contract_says(name: str, stream: list[pl.DataFrame]) -> None:
    """Columns of SCORES, scores in 0..1, a reason, bytes and times in every row; there is something to find.

    What only tells of a baseline that moved has score 0 and counts no bytes.
    """
    scores = run(fresh(name), stream)

    assert scores.height > 0
    assert scores.schema == SCORES.polars
    assert scores["score"].is_between(0, 1).all()
    assert (scores["reason"].str.len_chars() > 0).all()
    assert (scores["what"].str.len_chars() > 0).all()
    assert ((scores["bytes"] > 0) == (scores["score"] > RECORD)).all()
    assert (scores["first"] <= scores["last"]).all()
    assert scores["detector"].unique().to_list() == [name]


@each_detector
@pytest.mark.slow
def test_detector_is_silent_about_ordinary_days(name: str, stream: list[pl.DataFrame]) -> None:
    """The first twelve days hold nothing strange."""
    assert run(fresh(name), stream[:ORDINARY]).filter(pl.col("score") > RECORD).height == 0


@each_detector
@pytest.mark.slow
def test_detector_leaves_its_input_alone(name: str, stream: list[pl.DataFrame]) -> None:
    copies = [window.clone() for window in stream]

    run(fresh(name), stream)

    for window, copy in zip(stream, copies, strict=True):
        assert_frame_equal(window, copy)


@each_detector
@pytest.mark.slow
def test_scoring_changes_nothing(name: str, stream: list[pl.DataFrame]) -> None:
    detector = fresh(name)
    run(detector, stream[:LEAK])
    before = detector.snapshot()

    first, second = detector.score(stream[LEAK]), detector.score(stream[LEAK])

    assert detector.snapshot() == before
    assert_frame_equal(first, second)


@each_detector
@pytest.mark.slow
def test_replay_is_bit_equal(name: str, stream: list[pl.DataFrame]) -> None:
    one, other = fresh(name), fresh(name)

    assert_frame_equal(run(one, stream), run(other, stream))
    assert one.snapshot() == other.snapshot()


@each_detector
@pytest.mark.slow
def test_order_of_rows_inside_a_window_does_not_matter(name: str, stream: list[pl.DataFrame]) -> None:
    one, other = fresh(name), fresh(name)

    assert_frame_equal(run(one, stream), run(other, (window.reverse() for window in stream)))
    assert one.snapshot() == other.snapshot()


@each_detector
@pytest.mark.slow
def test_restart_after_every_window_changes_nothing(name: str, stream: list[pl.DataFrame]) -> None:
    """Saved after each window and restored into a new detector: the same scores, the same state at the end."""
    whole, restarted = fresh(name), fresh(name)
    scores = []
    for window in stream:
        before, restarted = restarted, fresh(name)
        restarted.restore(before.snapshot())
        scores.append(run(restarted, [window]))

    assert_frame_equal(pl.concat(scores), run(whole, stream))
    assert restarted.snapshot() == whole.snapshot()


@each_detector
@pytest.mark.slow
def test_state_is_bounded(name: str, stream: list[pl.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    """With its caps lowered to 20, twice the strangers leave no more state."""
    detector = fresh(name)
    for module in {sys.modules[each.__module__] for each in type(detector).mro()}:
        for cap in [cap for cap in vars(module) if cap.startswith("MAX_")]:
            monkeypatch.setattr(module, cap, 20)

    sizes = []
    for number in range(120):
        detector.learn(_strangers(stream[LEAK], number))
        sizes.append(len(detector.snapshot()))

    assert sizes[119] < 1.2 * sizes[59]


def _strangers(window: pl.DataFrame, number: int) -> pl.DataFrame:
    """The same window as from other hosts to other groups, somewhat later."""
    later = timedelta(minutes=5 * number)
    return window.with_columns(
        pl.format("{}-{}", "host", pl.lit(f"{number:04d}")).alias("host"),
        pl.format("{}-{}", "group", pl.lit(f"{number:04d}")).alias("group"),
        pl.col("window_start", "first", "last") + later,
    )


@each_detector
def test_window_without_rows_says_and_teaches_nothing(name: str) -> None:
    detector = fresh(name)
    before = detector.snapshot()

    detector.learn(SIGNALS.empty())

    assert detector.score(SIGNALS.empty()).height == 0
    assert detector.snapshot() == before


@each_detector
@pytest.mark.parametrize("state", [b"", b"{}", b"[1]", b'{"detector":"other","version":"1","body":{}}'])
def test_state_of_another_is_refused(name: str, state: bytes) -> None:
    """Nothing is executed, nothing half restored."""
    with pytest.raises(UsageError, match=name):
        fresh(name).restore(state)
