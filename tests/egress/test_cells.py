"""Bytes are conserved from flows to cells, however the flows are cut, ordered or seen."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import ledger
from egress.cells import DAY_US, HOUR_US, MINUTE_US
from egress.inventory import Inventory
from egress.schema import CELLS
from tests.egress.strategies import (
    DAY,
    HOUR,
    NOON,
    Transfer,
    cells_of,
    few,
    flows_of,
    outside,
    site,
    sizes,
    starts,
    traffic,
)

INVENTORY = Inventory(site())


def total(frame: pl.DataFrame, column: str) -> int:
    return sum(frame[column].to_list())


@few
@given(traffic)
@pytest.mark.slow
def test_bytes_are_conserved_exactly(transfers: list[Transfer]) -> None:
    """What the charging formula gives for each row is what its cells hold, whatever minutes they cover."""
    flows = INVENTORY.attribute(flows_of(transfers)).filter(pl.col("host") != "")

    cells = ledger.cells_of(flows)

    sent = received = 0
    for row in flows.iter_rows(named=True):
        for side in ("src", "dst"):
            amount = max(row[f"{side}_payload"], row[f"{side}_bytes"] - 80 * row[f"{side}_packets"], 0)
            sent += amount if row["side"] == side else 0
            received += 0 if row["side"] == side else amount
    assert (total(cells, "sent"), total(cells, "received")) == (sent, received)


@few
@given(traffic, st.randoms(use_true_random=False), st.integers(1, 4))
@pytest.mark.slow
def test_batches_and_their_order_change_nothing(transfers: list[Transfer], random: st.DrawFn, size: int) -> None:
    """Cells of any batches, in any order, add up to the cells of all rows."""
    flows = INVENTORY.attribute(flows_of(transfers))
    rows = list(range(flows.height))
    random.shuffle(rows)
    batches = [flows[rows[begin : begin + size]] for begin in range(0, len(rows), size)]

    summed = ledger.add([ledger.cells_of(batch) for batch in batches])

    assert summed.equals(ledger.cells_of(flows))


@few
@given(traffic, traffic)
@pytest.mark.slow
def test_merging_is_idempotent_and_commutative(some: list[Transfer], others: list[Transfer]) -> None:
    """States that were replayed, duplicated or crossed on the way merge into one."""
    a, b = cells_of(site(), some), cells_of(site(), [*some, *others])

    assert ledger.join([a, a]).equals(a)
    assert ledger.join([a, b]).equals(ledger.join([b, a]))
    assert ledger.join([a, b]).equals(b)


@few
@given(traffic)
@pytest.mark.slow
def test_swapping_the_initiator_changes_no_gross_charge(transfers: list[Transfer]) -> None:
    """Who opened the conversation says nothing about who sent."""
    key = ["host", "remote_ip", "outer_ip", "minute"]

    def gross(each: list[Transfer]) -> pl.DataFrame:
        return cells_of(site(), each).group_by(key).agg(pl.col("sent", "received").sum()).sort(key)

    assert gross([transfer.turned() for transfer in transfers]).equals(gross(transfers))


@pytest.mark.slow
@few
@given(sizes, outside)
def test_a_pull_costs_less_than_a_thousandth(size: int, remote: str) -> None:
    """Bare ACKs cost nothing."""
    cells = cells_of(site(), [Transfer(dst=remote, sent=0, back=size)])

    assert total(cells, "sent") * 1000 <= size


@few
@given(traffic, traffic)
@pytest.mark.slow
def test_gross_sums_are_monotone(some: list[Transfer], more: list[Transfer]) -> None:
    """No further row makes any cell smaller."""
    key = [name for name in CELLS.names if name not in ("sent", "received", "missed", "first", "last")]
    before, after = cells_of(site(), some), cells_of(site(), [*some, *more])

    joined = before.join(after, on=key, how="left", suffix="_after", nulls_equal=True)

    assert joined.filter(pl.col("sent_after").fill_null(0) < pl.col("sent")).is_empty()
    assert joined.filter(pl.col("received_after").fill_null(0) < pl.col("received")).is_empty()


def test_bulk_in_ip_options_is_charged() -> None:
    """40 bytes of options in each of a million packets without payload are 40 MB that left."""
    packets, header, options = 1_000_000, 60, 60
    flows = INVENTORY.attribute(flows_of([Transfer()])).with_columns(
        src_packets=pl.lit(packets, pl.UInt64), src_bytes=pl.lit(packets * (header + options), pl.UInt64)
    )

    assert total(ledger.cells_of(flows), "sent") == packets * (header + options - 80)


def test_forged_sequence_numbers_hide_nothing() -> None:
    """Retransmitted bytes crossed the wire; they are explained, never taken off."""
    flows = INVENTORY.attribute(flows_of([Transfer(sent=5000)])).with_columns(retransmits=pl.lit(5000, pl.UInt64))

    assert total(ledger.cells_of(flows), "sent") == 5000


def test_a_long_row_is_spread_in_proportion_to_time() -> None:
    """30.3 and 60.7 bytes of 91, and an instant of the third minute: the odd byte goes to the larger remainder."""
    cells = cells_of(site(), [Transfer(sent=91, start=NOON + 30 * 1_000_000, seconds=90)])

    assert cells["sent"].to_list() == [30, 61, 0]


def test_a_row_of_days_costs_a_bounded_number_of_cells() -> None:
    """Beyond a day by the hour, beyond 31 days wholly at the end."""
    month = cells_of(site(), [Transfer(sent=10**9, seconds=30 * DAY // 1_000_000)])
    years = cells_of(site(), [Transfer(sent=10**9, seconds=400 * DAY // 1_000_000)])

    assert (month.height, total(month, "sent")) == (30 * 24 + 1, 10**9)
    assert years["minute"].cast(pl.Int64).to_list() == [NOON + 400 * DAY]
    assert (MINUTE_US, HOUR_US, DAY_US) == (HOUR // 60, HOUR, DAY)


def test_a_row_that_ends_before_it_starts_is_charged_at_its_end() -> None:
    """A clock that stepped back loses no bytes."""
    cells = cells_of(site(), [Transfer(sent=1000, start=NOON + HOUR, seconds=-3600)])

    assert cells.select(pl.col("minute").cast(pl.Int64), "sent").row(0) == (NOON, 1000)


@pytest.mark.slow
@few
@given(starts, st.integers(0, 2 * 3600), sizes)
def test_every_cell_lies_inside_its_minute_and_its_row(start: int, seconds: int, size: int) -> None:
    """`first` and `last` are what level times are interpolated between."""
    cells = cells_of(site(), [replace(Transfer(), sent=size, start=start, seconds=seconds)])
    times = cells.select(pl.col("minute", "first", "last").cast(pl.Int64))

    for minute, first, last in times.iter_rows():
        assert max(start, minute) == first <= last == min(start + seconds * 1_000_000, minute + MINUTE_US - 1)
