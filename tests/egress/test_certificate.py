"""A certificate excludes a theft only where the arithmetic does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import ledger
from egress.addresses import network_of
from egress.certificate import Certificate
from egress.config import Approval, Config, LifecycleEvent
from egress.errors import UsageError
from egress.inventory import Inventory
from egress.schema import CELLS
from tests.egress.strategies import (
    DAY,
    HOUR,
    MODEL_BYTES,
    NOON,
    Transfer,
    cells_of,
    few,
    site,
    traffic,
    transfers,
)

SIXTEENTH = MODEL_BYTES // 16
PUSH = Approval("push", ("h1",), 2**62, NOON + 30 * DAY, "o", "t", networks=(network_of("198.51.100.0/24"),))


def certificate(config: Config, *sent: Transfer, host: str | None = None, **options: object) -> Certificate:
    return ledger.certify(cells_of(config, sent), Inventory(config), "m", host, NOON, NOON + 30 * DAY, **options)


@pytest.mark.parametrize(("size", "verdict"), [(SIXTEENTH - 1, "excluded"), (SIXTEENTH + 1, "possible")])
def test_less_than_a_sixteenth_excludes_a_theft(size: int, verdict: str) -> None:
    """However many hosts and accounts it left from."""
    halves = [Transfer(sent=size // 2), Transfer(sent=size - size // 2, dst="203.0.113.9")]

    assert certificate(site(approvals=(PUSH,)), *halves).verdict == verdict


def test_proven_bytes_do_not_count() -> None:
    """A manifest accounts for them byte for byte."""
    listed = LifecycleEvent(NOON, "manifest", host="h1", to=("198.51.100.0/24",), files=(("a", MODEL_BYTES),))
    config = site(approvals=(PUSH,), lifecycle=(listed,))

    issued = certificate(config, Transfer(sent=MODEL_BYTES))

    assert (issued.verdict, issued.proven, issued.unproven) == ("excluded", MODEL_BYTES, 0)


def test_what_a_relay_sent_out_counts() -> None:
    """Also what it may have sent out under its own name."""
    relay = [Transfer(dst="10.0.1.1", sent=MODEL_BYTES), Transfer(src="10.0.1.1", sent=MODEL_BYTES, start=NOON + HOUR)]

    assert certificate(site(), *relay).verdict == "possible"
    assert certificate(site(), *relay, host="h1").verdict == "excluded"


def test_bytes_whose_receipt_never_came_count_where_they_left() -> None:
    """Their deadline may lie beyond the time asked for."""
    config = site(approvals=(replace(PUSH, receipts=()),))
    cells = cells_of(config, [Transfer(sent=MODEL_BYTES), Transfer(src="10.0.2.1", sent=1, start=NOON + 3 * DAY)])

    def unapproved(start: int, end: int) -> int:
        return ledger.certify(cells, Inventory(config), "m", None, start, end).unapproved

    assert (unapproved(NOON, NOON + HOUR), unapproved(NOON + HOUR, NOON + 9 * DAY)) == (MODEL_BYTES, 0)


def test_what_is_missing_from_the_capture_makes_it_unknown() -> None:
    """What nobody saw could have been the model."""
    config = site()
    cells = cells_of(config, [Transfer(sent=1000)]).with_columns(missed=MODEL_BYTES).cast(CELLS.polars)

    assert ledger.certify(cells, Inventory(config), "m").verdict == "unknown"
    assert certificate(config, Transfer(sent=1000), gaps={"h1": MODEL_BYTES}).verdict == "unknown"


def test_bytes_of_another_time_do_not_count_but_those_of_no_credible_time_do() -> None:
    """A broken clock could have put bytes of this time anywhere."""
    earlier = Transfer(sent=MODEL_BYTES, start=NOON - 2 * DAY)
    broken = Transfer(sent=MODEL_BYTES, start=60_000_000)

    assert certificate(site(), earlier, Transfer(sent=1)).verdict == "excluded"
    assert certificate(site(), broken, Transfer(sent=1)).verdict == "unknown"


def test_nothing_seen_certifies_nothing() -> None:
    """No data in the time asked for, no statement about it."""
    issued = certificate(site(), Transfer(sent=1, start=NOON - 2 * DAY))

    assert issued.verdict == "unknown"
    assert any("heartbeats" in assumption for assumption in issued.assumptions)


def test_tolerance_excuses_nothing() -> None:
    """A site may accept a leak; that does not make it none."""
    config = site()
    chatty = replace(config.fleet.hosts[0], tolerated_bytes_per_day=10**12)
    config = replace(config, fleet=replace(config.fleet, hosts=(chatty,)))

    assert certificate(config, Transfer(sent=MODEL_BYTES)).verdict == "possible"


def test_an_unknown_model_is_named() -> None:
    """With those that are known."""
    with pytest.raises(UsageError, match="model x is not declared; declared are: m"):
        ledger.certify(CELLS.empty(), Inventory(site()), "x")


@pytest.mark.slow
@few
@given(traffic, transfers(), st.booleans())
def test_adding_a_transfer_never_improves_a_certificate(some: list[Transfer], more: Transfer, is_capped: bool) -> None:
    """Neither the bytes that cannot be excluded nor the verdict, given that anything was seen before."""
    approval = replace(PUSH, bytes_per_day=2**31) if is_capped else PUSH
    listed = LifecycleEvent(NOON, "manifest", host="h1", to=("198.51.100.0/24",), files=(("a", 2**30),))
    config = site("h1", "10.9.9.9", approvals=(approval,), lifecycle=(listed,))
    watched = [Transfer(src="10.0.2.1", sent=1), *some]

    before, after = certificate(config, *watched), certificate(config, *watched, more)

    assert _open(after) >= _open(before)
    assert not (before.verdict != "excluded" and after.verdict == "excluded")


def _open(issued: Certificate) -> int:
    return issued.unapproved + issued.unproven + issued.gap
