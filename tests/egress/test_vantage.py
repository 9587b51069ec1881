"""Each byte counts once, however many sensors saw it, and no broken clock moves the time."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.vantage import dated, largest_view
from tests.egress.strategies import DAY, MODEL_BYTES, NOON, Transfer, cells_of, few, findings_of, site, traffic

IN_1970, IN_2106 = 60_000_000, 4_294_967_295_000_000


@few
@given(traffic, st.sampled_from([IN_1970, IN_2106]), st.integers(1, 5))
@pytest.mark.slow
def test_a_packet_from_2106_moves_no_watermark(transfers: list[Transfer], when: int, count: int) -> None:
    """Nor does one from 1970, nor a few."""
    usual = [Transfer(sent=1), *transfers]
    strange = [Transfer(sent=1, start=when, dst_port=port + 1) for port in range(count)]

    assert dated(cells_of(site(), usual + strange)).watermark == dated(cells_of(site(), usual)).watermark


@pytest.mark.parametrize("when", [IN_1970, IN_2106, NOON + 400 * DAY])
def test_bytes_of_a_broken_clock_are_charged_at_the_nearest_credible_minute(when: int) -> None:
    """They left; only their time is not believed."""
    usual = [Transfer(sent=1, dst_port=port, start=NOON + port * 60_000_000) for port in range(1, 150)]

    (finding,) = findings_of(site(), *usual, Transfer(sent=MODEL_BYTES, start=when))

    assert finding.bytes >= MODEL_BYTES
    assert NOON <= finding.start <= finding.last_seen <= NOON + DAY
    assert any("clock error" in reason for reason in finding.reasons)


@pytest.mark.parametrize("when", [IN_1970, IN_2106])
def test_a_single_cell_of_another_century_is_no_time(when: int) -> None:
    """Even beside a single other one."""
    clock = dated(cells_of(site(), [Transfer(sent=1), Transfer(sent=1, start=when)]))

    assert clock.cells["is_misdated"].sum() == 1
    assert clock.cells["minute"].unique().cast(pl.Int64).to_list() == [NOON]


def test_a_capture_that_holds_only_strange_times_is_believed() -> None:
    """There is nothing better to believe."""
    clock = dated(cells_of(site(), [Transfer(sent=1, start=IN_2106, seconds=0)]))

    assert clock.watermark == IN_2106
    assert not clock.cells["is_misdated"].any()


def test_a_quiet_fortnight_is_no_clock_error() -> None:
    """One transfer in a hundred minutes is too much to be dismissed."""
    clock = dated(cells_of(site(), [Transfer(sent=1), Transfer(sent=1, start=NOON + 14 * DAY, seconds=0)]))

    assert clock.watermark == NOON + 14 * DAY


@few
@given(traffic)
@pytest.mark.slow
def test_a_second_sensor_that_sees_the_same_adds_nothing(transfers: list[Transfer]) -> None:
    """The same bytes are charged once."""
    once = cells_of(site(), transfers)
    twice = cells_of(site(), transfers + [replace(each, sensor="tap") for each in transfers])

    def sums(cells: pl.DataFrame) -> list[int]:
        return [sum(largest_view(cells, ())[name].to_list()) for name in ("sent", "received")]

    assert sums(twice) == sums(once)


def test_a_blind_sensor_hides_nothing_that_another_saw() -> None:
    """For what was sent and what was received the larger view counts, each on its own."""
    views = [Transfer(sent=9_000_000, back=10, sensor="a"), Transfer(sent=20, back=7_000_000, sensor="b")]

    seen = largest_view(cells_of(site(), views), ())

    assert (sum(seen["sent"]), sum(seen["received"])) == (9_000_000, 7_000_000)


def test_sensors_declared_disjoint_add_up() -> None:
    """They compete as one against a sensor that sees everything."""
    halves = [Transfer(sent=6_000_000, sensor=name) for name in ("eth0", "eth1")]
    whole = Transfer(sent=10_000_000, sensor="router")

    seen = largest_view(cells_of(site(), [*halves, whole]), ["capture/eth?"])

    assert sum(seen["sent"]) == 12_000_000


def test_a_tunnel_seen_from_inside_and_outside_counts_once() -> None:
    """One sensor decodes the tunnel, one sees only its outer packets, one only what is inside."""
    inside = Transfer(dst="192.0.2.1", sent=8_000_000, sensor="inner")
    outside = Transfer(dst="198.51.100.1", sent=8_100_000, sensor="outer", proto=47)
    both = replace(inside, tunnel="gre", outer_src="10.0.0.1", outer_dst="198.51.100.1", sensor="decoded")

    seen = largest_view(cells_of(site(), [inside, outside, both]), ())

    assert sum(seen["sent"]) == 8_100_000
