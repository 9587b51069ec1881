"""Bulk to something that a host, or the whole fleet, never met."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import polars as pl
import pytest

from models.novelty import Novelty
from tests.models.flows import START, THIEF, Find, Flow, MakeFlow, Windowed, finder, run

BULK = 20_000_000
"""More than 1/64 of the 1 GB model."""


def tied(windows: Iterable[pl.DataFrame], host: str, until: float) -> list[pl.DataFrame]:
    """As if there were a finding of that host in the queue from hour 100 to that hour."""
    times = pl.col("window_start").is_between(START + timedelta(hours=100), START + timedelta(hours=until))
    return [window.with_columns(is_tied=times & (pl.col("host") == host)) for window in windows]


find = finder(Novelty)


@pytest.fixture
def work(flow: MakeFlow) -> list[Flow]:
    """Ten ordinary days of gpu-01: uploads to the same place under the same name."""
    return [flow(hour, sent=30_000_000, name="api.example.org") for hour in range(0, 240, 8)]


def test_bulk_to_a_stranger_is_told(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    (row,) = find([*work, flow(240, THIEF, sent=BULK)]).to_dicts()

    assert (row["group"], row["bytes"], row["what"]) == ("198.51.100.0/24", BULK, "first contact with")
    assert "first contact with destination 198.51.100.0/24" in row["reason"]
    assert "never met in 10 days before, nor had any other host" in row["reason"]


def test_bulk_to_an_acquaintance_is_not(work: list[Flow], find: Find) -> None:
    """Nor is anything in the first hour of a capture, when all is new."""
    assert find(work).height == 0


def test_a_first_contact_without_bulk_is_only_remembered(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work, flow(240, THIEF, sent=900_000)]).height == 0


def test_saying_hello_first_does_not_help(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Bulk within a day of the first packet is to a stranger; a day later it is to an acquaintance."""
    hello = flow(240, THIEF, sent=10)

    soon = find([*work, hello, flow(250, THIEF, sent=BULK)])
    late = find([*work, hello, flow(265, THIEF, sent=BULK)])

    assert (soon.height, late.height) == (1, 0)


def test_small_portions_add_up(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Five times 4 MB pass 15.6 MB with the fourth, which tells all four."""
    portions = [flow(240 + n, THIEF, sent=4_000_000) for n in range(5)]

    assert find([*work, *portions])["bytes"].to_list() == [16_000_000, 4_000_000]


def test_a_new_name_in_a_known_network_counts_for_less(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """The same provider, another customer."""
    (stranger,) = find([*work, flow(240, THIEF, sent=BULK)])["score"]
    (row,) = find([*work, flow(240, sent=BULK, name="files.drop.example.net")]).to_dicts()

    assert row["score"] < stranger
    assert "first contact with name example.net" in row["reason"]


def test_a_name_under_a_known_domain_is_not_new(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Storage and delivery networks make up a host name for everything."""
    assert find([*work, flow(240, sent=BULK, name="x7f3.api.example.org")]).height == 0


def test_what_another_host_knows_counts_for_less(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """gpu-02 has used it for days."""
    others = [flow(hour, THIEF, sent=100, src_ip="10.77.1.2") for hour in range(100, 240, 10)]
    theft = flow(240, THIEF, sent=BULK)

    (known,) = find([*work, *others, theft]).to_dicts()
    (unknown,) = find([*work, theft]).to_dicts()

    assert known["score"] == unknown["score"] / 2
    assert "other hosts knew it" in known["reason"]


@pytest.mark.parametrize(("until", "rows"), [(100, 0), (250, 1)])
def test_who_is_met_during_a_finding_stays_a_stranger(
    work: list[Flow], flow: MakeFlow, windowed: Windowed, until: float, rows: int
) -> None:
    """A hello in hour 240; bulk in hour 265 is to an acquaintance unless there was a finding at the hello."""
    windows = windowed([*work, flow(240, THIEF, sent=10), flow(265, THIEF, sent=BULK)])

    assert run(Novelty(), tied(windows, "gpu-01", until)).height == rows


@pytest.mark.parametrize(("until", "share"), [(100, 0.5), (239, 1)])
def test_the_fleet_makes_no_acquaintances_during_a_finding(
    work: list[Flow], flow: MakeFlow, windowed: Windowed, until: float, share: float
) -> None:
    """What gpu-02 did for days while it had a finding makes it no better when gpu-01 does it."""
    others = [flow(hour, THIEF, sent=100, src_ip="10.77.1.2") for hour in range(100, 240, 10)]
    theft = flow(240, THIEF, sent=BULK)

    (alone,) = run(Novelty(), windowed([*work, theft]))["score"]
    (row,) = run(Novelty(), tied(windowed([*work, *others, theft]), "gpu-02", until))["score"]

    assert row == share * alone


def test_an_outsider_who_fetches_is_a_contact_too(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """The destination of bytes is new, whoever began."""
    fetched = flow(240, "10.77.1.1", src_ip=THIEF, dst_port=8000, dst_payload=BULK, dst_packets=15_000)

    (row,) = find([*work, fetched]).to_dicts()

    assert (row["group"], row["bytes"]) == ("198.51.100.0/24", BULK)


def test_whom_a_host_meets_in_its_first_hour_is_no_news(flow: MakeFlow, find: Find) -> None:
    """A capture that begins with an upload half an hour in knows nothing of before."""
    assert find([flow(0, sent=10), flow(0.5, THIEF, sent=BULK)]).height == 0


def test_a_packet_from_1970_does_not_end_the_warm_up(flow: MakeFlow, find: Find) -> None:
    """A host is not old because of one broken clock."""
    old = flow(-490_000, sent=10)

    assert find([old, flow(1, THIEF, sent=BULK)]).height == 0
