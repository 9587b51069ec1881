"""Rows are cut into the same messages, however they came."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress import wire
from egress.inventory import Inventory
from egress.parcels import MESSAGE_ROWS, PACED_SLICE_US, SLICE_ROWS, Cutter
from egress.schema import FLOWS
from egress.segments import Parcel
from tests.egress.collected import (
    busy,
)
from tests.egress.strategies import site


def cutter() -> Cutter:
    return Cutter("flows", wire.FLOWS_V1, "replay", "e", "start", PACED_SLICE_US)


def cut_in(rows: pl.DataFrame, sizes: list[int]) -> list[Parcel]:
    """All messages of rows that come in pieces of these sizes, the rest at once."""
    one, found, at = cutter(), [], 0
    for size in [*sizes, rows.height]:
        found += one.cut(rows[at : at + size])
        at += size
    return [*found, *one.rest()]


ATTRIBUTED = Inventory(site()).attribute(busy(9_000))


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 4000), max_size=6))
def test_messages_do_not_depend_on_how_the_source_was_cut(sizes: list[int]) -> None:
    assert cut_in(ATTRIBUTED, sizes) == cut_in(ATTRIBUTED, [])


@pytest.mark.slow
def test_a_message_is_of_one_host_10_seconds_and_8192_rows_at_most() -> None:
    messages = [wire.decode(each.value, each.headers) for each in cut_in(ATTRIBUTED, [])]

    for header, part in messages:
        assert part["host"].unique().to_list() == [header.host]
        assert part.height <= MESSAGE_ROWS
    longest = max((part["start"].max() - part["start"].min()).total_seconds() for _, part in messages)
    assert longest <= PACED_SLICE_US / 1e6
    assert sum(part.height for _, part in messages) == ATTRIBUTED.height
    numbers = Counter(header.host for header, _ in messages)
    assert all([h.seq for h, _ in messages if h.host == host] == list(range(n)) for host, n in numbers.items())


@pytest.mark.slow
def test_a_clock_that_went_wrong_cuts_slices_by_rows() -> None:
    """One row from 2106, then a year of traffic: nothing is held back for ever."""
    odd = ATTRIBUTED[:1].with_columns(start=pl.lit(4_300_000_000_000_000).cast(FLOWS.polars["start"]))
    odd = odd.with_columns(end=pl.col("start"))
    one, times = cutter(), SLICE_ROWS // ATTRIBUTED.height + 1

    found = [each for rows in [odd, *[ATTRIBUTED] * times] for each in one.cut(rows)]

    assert sum(each.rows for each in found) == SLICE_ROWS
    assert sum(each.rows for each in one.rest()) == ATTRIBUTED.height * times + 1 - SLICE_ROWS


def test_a_row_that_cannot_travel_is_counted_and_its_neighbours_go() -> None:
    bad = ATTRIBUTED[5:6].with_columns(name=pl.lit("x" * 9000))
    one = cutter()

    found = [*one.cut(pl.concat([ATTRIBUTED[:5], bad, ATTRIBUTED[6:40]])), *one.rest()]

    assert one.refused == {"impossible_value": 1}
    assert sum(each.rows for each in found) == 39
