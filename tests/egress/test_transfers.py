"""From transfers to flow rows: every byte, on the reporting grid, on both sides."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from egress.fleetplan import HOUR_US, SECOND_US, plan
from egress.schema import FLOWS
from egress.transfers import NO_OUTER, Watching, both_ways, flows, parts, transfers

MONDAY = 1_788_739_200_000_000
FLEET = plan(6, 2, 1, MONDAY)
EVERYBODY_WATCHED = Watching(np.array([], dtype=np.int64), {}, {})

amounts = st.integers(1, 10**13)


def one(sent: int, received: int, length: int, part_s: int = 60, peer: int = 40, opens: bool = True) -> pl.DataFrame:
    """One transfer of host 0."""
    size = np.array([sent])
    return transfers(
        "any",
        host=0,
        start=MONDAY + 7,
        length=length,
        peer=peer,
        sent=size,
        received=received,
        part_s=part_s,
        opens=opens,
    )


@given(sent=amounts, received=amounts, length=st.integers(1, 30 * HOUR_US), part_s=st.sampled_from([10, 60, 300]))
def test_parts_keep_every_byte_and_lie_on_the_grid(sent: int, received: int, length: int, part_s: int) -> None:
    """Conservation, order, and no part over a boundary of its interval."""
    cut = parts(one(sent, received, length, part_s))

    grid = part_s * SECOND_US
    assert (cut["sent"].sum(), cut["received"].sum()) == (sent, received)
    assert (cut["start"] // grid == cut["end"] // grid).all()
    assert (cut["start"][1:] == cut["end"][:-1] + 1).all()
    assert cut["final"].to_list() == [False] * (cut.height - 1) + [True]


def test_a_conversation_between_two_machines_has_two_rows_that_agree() -> None:
    """What one sent the other received, under one id."""
    rows = flows(one(5000, 300, SECOND_US, peer=1), FLEET, EVERYBODY_WATCHED)

    assert rows.schema == FLOWS.polars
    assert rows["host"].to_list() == [FLEET.machines[0].id, FLEET.machines[1].id]
    assert rows["side"].to_list() == ["src", "dst"]
    assert (
        rows.select("flow_id", "src_ip", "dst_ip", "src_port", "dst_port", "src_payload", "dst_payload").n_unique() == 1
    )
    assert rows["src_payload"].to_list() == [5000, 5000]


def test_a_pull_from_outside_is_sent_by_the_responder() -> None:
    """`opens=False`: the taker is the initiator, the host pays."""
    (row,) = flows(one(5000, 300, SECOND_US, opens=False), FLEET, EVERYBODY_WATCHED).iter_rows(named=True)

    assert (row["side"], row["dst_payload"], row["src_payload"]) == ("dst", 5000, 300)


def test_a_mirrored_line_of_ipv6_stays_ipv6() -> None:
    """The second half of the machines' endpoints are their IPv6 addresses."""
    count = len(FLEET.machines)

    mirrored = both_ways(one(1, 1, 1, peer=count + 3), FLEET)[1]

    assert (mirrored["host"][0], mirrored["peer"][0], mirrored["outer"][0]) == (3, count, NO_OUTER)


def test_who_is_only_sampled_has_rows_without_a_host_and_estimates() -> None:
    """As an exporter of NetFlow says them: multiplied, no payload; about right where much passed."""
    watching = Watching(np.array([0]), {}, {})

    (row,) = flows(one(10**10, 10**6, SECOND_US), FLEET, watching).iter_rows(named=True)

    assert (row["host"], row["side"], row["sampling"], row["src_payload"]) == ("", "", 64, 0)
    assert abs(row["src_bytes"] / (10**10 * 1500 / 1448) - 1) < 0.02


def test_a_machine_that_moves_answers_from_its_new_address() -> None:
    """Before the move from the old one."""
    moved = Watching(np.array([], dtype=np.int64), {0: MONDAY + HOUR_US}, {})
    early, late = one(1, 1, 1), one(1, 1, 1).with_columns(start=pl.lit(MONDAY + 2 * HOUR_US))

    rows = flows(pl.concat([early, late]), FLEET, moved)

    assert rows["src_ip"].n_unique() == 2
    assert rows["host"].n_unique() == 1
