"""Evidence that is remembered: the same as looked up anew, for less work."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import conversations
from egress.contracts import Destination, Finding, Level
from egress.inventory import Inventory
from egress.witnessing import Witnessing
from tests.egress.dayparts import by_day
from tests.egress.strategies import NOON, Transfer, few, flows_of, site, traffic

OUTSIDE = ("203.0.113.5", "198.51.100.7")


def about(host: str, *addresses: str, path: tuple[str, ...] = ()) -> Finding:
    place = Destination("there", "unapproved", 1, addresses)
    return Finding(
        uid=f"{host} {addresses} {path}",
        detector="ledger",
        subject="",
        host=host,
        level=Level.INFO,
        title="",
        bytes=1,
        window="1h",
        start=NOON,
        first_seen=NOON,
        last_seen=NOON,
        level_times={Level.INFO: NOON},
        models=(),
        destinations=(place,),
        path=path,
    )


FINDINGS = [
    *(about(host, *where) for host in ("h1", "h2") for where in ((), OUTSIDE[:1], OUTSIDE)),
    about("", OUTSIDE[0], path=("h1", "h2")),
    about("", OUTSIDE[0]),
]


def seen(transfers: list[Transfer]) -> pl.DataFrame:
    return conversations.of(Inventory(site("h1", "h2")).attribute(flows_of(transfers)).filter(pl.col("host") != ""))


@pytest.mark.slow
@few
@given(st.lists(traffic, max_size=4), st.integers(1, len(FINDINGS)))
def test_remembered_evidence_is_evidence_looked_up_anew(dealt: list[list[Transfer]], many: int) -> None:
    """Conversations that grow, begin and come twice; findings that come and go."""
    witnessing, every = Witnessing(), conversations.add([])
    for number, portion in enumerate(dealt):
        came = seen(portion)
        every = conversations.add([every, came])
        witnessing.note(every.join(came, on=["host", *conversations.ADDRESSES], how="semi"))
        asked = FINDINGS[number % 2 : many]
        assert witnessing.attach(asked, by_day(every, "day")) == conversations.attach(asked, every)


def test_only_what_talked_is_asked_about_again() -> None:
    """A conversation with one of two places: what is about the other, or about another host, stays."""
    witnessing = Witnessing()
    every = seen([Transfer(dst=place, sent=1000, start=NOON) for place in OUTSIDE])
    witnessing.note(every)
    findings = [about("h1", OUTSIDE[0]), about("h1", OUTSIDE[1]), about("h2", OUTSIDE[0])]
    first = witnessing.attach(findings, by_day(every, "day"))

    more = conversations.add([every, seen([Transfer(dst=OUTSIDE[0], sent=500, start=NOON)])])
    witnessing.note(more.filter(pl.col("bytes") != every["bytes"]))
    second = witnessing.attach(findings, by_day(more, "day"))

    assert witnessing.asked == len(findings) + 1
    assert [bool(each.evidence) for each in first] == [True, True, False]
    assert [a.evidence == b.evidence for a, b in zip(first, second, strict=True)] == [False, True, True]
    assert replace(second[1], evidence=()) == findings[1]
