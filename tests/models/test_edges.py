"""Bursts and fan-out on the graph of hosts and destinations."""

from __future__ import annotations

import pytest

from models import edges
from models.edges import Edges
from tests.models.flows import THIEF, Find, Flow, MakeFlow, finder

find = finder(Edges)


@pytest.fixture
def work(flow: MakeFlow) -> list[Flow]:
    """Ten days of three hosts that send 10 MB every six hours."""
    return [flow(hour, sent=10_000_000, src_ip=f"10.77.1.{n}") for hour in range(0, 240, 6) for n in (1, 2, 3)]


def test_a_burst_to_a_stranger_is_told(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """300 MB, 19 times bulk (1/64 of 1 GB), where nothing was ever sent: 300 MB over 2,881 windows are 104 kB each."""
    (row,) = find([*work, flow(240, THIEF, sent=300_000_000)]).to_dicts()

    assert (row["group"], row["bytes"], row["what"]) == ("198.51.100.0/24", 300_000_000, "burst to")
    assert row["reason"].startswith("300 MB from gpu-01 to 198.51.100.0/24 within 5 min, mean 104 kB over 10 days; ")


def test_ordinary_days_are_silent(work: list[Flow], find: Find) -> None:
    assert find(work).height == 0


def test_chi_squared_is_what_the_paper_says(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """(a - s/t)^2 t^2 / (s (t - 1)) of Bhatia et al. with a = 150 MB, half of what one window brought, s = 300 MB and
    t = 2,881, over units of 15.625 MB and the threshold of 4,000; the score is z / (z + 1) of its root."""
    (score,) = find([*work, flow(240, THIEF, sent=300_000_000)])["score"]

    a, s, t = 150e6, 300e6, 2881
    times = (a - s / t) ** 2 * t**2 / (s * (t - 1)) / 15_625_000 / 4000
    assert score == pytest.approx(times**0.5 / (times**0.5 + 1), rel=1e-4)


@pytest.mark.slow
def test_a_nightly_job_is_told_for_one_night(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """10 GB over two hours every night: twice its own peak is what a burst needs from the second night on."""
    nights = [flow(24 * day + 2 + n / 12, THIEF, sent=400_000_000) for day in range(8, 14) for n in range(24)]
    longer = [flow(hour, sent=10_000_000) for hour in range(240, 336, 6)]

    told = find([*work, *longer, *nights])["window_start"].dt.date().unique()

    assert told.dt.day().to_list() == [10]


@pytest.mark.slow
def test_the_same_rate_for_ever_is_no_burst(flow: MakeFlow, find: Find) -> None:
    """50 MB in every window for nine days; what MIDAS-R holds of late is not mistaken for twice the mean."""
    assert find([flow(n / 12, sent=50_000_000) for n in range(9 * 288)]).height == 0


def test_a_host_is_judged_after_a_week(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work[: 3 * 24], flow(144, THIEF, sent=900_000_000)]).height == 0


def test_networks_at_once_are_a_fan(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """24 networks get 2 MB each within one window; usually there is one in six hours."""
    fan = [flow(240, f"198.51.{n}.9", sent=2_000_000) for n in range(24)]

    (row,) = find([*work, *fan]).to_dicts()

    assert (row["what"], row["group"], row["bytes"]) == ("fan-out to", "", 48_000_000)
    assert row["reason"].startswith("24 networks got 1.0 MB or more within 5 min, usually 1 or fewer over 10 days")


def test_small_messages_to_many_are_no_fan(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    assert find([*work, *(flow(240, f"198.51.{n}.9", sent=50_000) for n in range(100))]).height == 0


def test_a_burst_spread_thin_is_the_hosts(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Seven networks get 60 MB each: no edge is strange enough, and they are too few for a fan."""
    thin = [flow(240, f"198.51.{n}.9", sent=60_000_000) for n in range(7)]

    (row,) = find([*work, *thin]).to_dicts()

    assert (row["what"], row["group"], row["bytes"]) == ("burst to", "", 420_000_000)
    assert row["reason"].startswith("420 MB from gpu-01 to several destinations within 5 min")


def test_a_burst_from_several_hosts_is_told_of_each(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Three holders send a part each to one network, none of them enough by itself."""
    parts = [flow(240, THIEF, sent=50_000_000, src_ip=f"10.77.1.{n}") for n in (1, 2, 3)]

    scores = find([*work, *parts])

    assert scores["host"].to_list() == ["gpu-01", "gpu-02", "gpu-03"]
    assert scores["what"].unique().to_list() == ["part of a burst to"]
    assert scores["reason"][0].startswith("150 MB from all hosts together to 198.51.100.0/24")


def test_claims_beyond_64_bits_are_bursts(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Two rows of a forged flow file in one window: the sum of their host saturates."""
    claims = [flow(240, THIEF, sent=2**63 - 1, dst_ip=f"198.51.{n}.1") for n in (100, 101)]

    assert find([*work, *claims])["host"].unique().to_list() == ["gpu-01"]


def test_inside_a_burst_is_a_quarter_of_a_model(work: list[Flow], flow: MakeFlow, find: Find) -> None:
    """Sixteen times the unit, and eight tenths of the score."""
    assert find([*work, flow(240, "10.9.9.9", sent=900_000_000)]).height == 0
    (row,) = find([*work, flow(240, "10.9.9.9", sent=9_000_000_000)]).to_dicts()
    assert (row["group"], row["what"]) == ("10.9.9.0/24", "burst to")


@pytest.mark.slow
def test_thresholds_out_of_reach_silence_it(
    work: list[Flow], flow: MakeFlow, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "OVER_PEAK", 1_000_000_000)
    busy = [flow(hour, THIEF, sent=1000_000) for hour in range(240)]

    assert find([*work, *busy, flow(240, THIEF, sent=300_000_000)]).height == 0
