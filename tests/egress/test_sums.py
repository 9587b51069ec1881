"""The laws of sums, for every kind: what is kept of flows may not depend on how they came."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.inventory import Inventory
from egress.sums import KINDS, Kind
from tests.egress.strategies import Transfer, few, flows_of, site, traffic

SITE = Inventory(site())
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def summed(kind: Kind, transfers: list[Transfer]) -> pl.DataFrame:
    rows = SITE.attribute(flows_of(transfers))
    return kind.add([kind.of(rows.filter(pl.col("host") != ""), SITE)])


@pytest.mark.slow
@each_kind
@few
@given(traffic, st.integers(0, 8))
def test_states_of_a_prefix_join_to_the_later_one(kind: Kind, dealt: list[Transfer], cut: int) -> None:
    """A task that was killed publishes what it knew; its successor publishes more."""
    earlier, whole = summed(kind, dealt[:cut]), summed(kind, dealt)
    assert_frame_equal(kind.join([earlier, whole]), whole)
    assert_frame_equal(kind.join([whole, earlier, whole]), whole)


@pytest.mark.slow
@each_kind
@few
@given(traffic, st.integers(0, 8))
def test_parts_add_up_to_the_whole(kind: Kind, dealt: list[Transfer], cut: int) -> None:
    assert_frame_equal(kind.add([summed(kind, dealt[cut:]), summed(kind, dealt[:cut])]), summed(kind, dealt))


@pytest.mark.slow
@each_kind
@few
@given(traffic)
def test_frames_are_what_is_declared(kind: Kind, dealt: list[Transfer]) -> None:
    """They travel under this schema, each key once."""
    sums = summed(kind, dealt)
    assert sums.schema == kind.table.polars
    assert not sums.select(pl.struct(kind.key).is_duplicated().any()).item()
    assert {"host", "sensor", kind.time} <= set(kind.key)


@pytest.mark.slow
@each_kind
@few
@given(traffic)
def test_a_row_adds_to_nothing_older_than_its_span(kind: Kind, dealt: list[Transfer]) -> None:
    times = summed(kind, dealt)[kind.time].cast(pl.Int64)
    assert all(time > min(each.start for each in dealt) - kind.span_us for time in times)
