"""A model that takes a detour is charged once, to whoever sent it out, with the path."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.addresses import bytes_of, network_of
from egress.amounts import MOST
from egress.config import Approval, Config, Host, Model
from egress.contracts import Finding, Level
from egress.taint import Edge, Edges, Out, Relays
from tests.egress.strategies import (
    DAY,
    HOUR,
    MINUTE,
    MODEL_BYTES,
    NOON,
    Transfer,
    address_of,
    alarm_of,
    cells_of,
    few,
    findings_of,
    fleet,
    site,
)

CHAIN = replace(site(), fleet=fleet(hosts=6))


def hop(src: int, dst: int, after: int = 0, size: int = MODEL_BYTES) -> Transfer:
    return Transfer(src=address_of(src), dst=address_of(dst), sent=size, start=NOON + after, seconds=20)


def leak(src: int, after: int = 0, size: int = MODEL_BYTES) -> Transfer:
    return Transfer(src=address_of(src), sent=size, start=NOON + after, seconds=20)


def leaks(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "left" in finding.title]


@pytest.mark.parametrize("pace", [HOUR, MINUTE, 0], ids=["by the hour", "by the minute", "streaming"])
@pytest.mark.parametrize("hops", [1, 2, 4])
def test_a_chain_of_relays_is_charged_once_with_its_path(hops: int, pace: int) -> None:
    """Stored or streamed, the last host pays and the path names all."""
    chain = [hop(n, n + 1, after=n * pace) for n in range(1, hops + 1)]

    (finding,) = leaks(findings_of(CHAIN, *chain, leak(hops + 1, after=(hops + 1) * pace)))

    assert (finding.host, finding.bytes, finding.level) == (f"h{hops + 1}", MODEL_BYTES, Level.CRITICAL)
    assert finding.path == (*(f"h{n}" for n in range(1, hops + 2)), "198.51.100.10")


def test_what_holders_of_every_model_receive_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even looked at; what they send and what others pass on is."""
    around = [hop(1, 2), hop(2, 1, after=MINUTE), hop(1, 3, after=HOUR), hop(3, 1, after=2 * HOUR), leak(2), leak(3)]
    transfers = [*around, leak(3, after=3 * HOUR)]

    found = findings_of(CHAIN, *transfers)
    monkeypatch.setattr("egress.ledger._full_holders", lambda seen, inventory: [])

    assert found == findings_of(CHAIN, *transfers)
    assert [finding.host for finding in leaks(found)] == ["h2", "h3"]


def test_the_order_of_names_does_not_matter_to_a_chain() -> None:
    """Hops that share a minute are followed whatever the hosts are called."""
    chain = [hop(1, 6), hop(6, 5), hop(5, 4), hop(4, 3), hop(3, 2)]

    (finding,) = leaks(findings_of(CHAIN, *chain, leak(2)))

    assert finding.path == ("h1", "h6", "h5", "h4", "h3", "h2", "198.51.100.10")


def test_a_little_that_was_relayed_is_charged_too() -> None:
    """A tenth of the model makes no new holder, and yet it left."""
    tenth = MODEL_BYTES // 10

    (finding,) = findings_of(CHAIN, hop(1, 2, size=tenth), leak(2, after=HOUR, size=tenth))

    assert (finding.level, finding.bytes) == (Level.HIGH, tenth)


