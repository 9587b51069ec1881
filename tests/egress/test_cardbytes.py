"""What passes a card: nothing that a host sends to itself, and everything that only pretends to be that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from egress import cardbytes
from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host
from egress.inventory import Inventory
from tests.egress.strategies import Transfer, flows_of

SITE = Inventory(
    Config(
        Fleet(
            (network_of("10.0.0.0/8"),),
            hosts=(Host("h", (bytes_of("10.0.0.1"), bytes_of("10.0.0.2"))), Host("far", (bytes_of("10.0.9.1"),))),
        )
    )
)
OWN = Transfer(src="10.0.0.1", dst="10.0.0.2", sent=5_000)


def sent_by_h(transfer: Transfer) -> int:
    rows = SITE.attribute(flows_of([transfer]))
    return int(cardbytes.of(rows, SITE).filter(host="h", sender="h")["bytes"].sum())


@pytest.mark.parametrize("transfer", [OWN, OWN.turned(), replace(OWN, dst="10.0.0.1"), replace(OWN, dst="127.0.0.1")])
def test_what_a_host_sends_to_itself_passes_no_card(transfer: Transfer) -> None:
    assert sent_by_h(transfer) == 0


def test_each_row_tells_by_itself() -> None:
    """Messages may end between the two rows of one conversation, and collectors on hosts tell one of them only."""
    rows = SITE.attribute(flows_of([OWN]))

    assert rows.height == 2
    assert all(cardbytes.of(rows[at : at + 1], SITE).is_empty() for at in range(2))


def test_inner_addresses_of_its_own_hide_nothing_that_goes_to_another_machine() -> None:
    """Whoever sends chooses them."""
    tunnel = replace(OWN, tunnel="vxlan", outer_src="10.0.0.1", outer_dst="10.0.9.1")

    assert sent_by_h(tunnel) >= 5_000
