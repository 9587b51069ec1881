"""The laws of sums, for every kind: what is kept of flows may not depend on how they came."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import portions
from egress.inventory import Inventory
from egress.sums import KINDS, Kind, Sums
from tests.egress.strategies import NOON, SECOND, Transfer, address_of, few, flows_of, site, traffic

SITE = Inventory(site())
MANY = [
    Transfer(address_of(n % 3 + 1), sent=5_000 * n, start=NOON + n % 7 * 100 * SECOND, dst_port=n % 4, seconds=n)
    for n in range(40)
]
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


@pytest.mark.slow
@each_kind
def test_portions_and_packing_leave_no_trace(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts on both sides of a border between portions, and sums that were asked for on the way."""
    monkeypatch.setattr(portions, "PORTION_ROWS", 1)
    rows = SITE.attribute(flows_of(MANY)).filter(pl.col("host") != "")
    parts = [kind.of(rows[at : at + 3], SITE) for at in range(0, rows.height, 3)]
    sums = Sums(kind.add, kind.key[0], open_rows=2)

    for number, part in enumerate(parts):
        sums.append(part)
        if number == len(parts) // 2:
            sums.total()

    assert rows["host"].n_unique() > 2
    assert_frame_equal(sums.total(), kind.add(parts))