def test_a_relay_that_sends_in_portions_is_charged_for_all() -> None:
    """Until what it received is used up."""
    portions = [leak(2, after=n * HOUR, size=MODEL_BYTES // 2) for n in (1, 2, 3)]

    (finding,) = leaks(findings_of(CHAIN, hop(1, 2), *portions))

    assert finding.bytes == MODEL_BYTES


def test_a_relay_is_charged_at_most_for_what_it_received() -> None:
    """Its own traffic is its own business."""
    half = hop(1, 2, size=MODEL_BYTES // 2)

    (finding,) = leaks(findings_of(CHAIN, half, *(leak(2, after=n * HOUR) for n in (1, 2, 3))))

    assert finding.bytes == MODEL_BYTES // 2


CIRCLES = {
    "back and forth": [(2, 3), (3, 2), (2, 3), (3, 2)],
    "again and again": [(2, 3), (2, 3), (2, 3)],
    "round": [(2, 3), (3, 4), (4, 2), (2, 3), (3, 4), (4, 2)],
}


@pytest.mark.parametrize("circle", CIRCLES.values(), ids=CIRCLES)
def test_bytes_that_run_in_circles_do_not_multiply(circle: list[tuple[int, int]]) -> None:
    """What a host gave away and got back is nothing new to it, nor is what it sends twice to the other."""
    moves = [hop(src, dst, after=n * HOUR) for n, (src, dst) in enumerate(circle, start=1)]
    out = [leak(host, after=9 * HOUR, size=9 * MODEL_BYTES) for host in (2, 3)]

    found = leaks(findings_of(CHAIN, hop(1, 2), *moves, *out))

    assert {finding.host: finding.bytes for finding in found if finding.host} == {"h2": MODEL_BYTES, "h3": MODEL_BYTES}


@pytest.mark.parametrize("circle", ["back and forth", "again and again"])
def test_what_others_received_does_not_taint_a_thin_edge(circle: str) -> None:
    """Another host got the model ten times over; these two got a half."""
    moves = [hop(src, dst, after=n * HOUR) for n, (src, dst) in enumerate(CIRCLES[circle], start=1)]
    out = [leak(host, after=9 * HOUR, size=9 * MODEL_BYTES) for host in (2, 3)]

    found = leaks(findings_of(CHAIN, hop(1, 5, size=10 * MODEL_BYTES), hop(1, 2, size=MODEL_BYTES // 2), *moves, *out))

    assert {finding.bytes for finding in found if finding.host} == {MODEL_BYTES // 2}


def test_a_relay_that_claims_to_have_sent_all_that_a_counter_holds_is_charged_for_what_it_received() -> None:
    """Three rows of a forged flow file, in one minute: they exceed 64 bits together."""
    claims = [replace(leak(2, after=MINUTE, size=MOST), dst=f"198.51.100.{n}") for n in (1, 2, 3)]

    (finding,) = leaks(findings_of(CHAIN, hop(1, 2), *claims))

    assert (finding.host, finding.bytes) == ("h2", MODEL_BYTES)


def test_what_left_before_anything_arrived_is_not_charged() -> None:
    """Nobody sends on what is still to come."""
    assert leaks(findings_of(CHAIN, leak(2), hop(1, 2, after=HOUR))) == []


@few
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.integers(1, 99)), max_size=12))
def test_relays_never_charge_more_than_holders_gave_or_hosts_sent(moves: list[tuple[int, int, int, int]]) -> None:
    """However bytes run in circles; 4 is the outside, 1 holds the model."""
    edges = [Edge(minute, str(a), str(b), size, 0) for a, b, minute, size in moves if b < 4 and a != b]
    outs = [Out(minute, str(a), size) for a, b, minute, size in moves if b == 4 and a > 1]
    relays = Relays(["1"])

    relays.run(Edges.of(edges), outs)

    given_away = sum(edge.bytes for edge in edges if edge.src == "1")
    for host in ("2", "3"):
        charged = sum(each.end - each.begin for each in relays.exits if each.host == host)
        assert charged <= sum(out.bytes for out in outs if out.host == host)
        assert charged <= min(given_away, sum(edge.bytes for edge in edges if edge.dst == host))
    paths = [relays.path(each.provider, each.host) for each in relays.exits]
    assert all(len(set(path)) == len(path) and path[0] == "1" for path in paths)


@few
@given(st.integers(1, 5))
@pytest.mark.slow
def test_fan_out_over_holders_raises_the_same_alarm(count: int) -> None:
    """n hosts that send 1/n each are one model that left."""
    config = replace(CHAIN, models=(Model("m", MODEL_BYTES, ("h?",)),))
    shares = [leak(n + 1, after=n * MINUTE, size=MODEL_BYTES // count) for n in range(count)]

    assert alarm_of(findings_of(config, *shares)) == Level.CRITICAL


def test_a_model_gone_by_many_holders_is_one_finding_about_the_model() -> None:
    """No host's own episode explains the level."""
    config = replace(CHAIN, models=(Model("m", MODEL_BYTES, ("h?",)),))

    found = findings_of(config, *(leak(n, size=MODEL_BYTES // 6) for n in range(1, 7)))

    (model,) = [finding for finding in found if finding.subject == "model:m"]
    assert (model.level, model.bytes) == (Level.CRITICAL, MODEL_BYTES // 6 * 6)
    assert {finding.level for finding in found if finding.host} == {Level.HIGH}


def test_a_model_has_no_finding_where_a_holders_own_explains_the_level() -> None:
    """One took it all, another a little: that is one theft."""
    config = replace(CHAIN, models=(Model("m", MODEL_BYTES, ("h?",)),))

    (finding,) = findings_of(config, leak(1), leak(2, size=1000))

    assert finding.subject == "host:h1"


def test_relayed_bytes_count_once_in_the_total_of_the_model() -> None:
    """A holder's fifth and a relay's fifth are two fifths, not three."""
    fifth = MODEL_BYTES // 5

    found = findings_of(CHAIN, leak(1, size=fifth), hop(1, 2, size=fifth), leak(2, after=MINUTE, size=fifth))

    (model,) = [finding for finding in found if finding.subject == "model:m"]
    assert model.bytes == 2 * fifth


def test_holders_tolerance_is_capped_by_the_model() -> None:
    """Each of six may lose a sixth of the model a day; all together not more than a hundredth."""
    sixth = MODEL_BYTES // 6
    hosts = tuple(replace(host, tolerated_bytes_per_day=sixth) for host in fleet(hosts=6).hosts)
    sent = [leak(n, size=sixth) for n in range(1, 7)]
    free = replace(CHAIN, fleet=replace(fleet(), hosts=hosts), models=(Model("m", MODEL_BYTES, ("h?",)),))
    capped = replace(free, models=(replace(free.models[0], tolerated_bytes_per_day=MODEL_BYTES // 100),))

    assert findings_of(free, *sent) == []
    (model,) = findings_of(capped, *sent)
    assert model.bytes == 6 * sixth - MODEL_BYTES // 100


def test_a_transit_host_is_not_charged_for_what_it_relays() -> None:
    """The sender behind the proxy is, with the proxy in the path."""
    proxy = Host("h2", (bytes_of("10.0.1.1"),), transit=True)
    hosts = (CHAIN.fleet.hosts[0], proxy)
    config = replace(CHAIN, fleet=replace(CHAIN.fleet, hosts=hosts))

    (finding,) = findings_of(config, hop(1, 2), leak(2))

    assert (finding.host, finding.bytes) == ("h1", MODEL_BYTES)
    assert finding.path == ("h1", "h2", "198.51.100.10")


# New holders


def test_a_quarter_of_a_model_at_a_stranger_inside_is_a_new_holder() -> None:
    """High, before anything leaves."""
    (finding,) = findings_of(CHAIN, hop(1, 2, size=MODEL_BYTES // 4))

    assert (finding.host, finding.level, finding.path) == ("h2", Level.HIGH, ("h1", "h2"))
    assert "does not hold it" in finding.title


def test_a_copy_that_exceeds_64_bits_is_a_new_holder_as_well() -> None:
    """Two rows of a forged flow file that make one edge."""
    claims = [replace(hop(1, 2, size=MOST), dst_port=port) for port in (443, 444)]

    (finding,) = findings_of(CHAIN, *claims)

    assert (finding.host, finding.level, finding.bytes) == ("h2", Level.HIGH, 2 * MOST)


@pytest.mark.parametrize("after", [6 * DAY, 8 * DAY])
def test_a_quarter_counts_within_seven_days(after: int) -> None:
    """Two eighths a week apart are two visits."""
    eighths = [hop(1, 2, size=MODEL_BYTES // 8 + 1), hop(1, 2, after=after, size=MODEL_BYTES // 8 + 1)]

    assert len(findings_of(CHAIN, *eighths)) == (1 if after < 7 * DAY else 0)


def test_an_approved_copy_is_no_new_holder_within_its_cap() -> None:
    """The edge is approved, from this host to that one; beyond the cap it is not."""
    copy = Approval("copy", ("h1",), 2 * MODEL_BYTES, NOON + DAY, "o", "t", (network_of("10.0.1.0/24"),))
    config = replace(CHAIN, approvals=(copy,))

    assert findings_of(config, hop(1, 2)) == []
    assert len(findings_of(config, hop(1, 3))) == 1
    assert len(findings_of(replace(CHAIN, approvals=(replace(copy, bytes_per_day=1000),)), hop(1, 2))) == 1


def test_hosts_that_share_a_model_taint_without_alarm() -> None:
    """They work together; what the other then sends out is charged all the same."""
    both = (Model("m", MODEL_BYTES, ("h1",)), Model("shared", 100 * MODEL_BYTES, ("h1", "h2")))
    config = replace(CHAIN, models=both)

    assert findings_of(config, hop(1, 2)) == []
    (finding,) = findings_of(config, hop(1, 2), leak(2, after=HOUR))
    assert [share.id for share in finding.models] == ["m", "shared"]


def test_what_a_host_holds_comes_before_what_passed_through_it() -> None:
    """A small model that was relayed twenty times over is not what a theft of a large one is about."""
    small = Model("small", MODEL_BYTES // 100, ("h1",))
    config = replace(CHAIN, models=(small, Model("m", MODEL_BYTES, ("h2",))))

    found = findings_of(config, hop(1, 2, size=MODEL_BYTES // 5), leak(2, after=HOUR))

    (theft,) = [finding for finding in leaks(found) if finding.host == "h2"]
    assert [share.id for share in theft.models] == ["m", "small"]
    assert (theft.bytes, theft.path) == (MODEL_BYTES, ("h2", "198.51.100.10"))


def test_an_internal_copy_between_holders_is_nothing() -> None:
    """They have it already."""
    config = replace(CHAIN, models=(Model("m", MODEL_BYTES, ("h1", "h2")),))

    assert findings_of(config, hop(1, 2)) == []


def test_both_sides_of_an_internal_transfer_are_one_edge() -> None:
    """The sender's row and the receiver's row tell of the same bytes."""
    (finding,) = findings_of(CHAIN, hop(1, 2))
    cells = cells_of(CHAIN, [hop(1, 2)])

    assert (sum(cells["sent"]), sum(cells["received"])) == (MODEL_BYTES, MODEL_BYTES)
    assert finding.bytes == MODEL_BYTES


def test_without_an_inventory_nothing_is_tainted() -> None:
    """Every host holds its own assumed model."""
    assumed = Config(is_assumed=True)

    assert findings_of(assumed, hop(1, 2, size=10**9)) == []
    assert isinstance(cells_of(assumed, [hop(1, 2)]), pl.DataFrame)
