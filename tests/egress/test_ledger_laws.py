"""What no cutting, ordering, spreading or repeating of a theft changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import ledger
from egress.addresses import network_of
from egress.config import Approval, LifecycleEvent, Model, Receipt
from egress.contracts import Finding, Level
from egress.inventory import Inventory
from tests.egress.strategies import (
    DAY,
    HOUR,
    MINUTE,
    MODEL_BYTES,
    NOON,
    SECOND,
    Transfer,
    alarm_of,
    few,
    findings_of,
    fleet,
    flows_of,
    site,
    traffic,
)

RECEIPTS = tuple(Receipt(NOON + n * HOUR, "push", "h1", "o", 2**31) for n in range(30))
PUSH = Approval("push", ("h1", "h2"), 2**34, NOON + 2 * DAY, "o", "t", (network_of("198.51.100.0/24"),))
BUSY = replace(
    site("h1", "10.9.9.9"),
    models=(Model("m", MODEL_BYTES, ("h1",)), Model("n", 2**33, ("h1", "h2"), shards=(2**30,))),
    approvals=(replace(PUSH, receipts=RECEIPTS, bytes_per_peer_per_day=2**33), replace(PUSH, id="all", serve=(443,))),
    lifecycle=(
        LifecycleEvent(NOON + HOUR, "retire_requested", model="n"),
        LifecycleEvent(NOON + HOUR, "manifest", host="h2", to=("198.51.100.0/24",), files=(("a", 2**32),)),
        LifecycleEvent(NOON + DAY, "review", host="h1", destinations=("203.0.113.0/24",)),
    ),
)
"""A site where every rule has something to do."""


@pytest.mark.slow
@few
@given(traffic, st.integers(1, 5), st.booleans())
def test_no_batch_size_or_order_changes_a_finding(transfers: list[Transfer], size: int, is_reversed: bool) -> None:
    """Findings are equal, with every time, reason and byte."""
    inventory = Inventory(BUSY)
    flows = inventory.attribute(flows_of(transfers))
    batches = [ledger.cells_of(flows[begin : begin + size]) for begin in range(0, flows.height, size)]

    cells = ledger.add(batches[::-1] if is_reversed else batches)

    assert ledger.evaluate(cells, inventory) == ledger.evaluate(ledger.cells_of(flows), inventory)


@pytest.mark.slow
@few
@given(traffic)
def test_states_that_come_twice_change_no_finding(transfers: list[Transfer]) -> None:
    """A replayed or restarted sensor says again what it said."""
    inventory = Inventory(BUSY)
    once = ledger.cells_of(inventory.attribute(flows_of(transfers)))

    assert ledger.evaluate(ledger.join([once, once]), inventory) == ledger.evaluate(once, inventory)


@pytest.mark.slow
@few
@given(traffic)
def test_every_finding_adds_up(transfers: list[Transfer]) -> None:
    """Destinations hold what the model was charged, times lie in order, and each id is there once."""
    found = findings_of(BUSY, *transfers)

    for finding in found:
        assert sum(destination.bytes for destination in finding.destinations) == finding.bytes
        assert finding.bytes == finding.models[0].bytes
        assert finding.start == finding.first_seen <= finding.last_seen
        assert set(finding.level_times) >= {finding.level}
        assert all(finding.start <= reached <= finding.last_seen for reached in finding.level_times.values())
    assert len({finding.uid for finding in found}) == len(found)


def fanned(count: int, hosts: list[str], ports: range, pause: int) -> list[Transfer]:
    """A model in `count` parts over hosts and ports in turn."""
    return [
        Transfer(
            dst=hosts[n % len(hosts)],
            dst_port=ports[n % len(ports)],
            sent=-(-MODEL_BYTES // count),
            start=NOON + n * pause,
            seconds=1,
        )
        for n in range(count)
    ]


@few
@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 9), st.sampled_from([0, SECOND, MINUTE]))
@pytest.mark.slow
def test_fan_out_raises_the_same_alarm(count: int, peers: int, ports: int, pause: int) -> None:
    """Over destinations, flows, both address families and time."""
    hosts = [f"198.51.{n}.10" if n % 2 else f"2001:db8:{n}::7" for n in range(peers)]

    found = findings_of(site(), *fanned(count, hosts, range(1000, 1000 + ports), pause))

    assert [(finding.level, finding.host) for finding in found] == [(Level.CRITICAL, "h1")]
    assert 0 <= found[0].bytes - MODEL_BYTES < count


@pytest.mark.slow
@few
@given(traffic, traffic)
def test_more_traffic_never_lowers_an_alarm(some: list[Transfer], more: list[Transfer]) -> None:
    """Nothing that a host sends besides hides a theft, where no approval speaks for it."""
    assert alarm_of(findings_of(site(), *some, *more)) >= alarm_of(findings_of(site(), *some))


def test_inner_and_outer_of_a_tunnel_are_charged_once() -> None:
    """Both left; the bytes left once."""
    inner = Transfer(sent=MODEL_BYTES, tunnel="vxlan", outer_src="10.0.0.1", outer_dst="203.0.113.9")

    (finding,) = findings_of(site(), inner)

    assert finding.bytes == MODEL_BYTES
    assert set(finding.destinations[0].addresses) == {"198.51.100.10", "203.0.113.9"}
    assert any("inside vxlan to 203.0.113.9" in reason for reason in finding.reasons)


def test_a_destination_is_named_by_the_domain_that_dns_gave() -> None:
    """By its registrable part; a name that the sender claims is listed, and groups nothing."""
    named = Transfer(sent=MODEL_BYTES, name="a.files.example.co.uk", name_from="dns")

    def group(transfer: Transfer) -> Finding:
        return findings_of(site(), transfer)[0]

    assert group(named).destinations[0].group == "example.co.uk"
    assert group(replace(named, name="a.files.cluster.internal")).destinations[0].group == "cluster.internal"
    assert group(replace(named, name_from="sni")).destinations[0].group == "198.51.100.0/24"
    assert group(replace(named, name_from="sni")).destinations[0].names == ("a.files.example.co.uk",)


def test_v6_destinations_are_grouped_by_48() -> None:
    """And a private inner address by the outer one."""
    direct = findings_of(site(), Transfer(sent=MODEL_BYTES, dst="2001:db8:1:2::7"))
    tunnel = Transfer(sent=MODEL_BYTES, dst="10.7.7.7", tunnel="gre", outer_src="10.0.0.1", outer_dst="203.0.113.9")

    assert direct[0].destinations[0].group == "2001:db8:1::/48"
    assert findings_of(site(), tunnel)[0].destinations[0].group == "203.0.113.0/24"


def test_a_private_inner_address_elsewhere_is_grouped_by_the_outer() -> None:
    """172.31.0.0/16 is not the site's, but nobody's in particular: the far end of the tunnel says where to."""
    tunnel = Transfer(sent=MODEL_BYTES, dst="172.31.7.2", tunnel="vxlan", outer_src="10.0.0.1", outer_dst="203.0.113.9")

    finding = findings_of(site(), tunnel)[0]

    assert finding.destinations[0].group == "203.0.113.0/24"
    assert finding.destinations[0].addresses == ("203.0.113.9", "172.31.7.2")
    assert finding.path[-1] == "203.0.113.9"


def test_a_host_of_many_models_is_one_finding_with_all_of_them() -> None:
    """By how much of each it could be."""
    config = replace(site(), fleet=fleet(), models=(Model("large", 10 * MODEL_BYTES, ("h1",)), *site().models))

    (finding,) = findings_of(config, Transfer(sent=MODEL_BYTES))

    assert [(share.id, share.fraction) for share in finding.models] == [("m", 1.0), ("large", 0.1)]
