"""One line a host and hour: counted by hand, and the same for any batches."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress import features, signals
from egress.inventory import Inventory
from egress.windows import WINDOW_US
from tests.egress.strategies import HOUR, MINUTE, NOON, Transfer, few, flows_of, site, traffic

SITE = Inventory(site())


def signals_of(*transfers: Transfer) -> pl.DataFrame:
    return signals.add([signals.of(SITE.attribute(flows_of(transfers)), SITE)])


def of(*transfers: Transfer, span_us: int = HOUR) -> list[dict[str, object]]:
    """Lines of h1."""
    return features.of(signals_of(*transfers), span_us).filter(pl.col("host") == "h1").to_dicts()


def to(number: int, sent: int = 1400, at: int = 0, **others: object) -> Transfer:
    return Transfer(dst=f"198.51.{number}.10", sent=sent, start=NOON + at, **others)  # type: ignore[arg-type]  # test values


def test_an_hour_adds_up_what_left_and_what_came() -> None:
    """Outside and inside apart."""
    (hour,) = of(to(1, 14_000, back=1400), to(1, 1400, at=50 * MINUTE), Transfer(dst="10.0.1.1", sent=2800, back=4200))

    assert (hour["sent"], hour["received"], hour["sent_payload"]) == (15_400, 1400, 15_400)
    assert (hour["sent_inside"], hour["received_inside"]) == (2800, 4200)
    assert hour["ratio"] == (15_400 - 1400) / (15_400 + 1400)
    assert (hour["flows"], hour["bytes_per_flow"]) == (3, (15_400 + 1400 + 2800 + 4200) / 3)


def test_hours_and_windows_lie_on_the_grid() -> None:
    transfers = to(1, at=4 * MINUTE), to(1, at=6 * MINUTE), to(1, at=61 * MINUTE)

    assert [each["sent"] for each in of(*transfers)] == [2800, 1400]
    assert [each["sent"] for each in of(*transfers, span_us=WINDOW_US)] == [1400, 1400, 1400]


def test_a_destination_is_new_once() -> None:
    """For each host by itself."""
    first, second = of(to(1), to(2), to(2, at=HOUR), to(3, at=HOUR), Transfer("10.0.1.1", "198.51.3.10", sent=5))

    assert [(each["destinations"], each["new_destinations"]) for each in (first, second)] == [(2, 2), (2, 1)]


def test_names_are_counted_where_there_are_any() -> None:
    first, second = of(
        to(1, name="a.example"), to(1), to(1, at=HOUR, name="a.example"), to(2, at=HOUR, name="b.example")
    )

    assert [(each["names"], each["new_names"]) for each in (first, second)] == [(1, 1), (2, 1)]


@pytest.mark.parametrize(("places", "bits"), [(1, 0.0), (2, 1.0), (8, 3.0)])
def test_entropy_tells_how_many_shared_it(places: int, bits: float) -> None:
    (hour,) = of(*(to(n) for n in range(places)))

    assert hour["entropy"] == pytest.approx(bits, abs=1e-5)


def test_protocols_stand_apart() -> None:
    """What a host answers, says over UDP, asks of a resolver inside, and pings."""
    (hour,) = of(
        Transfer("198.51.100.7", "10.0.0.1", back=14_000),
        to(1, 2800, proto=17, dst_port=4433),
        Transfer(dst="10.0.2.1", sent=60, proto=17, dst_port=53),
        to(2, 1000, proto=1, dst_port=0),
    )

    assert (hour["answered"], hour["over_udp"], hour["dns"], hour["icmp"]) == (14_000, 2800, 60, 1000)
    assert hour["udp_share"] == 2800 / (14_000 + 2800 + 1000)


def test_no_signals_are_no_features() -> None:
    assert_frame_equal(features.of(signals.SIGNALS.empty()), features.FEATURES.empty())


@pytest.mark.slow
@few
@given(traffic, st.data())
def test_batches_and_their_order_do_not_matter(transfers: list[Transfer], data: st.DataObject) -> None:
    whole = signals_of(*transfers)
    shuffled = signals_of(*data.draw(st.permutations(transfers)))

    assert_frame_equal(features.of(whole), features.of(shuffled))
    assert_frame_equal(features.of(whole), features.of(whole.reverse()))


@pytest.mark.slow
@few
@given(traffic)
def test_every_charged_byte_stands_in_some_hour(transfers: list[Transfer]) -> None:
    whole = signals.one_vantage(signals_of(*transfers))

    hours = features.of(signals_of(*transfers))

    both = hours.select((pl.col("sent").cast(pl.Int128) + pl.col("sent_inside").cast(pl.Int128)).sum()).item()
    assert both == whole["sent"].cast(pl.Int128).sum()
