"""Sums in pieces: whatever comes in whatever order, packed, opened and restored, they are what all of it joins to."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import piece
from egress.heartbeats import HEARTBEATS
from egress.packing import unpack
from egress.pieces import CUTS, Pieces
from egress.schema import TIME, Table
from tests.egress.strategies import HOUR, NOON, few

CUT = {cut.table.name: cut for cut in CUTS}


def beats(times: list[int], host: str = "h1") -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Int64).cast(TIME),
            "host": host,
            "seq": pl.Series(times, dtype=pl.UInt64),
            **dict.fromkeys(("sensor", "boot", "epoch", "version"), ""),
            **{name: pl.Series([1] * len(times), dtype=pl.UInt64) for name in HEARTBEATS.names[6:12]},
        }
    )
    return frame.select(HEARTBEATS.names)


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(CUT["heartbeats"].key)


times = st.lists(st.integers(0, 40).map(lambda hour: NOON + hour * HOUR), min_size=1, max_size=5)


@pytest.mark.slow
@few
@given(st.lists(times, min_size=1, max_size=30), st.integers(0, 2**32))
def test_any_order_late_rows_and_restarts_leave_all_rows(said: list[list[int]], seed: int) -> None:
    """A day and a bit lie open: with 40 hours of them some are packed, opened for what comes late, and packed again."""
    rng, kept, saved = random.Random(seed), Pieces(CUT["heartbeats"]), dict[str, bytes]()
    for each in said:
        kept.join(beats(each), task=rng.randrange(2))
        if rng.random() < 0.3:
            saved |= dict(kept.changed())
        if rng.random() < 0.2:
            saved |= dict(kept.changed())
            kept = restored(saved)

    expected = beats(sorted({time for each in said for time in each}))
    assert_frame_equal(in_order(kept.total()), in_order(expected))
    assert_frame_equal(pl.concat([day.opened() for day in kept.days()]), kept.total())


def restored(saved: dict[str, bytes]) -> Pieces:
    kept = Pieces(CUT["heartbeats"])
    for key in random.Random(0).sample(sorted(saved), len(saved)):
        kept.restore(key, saved[key])
    return kept


def of_hours(hours: int) -> Pieces:
    kept = Pieces(CUT["heartbeats"])
    for hour in range(hours):
        kept.join(beats([NOON + hour * HOUR]))
    return kept


def test_what_nothing_came_of_for_a_day_lies_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def counted(data: bytes, table: Table, most_bytes: int) -> pl.DataFrame:
        opened.append(data)
        return unpack(data, table, most_bytes)

    monkeypatch.setattr(piece, "unpack", counted)
    kept = of_hours(72)

    assert [(day.opened().height, len(opened)) for day in reversed(kept.days())] == [
        (12, 0),
        (24, 11),
        (24, 35),
        (12, 47),
    ]


def test_a_day_has_another_version_once_something_came_of_it() -> None:
    kept = of_hours(72)
    before = [day.version for day in kept.days()]
    kept.join(beats([NOON + 30 * HOUR + 1]))

    is_other = [day.version != version for day, version in zip(kept.days(), before, strict=True)]
    assert is_other == [False, True, False, False]


def test_what_was_restored_is_not_saved_again() -> None:
    saved = dict(of_hours(30).changed())
    kept = restored(saved)
    assert list(kept.changed()) == []
    kept.join(beats([NOON + 1]))
    assert [key for key, _ in kept.changed()] == [min(saved)]


@pytest.mark.parametrize("torn", range(6))
def test_a_save_that_is_torn_loses_nothing(torn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of several keys: rows that come first move all others to higher numbers."""
    monkeypatch.setattr(piece, "ROWS_TOGETHER", 2)
    kept = Pieces(CUT["heartbeats"])
    kept.join(beats([NOON + second for second in range(5, 10)]))
    saved = dict(kept.changed())
    kept.join(beats([NOON + second for second in range(5)]))
    saved |= dict(list(kept.changed())[:torn])

    times = restored(saved).total()["time"].cast(pl.Int64) - NOON
    assert set(range(5, 10)) <= set(times)
