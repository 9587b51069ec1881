"""Which conversations a finding is about."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import polars as pl
import pytest

from egress import evidence
from egress.addresses import bytes_of, network_of
from egress.contracts import Destination, Finding, Level
from egress.errors import UsageError
from egress.schema import NO_ADDRESS

MINUTE = 60_000_000
FINDING = Finding(
    uid="5f1c0a7700",
    detector="ledger",
    subject="host:gpu-01",
    host="gpu-01",
    level=Level.HIGH,
    title="a model left",
    bytes=1,
    window="1h",
    start=0,
    first_seen=100 * MINUTE,
    last_seen=200 * MINUTE,
    level_times={},
    destinations=(Destination("example.org", "unapproved", 1, ("192.0.2.7",), ("a.example.org",)),),
    evidence=({"host": "gpu-01", "initiator": "gpu-01", "src_ip": "10.0.0.1", "dst_ip": "192.0.2.7"},),
)


def nets(*texts: str) -> tuple[IPv6Network, ...]:
    return tuple(network_of(text) for text in texts)


def conversations(*rows: tuple[str, str, str, str, int, int]) -> pl.DataFrame:
    """(side, source, target, name, first, last) without a tunnel."""
    return pl.DataFrame(
        [
            {
                "side": side,
                "src_ip": bytes_of(source),
                "dst_ip": bytes_of(target),
                "outer_src_ip": NO_ADDRESS,
                "outer_dst_ip": NO_ADDRESS,
                "name": name,
                "first": first,
                "last": last,
            }
            for side, source, target, name, first, last in rows
        ]
    )


def test_without_a_store_the_finding_itself_says_who() -> None:
    """Its destinations' addresses, the host's from the evidence, ten seconds around."""
    chosen = evidence.selection(FINDING)

    assert (chosen.ours, chosen.theirs) == (nets("10.0.0.1"), nets("192.0.2.7"))
    assert (chosen.start, chosen.end) == (100 * MINUTE - 10_000_000, 200 * MINUTE + 10_000_000)


def test_where_the_other_side_connected_the_host_is_the_responder() -> None:
    """An outsider fetched it."""
    pulled = {"host": "gpu-01", "initiator": "192.0.2.7", "src_ip": "192.0.2.7", "dst_ip": "10.0.0.1"}

    chosen = evidence.selection(replace(FINDING, evidence=(pulled,)))

    assert (chosen.ours, chosen.theirs) == (nets("10.0.0.1"), nets("192.0.2.7"))


def test_a_host_that_is_named_by_its_address_needs_no_evidence() -> None:
    """As every host is without an inventory."""
    chosen = evidence.selection(replace(FINDING, host="fd00::7", evidence=()))

    assert chosen.ours == nets("fd00::7")


def test_a_group_that_is_a_network_stands_for_all_its_addresses() -> None:
    """A finding lists the ten largest of them only."""
    group = Destination("198.51.100.0/24", "unapproved", 1, ("198.51.100.7",))

    chosen = evidence.selection(replace(FINDING, destinations=(group,), evidence=FINDING.evidence))

    assert chosen.theirs == nets("192.0.2.7", "198.51.100.0/24")


def test_the_store_adds_addresses_that_the_finding_does_not_list() -> None:
    """By the names of its destinations, of all its own addresses; not those of other destinations."""
    stored = conversations(
        ("src", "10.0.0.2", "203.0.113.9", "b.example.org", 99 * MINUTE, 120 * MINUTE),
        ("dst", "192.0.2.7", "10.0.0.3", "", 120 * MINUTE, 201 * MINUTE),
        ("src", "10.0.0.4", "203.0.113.99", "notexample.org", 0, 500 * MINUTE),
    )

    chosen = evidence.selection(FINDING, stored)

    assert chosen.ours == nets("10.0.0.1", "10.0.0.2/31")
    assert chosen.theirs == nets("192.0.2.7", "203.0.113.9")
    assert (chosen.start, chosen.end) == (99 * MINUTE - 10_000_000, 201 * MINUTE + 10_000_000)


def test_both_ends_of_a_tunnel_are_told_from_each_other() -> None:
    """The outer source is the host's, the outer target the other side's."""
    tunnel = conversations(("src", "172.16.0.1", "172.16.0.2", "", 100 * MINUTE, 101 * MINUTE)).with_columns(
        outer_src_ip=pl.lit(bytes_of("10.0.0.1")), outer_dst_ip=pl.lit(bytes_of("192.0.2.7"))
    )

    chosen = evidence.selection(FINDING, tunnel)

    assert chosen.ours == nets("10.0.0.1", "172.16.0.1")
    assert chosen.theirs == nets("172.16.0.2", "192.0.2.7")


@pytest.mark.parametrize(
    "finding",
    [replace(FINDING, evidence=()), replace(FINDING, evidence=(), destinations=())],
    ids=["no host address", "nothing"],
)
def test_a_finding_without_addresses_says_what_to_do(finding: Finding) -> None:
    """Instead of cutting nothing, or everything."""
    with pytest.raises(UsageError, match="5f1c0a77: names no address to cut by; replay"):
        evidence.selection(finding)
