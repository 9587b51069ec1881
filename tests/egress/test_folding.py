"""The memoised fold of detectors: what `detect.scores_of` says, with less work."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import registry, signals
from egress.addresses import bytes_of
from egress.detect import scores_of
from egress.errors import UsageError
from egress.folding import CHANGES, DAYS, HOURS, Fold
from egress.inventory import Inventory
from egress.windows import WINDOW_US
from tests.egress.dayparts import by_day
from tests.egress.strategies import DAY, HOUR, NOON, Transfer, few, flows_of, site
from tests.egress.witness import Witness, witnesses

SITE = Inventory(site())


def scores(fold: Fold, state: pl.DataFrame) -> pl.DataFrame:
    return fold.scores(by_day(state, "window_start"))


def seen(*transfers: Transfer) -> pl.DataFrame:
    return signals.of(SITE.attribute(flows_of(transfers)), SITE)


def ordinary(windows: int, each: int = WINDOW_US) -> list[Transfer]:
    return [Transfer(sent=1000 + number, start=NOON + number * each) for number in range(windows)]


places = st.one_of(st.integers(0, 40), st.integers(0, 900), st.sampled_from([0, 11, 12, 287, 288, 289, 4000]))
arrivals = st.lists(
    st.lists(st.tuples(places, st.sampled_from(["198.51.100.10", "203.0.113.5"]), st.integers(1, 9)), max_size=5),
    max_size=6,
)


@pytest.mark.slow
@few
@given(arrivals, st.sets(st.integers(0, 5)))
def test_growing_states_score_as_from_scratch(dealt: list[list[tuple[int, str, int]]], restarts: set[int]) -> None:
    """Whatever comes, however late, in whatever portions, and however often the process is started anew."""
    fold, so_far = Fold(witnesses), seen()
    for number, portion in enumerate(dealt):
        came = [Transfer(dst=to, sent=sent, start=NOON + place * WINDOW_US) for place, to, sent in portion]
        so_far = signals.add([so_far, seen(*came)])
        assert_frame_equal(scores(fold, so_far), scores_of(so_far, witnesses))
        if number in restarts:
            fold = restarted(fold)


def restarted(fold: Fold) -> Fold:
    other = Fold(witnesses)
    other.restore(fold.snapshot())
    return other


@pytest.mark.slow
def test_real_detectors_score_as_from_scratch() -> None:
    """Five days of an hour each, a leak, and a late row two days back, asked seven times."""
    days = [Transfer(sent=50_000 + 7 * n, start=NOON + n * HOUR) for n in range(120)]
    leak = Transfer(sent=9_000_000, dst="203.0.113.5", start=NOON + 121 * HOUR)
    late = Transfer(sent=5_000_000, dst="203.0.113.9", start=NOON + 70 * HOUR)
    fold = Fold(registry.detectors)
    for came in (days[:30], days[:90], days, [*days, leak], [*days, leak, late]):
        so_far = seen(*came)
        assert_frame_equal(scores(fold, so_far), scores_of(so_far, registry.detectors))
        fold, before = Fold(registry.detectors), fold
        fold.restore(before.snapshot())
    assert scores_of(so_far, registry.detectors).height > 0


@pytest.mark.slow
def test_a_state_that_grows_at_its_end_costs_what_is_new() -> None:
    """Thirty windows one by one: each is scored while it is the last, and learned once."""
    fold, transfers = Fold(witnesses), ordinary(30)
    for number in range(30):
        scores(fold, seen(*transfers[: number + 1]))
    assert (fold.scored, fold.learned) == (30, 29)


def test_asking_again_costs_nothing() -> None:
    fold, state = Fold(witnesses), seen(*ordinary(30))
    scores(fold, state)
    scores(fold, state)
    assert (fold.scored, fold.learned) == (30, 29)


@pytest.mark.slow
def test_two_windows_that_fill_at_once_cost_two() -> None:
    """Hosts are never quite equally far: the window before the last goes on changing."""
    fold, transfers = Fold(witnesses), ordinary(30)
    scores(fold, seen(*transfers))
    before = fold.scored, fold.learned
    for more in range(1, 6):
        late = [Transfer(dst="203.0.113.5", sent=each + 1, start=NOON + 28 * WINDOW_US) for each in range(more)]
        scores(fold, seen(*transfers, *late))
    # The first time it goes back to the hour's beginning, 24 windows after the first.
    assert (fold.scored - before[0], fold.learned - before[1]) == (5 * 2, 5 + 4)


@pytest.mark.slow
def test_what_is_late_by_a_day_costs_a_day() -> None:
    """Of a week of hours, not more than one day and the hours since are learned again."""
    fold, hours = Fold(witnesses), ordinary(7 * 24, HOUR)
    scores(fold, seen(*hours))
    before = fold.learned
    late = Transfer(dst="203.0.113.5", sent=1, start=NOON + 6 * DAY + HOUR)
    scores(fold, seen(*hours, late))
    assert fold.learned - before < 48


@pytest.mark.slow
@pytest.mark.parametrize("place", [11, 23, 22, 24])
def test_a_change_beside_a_checkpoint_is_seen(place: int) -> None:
    """What was learned just before an hour began, or just after, is not what is there now."""
    fold, transfers = Fold(witnesses), ordinary(30)
    scores(fold, seen(*transfers))
    changed = seen(*transfers, Transfer(dst="203.0.113.5", sent=1, start=NOON + place * WINDOW_US))
    assert_frame_equal(scores(fold, changed), scores_of(changed, witnesses))


@pytest.mark.slow
def test_memory_is_bounded_by_checkpoints() -> None:
    """However long it runs, it holds as many saved states as it says."""
    fold = Fold(witnesses)
    for hours in range(1, 60):
        scores(fold, seen(*ordinary(hours, HOUR)))
    assert len(fold._checkpoints) <= HOURS + DAYS + CHANGES


def test_restored_scores_are_not_judged_again() -> None:
    fold, transfers = Fold(witnesses), ordinary(40)
    scores(fold, seen(*transfers))
    again = restarted(fold)
    scores(again, seen(*transfers))
    assert again.scored < 24


@pytest.mark.parametrize("state", [b"", b"x", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_state_that_cannot_be_read_is_refused(state: bytes) -> None:
    with pytest.raises(UsageError, match="saved scores"):
        Fold(witnesses).restore(state)


def test_state_of_other_detectors_is_refused() -> None:
    fold = Fold(witnesses)
    scores(fold, seen(Transfer(src="10.0.0.1", dst="198.51.100.1", sent=5)))
    with pytest.raises(UsageError, match="needed"):
        Fold(lambda: [Witness("third")]).restore(fold.snapshot())


def test_changed_signals_under_a_snapshot_are_judged_anew() -> None:
    """The state may have gone on, or back, while nobody ran: a memo never speaks against it."""
    fold = Fold(witnesses)
    scores(fold, seen(*ordinary(40)))
    other = seen(*ordinary(39), Transfer(dst="203.0.113.5", sent=3, start=NOON))
    again = restarted(fold)
    assert_frame_equal(scores(again, other), scores_of(other, witnesses))


def test_addresses_alone_make_a_difference() -> None:
    """A row may change in its last column only."""
    fold, state = Fold(witnesses), seen(*ordinary(3))
    scores(fold, state)
    other = state.with_columns(high_address=pl.lit(bytes_of("198.51.100.77")))
    assert_frame_equal(scores(fold, other), scores_of(other, witnesses))
