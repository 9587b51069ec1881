"""What each host exchanged with each group in five minutes."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import ledger, signals
from egress.inventory import Inventory
from egress.schema import TIME
from tests.egress.strategies import HOUR, MINUTE, NOON, Transfer, flows_of, site, traffic

SITE = Inventory(site())


def signals_of(*transfers: Transfer, inventory: Inventory = SITE) -> pl.DataFrame:
    return signals.of(inventory.attribute(flows_of(transfers)), inventory)


def test_a_window_holds_what_its_grid_says() -> None:
    """12:04:59 and 12:05:00 are two windows."""
    summed = signals_of(
        Transfer(sent=1, start=NOON + 5 * MINUTE - 11_000_000), Transfer(sent=2, start=NOON + 5 * MINUTE)
    )

    assert summed.select(pl.col("window_start").cast(pl.Int64), "sent").rows() == [(NOON, 1), (NOON + 5 * MINUTE, 2)]


def test_both_ends_of_an_inner_conversation_get_a_row() -> None:
    """What one sent the other received; neither left."""
    summed = signals_of(Transfer(dst="10.0.1.1", sent=5000, back=700))

    assert summed.select("host", "served", "sent_payload", "received_payload", "is_outside").rows() == [
        ("h1", False, 5000, 700, False),
        ("h2", True, 700, 5000, False),
    ]


@pytest.mark.parametrize(
    ("remote", "group", "is_outside"),
    [
        ("198.51.100.77", "198.51.100.0/24", True),
        ("2001:db8:7:8::9", "2001:db8:7::/48", True),
        ("10.9.9.9", "10.9.9.0/24", False),
        ("224.0.0.251", "224.0.0.0/24", False),
    ],
)
def test_group_is_the_neighbourhood_of_the_remote_address(remote: str, group: str, is_outside: bool) -> None:
    rows = signals_of(Transfer(dst=remote, sent=1)).filter(pl.col("host") == "h1")

    assert rows.select("group", "is_outside").rows() == [(group, is_outside)]


def test_a_tunnel_that_leaves_is_grouped_by_where_its_packets_go() -> None:
    """The sender chooses the inner address, so it must not decide."""
    tunnel = Transfer(dst="203.0.113.5", sent=1, tunnel="gre", outer_src="10.0.0.1", outer_dst="198.51.100.10")

    rows = signals_of(tunnel, replace(tunnel, dst="10.200.0.1"))

    assert rows.select("host", "group", "is_encapsulated", "flows").unique().rows() == [
        ("h1", "198.51.100.0/24", True, 2)
    ]


def test_an_overlay_inside_is_grouped_by_its_inner_address() -> None:
    """The underlay is ours: what leaves is what the inner address says."""
    tunnel = Transfer(dst="203.0.113.5", sent=1, tunnel="vxlan", outer_src="10.0.0.1", outer_dst="10.0.1.1")

    rows = signals_of(tunnel).filter(pl.col("host") == "h1")

    assert rows.select("group", "is_outside", "is_encapsulated").rows() == [("203.0.113.0/24", True, False)]


def test_smallest_held_model_stands_beside_its_host() -> None:
    """h1 holds the one of 24,000,352 B, h2 none."""
    rows = signals_of(Transfer(dst="10.0.1.1", sent=1))

    assert rows.select("host", "model_bytes").rows() == [("h1", 24_000_352), ("h2", 0)]


def test_small_messages_do_not_hide_large_ones_beside_them() -> None:
    """Rows are judged one by one: 1,400 B in one packet are 1,304 beyond, however many pings come along."""
    flows = flows_of([Transfer(sent=1400), Transfer(sent=60)])
    flows = pl.concat([flows[:1], *[flows[1:]] * 20]).with_columns(src_packets=pl.lit(1, pl.UInt64))

    assert signals.of(SITE.attribute(flows), SITE)["oversize"].to_list() == [1304]


@settings(max_examples=30, deadline=None)
@given(traffic, st.data())
@pytest.mark.slow
def test_batches_and_their_order_do_not_matter(transfers: list[Transfer], data: st.DataObject) -> None:
    """However rows are dealt into batches, the sums are the same frame."""
    flows = SITE.attribute(flows_of(transfers))
    hands = data.draw(st.lists(st.integers(0, 2), min_size=flows.height, max_size=flows.height))
    parts = [flows.filter(pl.Series(hands, dtype=pl.Int64) == hand) for hand in (2, 0, 1)]

    dealt = signals.add([signals.of(part, SITE) for part in parts])

    assert_frame_equal(dealt, signals.of(flows, SITE))


@settings(max_examples=30, deadline=None)
@given(traffic)
@pytest.mark.slow
def test_signals_and_cells_charge_the_same_bytes(transfers: list[Transfer]) -> None:
    """Per host, sent and received: what detectors see is what the ledger charges."""
    flows = SITE.attribute(flows_of(transfers))
    sums = [pl.col("sent", "received").cast(pl.Int128).sum()]

    by_signals = signals.of(flows, SITE).group_by("host").agg(sums).sort("host")
    by_cells = ledger.cells_of(flows).group_by("host").agg(sums).sort("host")

    assert_frame_equal(by_signals, by_cells)


def test_two_sensors_do_not_double() -> None:
    """The one that saw most counts; a window that only the other saw counts too."""
    one = Transfer(sent=100, sensor="a")
    seen = signals_of(one, replace(one, sent=90, sensor="b"), replace(one, sensor="b", start=NOON + HOUR))

    kept = signals.one_vantage(seen)

    assert kept.select("sensor", "sent").rows() == [("capture/a", 100), ("capture/b", 100)]


def test_no_parts_are_no_signals() -> None:
    assert_frame_equal(signals.add([]), signals.SIGNALS.empty())
    assert signals.SIGNALS.polars["first"] == TIME


def test_a_long_record_is_spread_over_its_windows() -> None:
    """From 12:00 for nearly ten minutes, 600 B: half in each window, whole bytes, times cut to the grid."""
    rows = signals_of(Transfer(sent=600, start=NOON, seconds=599))

    assert rows.select("sent_payload", "flows").rows() == [(300, 0), (300, 1)]
    assert rows["first"].cast(pl.Int64).to_list() == [NOON, NOON + 5 * MINUTE]
    assert rows["last"].cast(pl.Int64).to_list() == [NOON + 5 * MINUTE - 1, NOON + 599_000_000]


def test_a_record_of_days_is_spread_over_hours() -> None:
    """So that no row makes more than some 750 windows."""
    rows = signals_of(Transfer(sent=4800, start=NOON, seconds=2 * 86_400))

    assert rows.height == 49
    assert rows["sent_payload"].sum() == 4800


@pytest.mark.parametrize("seconds", [-5, 32 * 86_400])
def test_a_record_with_a_broken_clock_counts_where_it_ends(seconds: int) -> None:
    rows = signals_of(Transfer(sent=4800, start=NOON, seconds=seconds))

    assert rows["sent_payload"].to_list() == [4800]
    assert rows["window_start"].cast(pl.Int64).to_list() == [(NOON + seconds * 1_000_000) // (5 * MINUTE) * 5 * MINUTE]


def test_windows_of_a_host_with_a_finding_are_tied() -> None:
    """From the window after the finding stood on; those of other hosts, and all else, are as they were."""
    seen = signals_of(*(Transfer(sent=5, start=NOON + n * 5 * MINUTE) for n in range(4)), Transfer("10.0.1.1", sent=5))
    spans = pl.DataFrame({"host": ["h1"], "begin": [NOON + 2 * MINUTE], "end": [NOON + 12 * MINUTE]})

    marked = signals.tied(seen, spans)

    when = marked.filter("is_tied").select("host", minute=(pl.col("window_start").cast(pl.Int64) - NOON) // MINUTE)
    assert when.rows() == [("h1", 5), ("h1", 10)]
    assert_frame_equal(marked.drop("is_tied"), seen.drop("is_tied"))
    assert not seen["is_tied"].any()
