"""The largest conversations behind a finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import conversations
from egress.addresses import bytes_of
from egress.contracts import Destination, Finding, Level
from egress.schema import FLOWS, conform

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def flows(*sent: tuple[str, int, int]) -> pl.DataFrame:
    """Rows of gpu-01 as initiator: (destination, source port, bytes), a second apart."""
    rows = [
        {
            "host": "gpu-01",
            "side": "src",
            "flow_id": number,
            "start": NOON + timedelta(seconds=number),
            "end": NOON + timedelta(seconds=number + 1),
            "src_ip": bytes_of("10.20.1.10"),
            "src_port": port,
            "dst_ip": bytes_of(destination),
            "dst_port": 443,
            "proto": 6,
            "src_bytes": amount,
            "origin": "lab.pcap",
            "position": number + 1,
        }
        for number, (destination, port, amount) in enumerate(sent)
    ]
    return conform(pl.DataFrame(rows), FLOWS)


def finding(*addresses: str) -> Finding:
    where = Destination("198.51.100.0/24", "unapproved", 1, addresses)
    return Finding("u", "ledger", "host:gpu-01", "gpu-01", Level.HIGH, "t", 1, "1h", 0, 0, 0, {}, destinations=(where,))


def test_evidence_is_the_largest_conversation_with_the_findings_destinations() -> None:
    """Connections that differ in the initiator's port alone are one conversation, counted."""
    seen = conversations.of(flows(("198.51.100.10", 1, 700), ("203.0.113.1", 2, 9_000), ("198.51.100.10", 3, 400)))

    (evidence,) = conversations.attach([finding("198.51.100.10")], seen)[0].evidence

    assert (evidence["dst_ip"], evidence["bytes"], evidence["flows"]) == ("198.51.100.10", 1_100, 2)
    assert (evidence["initiator"], evidence["src_port"]) == ("gpu-01", 0)
    assert (evidence["origin"], evidence["position"]) == ("lab.pcap", 1)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(["198.51.100.1", "198.51.100.2"]), st.integers(1, 3), st.integers(0, 2**40)),
                min_size=1, max_size=12), st.integers(0, 12))  # fmt: skip
def test_conversations_do_not_depend_on_how_flows_were_batched(sent: list[tuple[str, int, int]], cut: int) -> None:
    """Cut anywhere, added in any order: the same frame."""
    whole = flows(*sent)

    split = conversations.add([conversations.of(whole[cut:]), conversations.of(whole[:cut])])

    assert split.equals(conversations.of(whole))
