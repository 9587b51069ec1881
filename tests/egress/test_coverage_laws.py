"""The laws of coverage, for any heartbeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import findingjson, ledger
from egress.detect import Engine
from egress.inventory import Inventory
from tests.egress.beats import BEATS, BOTH, Beat, beats, engine, frame, gap, internal
from tests.egress.strategies import (
    DAY,
    MODEL_BYTES,
    NOON,
    Transfer,
    few,
    flows_of,
)

VERDICTS = ("excluded", "unknown", "possible")


rates = st.sampled_from([0, 100, 10_000, 200_000])


holes = st.sets(st.integers(0, BEATS - 1), max_size=20)


sensors = st.lists(
    st.builds(
        lambda rate, missing, host, known, epoch: beats(
            rate, missing=missing, host=host, **({} if known else {"nic_tx_bytes": None}), epoch=epoch
        ),
        rates,
        holes,
        st.sampled_from(["h1", "h2"]),
        st.booleans(),
        st.sampled_from(["", "1"]),
    ),
    min_size=1,
    max_size=3,
).map(lambda every: [row for rows in every for row in rows])


@pytest.mark.slow
@few
@given(sensors, st.integers(0, 60_000_000), st.randoms(use_true_random=False), st.integers(1, 40))
def test_order_duplicates_and_batches_change_nothing(rows: list[Beat], sent: int, random: object, size: int) -> None:
    """To the byte, whether heartbeats come before flows or after them."""
    flows = flows_of([internal(sent)])
    expected = engine(rows, internal(sent), config=BOTH)
    mixed = [*rows, *rows[::3]]
    random.shuffle(mixed)  # type: ignore[attr-defined]

    other = Engine(Inventory(BOTH), lambda: [])
    for start in range(0, len(mixed), size):
        other.feed_heartbeats(frame(mixed[start : start + size]))
    other.feed(flows)

    assert other.coverage().gap_bytes() == expected.coverage().gap_bytes()
    assert [findingjson.encode(each) for each in other.findings()] == [
        findingjson.encode(each) for each in expected.findings()
    ]


@pytest.mark.slow
@few
@given(sensors, sensors, st.integers(0, MODEL_BYTES // 8))
def test_a_gap_never_improves_a_certificate(rows: list[Beat], more: list[Beat], sent: int) -> None:
    """Neither the first heartbeats nor what the card of a host sent in addition."""
    made = engine(rows, Transfer(sent=sent))
    inventory = made.inventory
    gaps = made.coverage().gap_bytes()
    larger = {host: amount + 1_000_000 for host, amount in gaps.items()}

    verdicts = [
        VERDICTS.index(ledger.certify(made.cells(), inventory, "m", None, NOON, NOON + DAY, each).verdict)
        for each in (None, gaps, larger)
    ]

    assert verdicts == sorted(verdicts)


@pytest.mark.slow
@few
@given(rates, holes, st.integers(0, 60_000_000), st.integers(1, 10**7))
def test_what_nobody_saw_is_never_less_for_more_that_was_sent(
    rate: int, missing: set[int], sent: int, more: int
) -> None:
    """A card that counted more has a larger gap, flows that show more a smaller one."""
    lost = missing - {0, BEATS - 1}
    rows = beats(rate, missing=lost)
    raised = [row | {"nic_tx_bytes": int(str(row["nic_tx_bytes"])) + (more if row["seq"] else 0)} for row in rows]

    assert gap(rows, internal(sent)) <= gap(raised, internal(sent)) <= gap(rows, internal(sent)) + more
    assert gap(rows, internal(sent + more)) <= gap(rows, internal(sent))
