"""What is remembered between judgements: the same findings as from scratch, for less work."""

from __future__ import annotations

import random
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import ledger
from egress.cells import add
from egress.contracts import Finding
from egress.dating import Dating
from egress.inventory import Inventory
from egress.memo import UNCHANGED, first_change
from egress.relaying import Relaying
from egress.taint import Edge, Edges, Out, Relays
from tests.egress.dayparts import by_day
from tests.egress.strategies import (
    DAY,
    MINUTE,
    MODEL_BYTES,
    NOON,
    Transfer,
    address_of,
    cells_of,
    few,
    site,
    traffic,
)
from tests.egress.test_ledger_laws import BUSY

OUTSIDE = "203.0.113.5"
EDGES = {name: pl.String if name in ("src", "dst") else pl.Int64 for name in Edge._fields}
OUTS = {"minute": pl.Int64, "host": pl.String, "bytes": pl.Int64}


class Remembering:
    """A ledger that is asked again and again, by days of which only those that changed are opened."""

    def __init__(self) -> None:
        self.memo = ledger.Memo()
        self._dating = Dating()

    def evaluate(self, cells: pl.DataFrame, inventory: Inventory) -> list[Finding]:
        return ledger.evaluate_again(self._dating.of(by_day(cells)), inventory, self.memo)


@pytest.mark.slow
@settings(few, max_examples=12)
@given(st.lists(traffic, max_size=3), st.integers(0, 2**32))
def test_a_ledger_that_remembers_finds_the_same(dealt: list[list[Transfer]], seed: int) -> None:
    """Whatever comes, at whatever time, by whatever clock, in whatever portions; and what comes twice."""
    rng, inventory, so_far = random.Random(seed), Inventory(BUSY), cells_of(BUSY, [])
    ledger_that_remembers = Remembering()
    for portion in dealt:
        came = cells_of(
            BUSY, [replace(each, start=each.start + rng.choice([0, 0, 9, 40, 500, 30_000]) * DAY) for each in portion]
        )
        so_far = ledger.join([so_far, so_far]) if rng.random() < 0.2 else add([so_far, came])
        assert ledger_that_remembers.evaluate(so_far, inventory) == ledger.evaluate(so_far, inventory)


