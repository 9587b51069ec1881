"""Bulk where only small messages belong, and wrapped traffic that leaves."""

from __future__ import annotations

from typing import Any

import pytest

from models.tunnels import Tunnels
from tests.models.flows import Find, MakeFlow, finder

find = finder(Tunnels)


DNS = {"proto": 17, "dst_port": 53}
PING = {"proto": 1, "src_port": 8, "dst_port": 0}
NTP = {"proto": 17, "dst_port": 123}
VXLAN = {"tunnel": "vxlan", "outer_src_ip": "10.77.1.1"}


def test_an_iodine_session_is_a_dns_tunnel(flow: MakeFlow, find: Find) -> None:
    """8,144 queries of 263 B with as much coming back: all of the payload is told, and how it differs."""
    scores = find([flow(1, "198.51.100.17", sent=2_139_565, packets=8144, dst_payload=2_200_000, **DNS)])

    (row,) = scores.to_dicts()
    assert (row["what"], row["group"], row["bytes"]) == ("DNS tunnel to", "198.51.100.0/24", 2_139_565)
    assert row["score"] > 0.8
    assert "2.1 MB in 8,144 packets" in row["reason"]
    assert "262 B each" in row["reason"]


BULKY: dict[str, tuple[str, dict[str, Any]]] = {
    "one-way blast to port 53": ("DNS tunnel to", {"sent": 600_000, **DNS}),
    "DNS over TCP": ("DNS tunnel to", {"sent": 600_000, "proto": 6, "dst_port": 53}),
    "through the site's own resolver": (
        "DNS tunnel through",
        {"to": "10.0.0.53", "sent": 600_000, "packets": 2500, **DNS},
    ),
    "DNS over IPv6": ("DNS tunnel to", {"to": "2001:db8::53", "src_ip": "fd77::1", "sent": 600_000, **DNS}),
    "pings with files in them": ("ICMP tunnel to", {"sent": 500_000, **PING}),
    "small pings without end": ("ICMP tunnel to", {"sent": 56 * 700_000, "packets": 700_000, **PING}),
    "NTP with files in it": ("NTP tunnel to", {"sent": 500_000, **NTP}),
    "VXLAN that leaves": (
        "VXLAN tunnel to",
        {"to": "10.9.9.9", "sent": 1_200_000, "outer_dst_ip": "198.51.100.9", **VXLAN},
    ),
    "GRE that nobody decoded": ("GRE tunnel to", {"sent": 1_200_000, "proto": 47, "dst_port": 0}),
    "WireGuard": ("WireGuard tunnel to", {"sent": 1_200_000, "proto": 17, "dst_port": 51820}),
    "a protocol of no known use": ("IP protocol 253 traffic to", {"sent": 1_200_000, "proto": 253, "dst_port": 0}),
}

ORDINARY: dict[str, dict[str, Any]] = {
    "a day of queries": {"sent": 45 * 8_000, "packets": 8_000, "dst_payload": 1_200_000, **DNS},
    "a hundred thousand queries, 1 % of them long": {"sent": 50 * 99_000 + 282 * 1000, "packets": 100_000, **DNS},
    "answers of a name server": {"src_ip": "198.51.100.7", "to": "10.77.1.1", "dst_payload": 900_000, **DNS},
    "a ping each second": {"sent": 56 * 86_400, "packets": 86_400, **PING},
    "a hundred path MTU probes": {"sent": 147_200, "packets": 100, **PING},
    "network time security every 16 s": {"sent": 230 * 5400, "packets": 5400, **NTP},
    "VXLAN inside": {"to": "10.9.9.9", "sent": 9_000_000, "outer_dst_ip": "10.77.1.2", **VXLAN},
    "keepalives of a VPN": {"sent": 32 * 3456, "packets": 3456, "proto": 17, "dst_port": 51820},
    "bulk over TLS": {"sent": 900_000_000},
    "DNS answers to many questions": {"sent": 4_000_000, "packets": 80_000, "dst_payload": 90_000_000, **DNS},
}


@pytest.mark.parametrize("case", BULKY)
def test_bulk_is_found(case: str, flow: MakeFlow, find: Find) -> None:
    what, others = BULKY[case]

    assert find([flow(1, **others)])["what"].to_list() == [what]


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_traffic_is_silent(case: str, flow: MakeFlow, find: Find) -> None:
    assert find([flow(1, **ORDINARY[case])]).height == 0


def test_what_was_below_the_limit_is_told_once_it_is_passed(flow: MakeFlow, find: Find) -> None:
    """200 kB an hour: silent, then all so far, then only what came since."""
    scores = find([flow(hour, "198.51.100.17", sent=200_000, packets=800, **DNS) for hour in (1, 2, 3, 4)])

    assert scores["bytes"].to_list() == [600_000, 200_000]
    assert scores["first"][0].hour == 1


def test_a_new_day_starts_from_nothing(flow: MakeFlow, find: Find) -> None:
    """What a day may carry is counted from 00:00 UTC."""
    scores = find([flow(hour, "198.51.100.17", sent=300_000, packets=1200, **DNS) for hour in (23, 24)])

    assert scores.height == 0


def test_other_destinations_of_yesterday_are_forgotten_too(flow: MakeFlow, find: Find) -> None:
    """Two groups on one day, then one and the other on the next: neither adds up over midnight."""
    flows = [
        flow(hour, f"198.51.{place}.17", sent=300_000, packets=1200, **DNS)
        for hour, place in ((22, 100), (22, 101), (24, 100), (25, 101))
    ]

    assert find(flows).height == 0


def test_turns_between_destinations_do_not_reset_a_count(flow: MakeFlow, find: Find) -> None:
    """A, B, A, B: each adds up over its own windows."""
    flows = [flow(hour, f"198.51.{100 + hour % 2}.17", sent=300_000, packets=1200, **DNS) for hour in (1, 2, 3, 4)]

    assert find(flows)["bytes"].to_list() == [600_000, 600_000]


def test_a_tunnel_over_many_resolvers_is_seen_whole(flow: MakeFlow, find: Find) -> None:
    """Eight of them, each below the limit."""
    flows = [flow(1, f"198.51.{100 + n}.53", sent=300_000, packets=1150, **DNS) for n in range(8)]

    (row,) = find(flows).to_dicts()

    assert (row["group"], row["bytes"]) == ("", 2_400_000)
    assert "several destinations" in row["reason"]


def test_a_recursive_resolver_is_not_a_tunnel(flow: MakeFlow, find: Find) -> None:
    """A thousand name servers, 2,000 short queries and 13 long ones each: 2.4 MB too long, of 102 MB."""
    flows = []
    for n in range(250):
        flows.append(flow(1, f"198.{n}.100.53", sent=50 * 8_000, packets=8_000, **DNS))
        flows.append(flow(1, f"198.{n}.100.53", sent=282 * 52, packets=52, **DNS))

    assert find(flows).height == 0


def test_a_flood_of_small_messages_does_not_hide_large_ones(flow: MakeFlow, find: Find) -> None:
    """Ordinary queries to the same resolver do not lower the count."""
    flows = [
        flow(1, "198.51.100.17", sent=2_139_565, packets=8144, **DNS),
        flow(1, "198.51.100.17", sent=45 * 100_000, packets=100_000, **DNS),
    ]

    assert find(flows)["what"].to_list() == ["DNS tunnel to"]
