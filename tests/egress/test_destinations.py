"""Where bytes went, in groups that a person recognises, against the same rules read row by row."""

from __future__ import annotations

from collections import defaultdict

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import destinations
from egress.addresses import bytes_of, text_of
from egress.config import Approval
from egress.destinations import MOST_GROUPS, peer_text
from egress.schema import NO_ADDRESS

APPROVALS = tuple(Approval(name, ("*",), 1, 1, "o", "t") for name in ("backup", "serving"))

addresses = st.sampled_from(["198.51.100.1", "198.51.100.9", "203.0.113.1", "2001:db8::1", "2001:db8:0:7::1", "2002::"])
charge = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["unapproved", "unproven", "proven"]),
        "approval": st.sampled_from([0, 1]),
        "name": st.sampled_from(["", "a.example.co.uk", "b.example.co.uk", "localhost"]),
        "name_from": st.sampled_from(["dns", "sni"]),
        "remote_ip": addresses.map(bytes_of),
        "outer_ip": addresses.map(bytes_of),
        "inner_is_outside": st.booleans(),
        "bytes": st.integers(1, 2**62),
    }
)
SCHEMA = {
    **{"account": pl.String, "approval": pl.Int32, "name": pl.String, "name_from": pl.String},
    **{"remote_ip": pl.Binary, "outer_ip": pl.Binary, "inner_is_outside": pl.Boolean, "bytes": pl.Int64},
}


def frame(charges: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(charges, schema=SCHEMA).with_columns(outer_is_outside=~pl.col("inner_is_outside"))


@given(st.lists(charge, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_groups_are_those_of_the_rules_read_aloud(charges: list[dict[str, object]]) -> None:
    """Approval, else a domain that DNS gave, else the network; sums exact, the largest first."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    involved: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for each in charges:
        away = each["remote_ip"] if each["inner_is_outside"] else each["outer_ip"]
        domain = "example.co.uk" if each["name_from"] == "dns" and "example" in str(each["name"]) else ""
        approval = APPROVALS[int(str(each["approval"]))].id
        group = approval if each["account"] != "unapproved" else domain or peer_text(bytes(away))  # type: ignore[arg-type]
        sums[group, str(each["account"])] += int(str(each["bytes"]))
        involved[group, str(each["account"])][text_of(bytes(away))] += int(str(each["bytes"]))  # type: ignore[arg-type]

    found = destinations.destinations(frame(charges), APPROVALS)

    expected = sorted((-total, *key) for key, total in sums.items())
    assert [(-each.bytes, each.group, each.account) for each in found] == expected
    for each in found:
        amounts = involved[each.group, each.account]
        assert [amounts[address] for address in each.addresses] == sorted(amounts.values(), reverse=True)


def test_a_flood_to_random_networks_is_listed_in_part_and_counted_in_full() -> None:
    """Bytes still add up."""
    flood = [
        {
            **{"account": "unapproved", "approval": -1, "name": "", "name_from": "", "outer_ip": NO_ADDRESS},
            **{"remote_ip": bytes_of(f"198.{n >> 8}.{n & 255}.1"), "inner_is_outside": True, "bytes": 5},
        }
        for n in range(MOST_GROUPS + 200)
    ]

    found = destinations.destinations(frame(flood), ())

    assert len(found) == MOST_GROUPS + 1
    assert (found[-1].group, found[-1].account, found[-1].bytes) == ("200 more", "unapproved", 1000)