def chatter(minutes: int) -> list[Transfer]:
    """Two relays and a holder that talk all the time, and a leak of what they were given."""
    talk = [
        Transfer(src=address_of(src), dst=address_of(dst), sent=MODEL_BYTES // 40, start=NOON + n * 7 * MINUTE)
        for n in range(minutes)
        for src, dst in ((1, 2), (2, 3), (3, 2))
    ]
    leaks = [Transfer(src=address_of(3), dst=OUTSIDE, sent=9_000, start=NOON + n * 7 * MINUTE) for n in range(minutes)]
    return [*talk, *leaks]


NOWHEN = st.just(0)
hosts = st.sampled_from(["h1", "h2", "h3", "h4"])
edges = st.builds(
    Edge,
    st.integers(0, 4000).map(lambda n: n * MINUTE),
    hosts,
    hosts,
    st.integers(1, 9),
    st.integers(0, 1),
    first=NOWHEN,
    last=NOWHEN,
)
outs = st.builds(Out, st.integers(0, 4000).map(lambda n: n * MINUTE), hosts, st.integers(1, 9))


@pytest.mark.slow
@given(st.lists(st.tuples(st.lists(edges, max_size=30), st.lists(outs, max_size=10)), min_size=2, max_size=5))
@few
def test_taint_folded_on_is_taint_folded_anew(portions: list[tuple[list[Edge], list[Out]]]) -> None:
    """Three days of relaying that come in any order: the same exits, arrivals and ways as in one run over all."""
    relaying, moved, left = Relaying(), dict[tuple[int, str, str], Edge](), dict[tuple[int, str], Out]()
    for came, went in portions:
        moved |= {edge[:3]: edge for edge in came if edge.src != edge.dst}
        left |= {out[:2]: out for out in went}
        every, gone = [moved[key] for key in sorted(moved)], [left[key] for key in sorted(left)]
        whole = Relays(["h1"])
        whole.run(Edges.of(every), gone)
        inside = pl.DataFrame(every, schema=EDGES, orient="row")
        relaying.begin(inside)
        found = relaying.relays("m", ["h1"], ["h2", "h3", "h4"], inside, pl.DataFrame(gone, schema=OUTS, orient="row"))
        assert (found.exits, found.arrivals) == (whole.exits, whole.arrivals)
        assert all(found.path(each.provider, each.host) == whole.path(each.provider, each.host) for each in whole.exits)


@pytest.mark.slow
def test_a_minute_more_costs_its_day_and_its_hours() -> None:
    """Ten days of relaying: then one minute asks about one day, and folds the edges of two hours at most."""
    inventory, remembering = Inventory(site()), Remembering()
    memo = remembering.memo
    every = [replace(each, start=NOON + (each.start - NOON) * 20) for each in chatter(100)]
    remembering.evaluate(cells_of(site(), every), inventory)
    asked, folded = memo.days.asked, memo.relaying.folded

    more = [*every, Transfer(src=address_of(1), dst=address_of(2), sent=1000, start=every[-1].start + MINUTE)]
    cells = cells_of(site(), more)

    assert remembering.evaluate(cells, inventory) == ledger.evaluate(cells, inventory)
    assert (memo.days.asked - asked, asked >= 10) == (1, True)
    assert memo.relaying.folded - folded <= 6
    assert folded >= 300


def test_a_state_that_did_not_change_asks_nothing() -> None:
    inventory, remembering, cells = Inventory(site()), Remembering(), cells_of(site(), chatter(20))
    remembering.evaluate(cells, inventory)
    asked = remembering.memo.days.asked

    remembering.evaluate(cells, inventory)

    assert remembering.memo.days.asked == asked


def test_other_declarations_are_asked_about_again() -> None:
    """A receipt or a review makes another inventory, and may change any day."""
    remembering, cells = Remembering(), cells_of(site(), chatter(20))
    remembering.evaluate(cells, Inventory(site()))
    asked = remembering.memo.days.asked
    held_by_other = Inventory(site("h2"))

    assert remembering.evaluate(cells, held_by_other) == ledger.evaluate(cells, held_by_other)
    assert remembering.memo.days.asked == 2 * asked


def test_relays_go_on_from_a_copy() -> None:
    """Exits, arrivals and ways are those of one run; what the copy goes on to do, the first knows nothing of."""
    edges = [Edge(minute * MINUTE, "h1", "h2", 1000, 0) for minute in range(10)]
    outs = [Out(minute * MINUTE, "h2", 700) for minute in range(1, 10)]
    whole = Relays(["h1"])
    whole.run(Edges.of(edges), outs)
    begun = Relays(["h1"])
    begun.expect(["h2"])
    begun.run(Edges.of(edges[:5]), outs[:4])

    other = begun.copy()
    other.run(Edges.of(edges[5:]), outs[4:])

    assert (other.exits, other.arrivals) == (whole.exits, whole.arrivals)
    assert (len(begun.exits), len(begun.arrivals["h2"])) == (4, 5)


def test_the_first_change_is_the_earliest_of_both() -> None:
    """A row that went and one that came instead, each of which may be the earlier one."""
    before = pl.DataFrame({"minute": [1, 2, 5], "bytes": [1, 1, 1]})
    assert first_change(before, before, "minute") == UNCHANGED
    assert first_change(before, before[:2], "minute") == 5
    assert first_change(before, before.with_columns(bytes=pl.Series([1, 2, 1])), "minute") == 2
    assert first_change(before, pl.DataFrame({"minute": [1, 2, 3, 5], "bytes": [1, 1, 1, 1]}), "minute") == 3
