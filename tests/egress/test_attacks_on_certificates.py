"""How a thief would come by a clean certificate, one test each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from egress import configfile, ledger
from egress.certificate import Certificate
from egress.inventory import Inventory
from tests.egress.strategies import DAY, HOUR, MODEL_BYTES, NOON, Transfer, flows_of
from tests.egress.thefts import DROP, FLEET, GPU, RELAY, theft


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    (tmp_path / "lifecycle.jsonl").touch()
    (tmp_path / "egress.toml").write_text(FLEET, encoding="utf-8")
    return Inventory(configfile.load(tmp_path / "egress.toml"))


def certified(
    inventory: Inventory, transfers: Sequence[Transfer], host: str | None = None, since: int = NOON - DAY
) -> Certificate:
    cells = ledger.cells_of(inventory.attribute(flows_of(transfers)))
    return ledger.certify(cells, inventory, "m", host, since, NOON + 99 * DAY)


def test_a_relay_that_kept_a_copy_can_send_it_again(inventory: Inventory) -> None:
    """What it sent out last month does not use up what it can send this month."""
    first = [theft(dst=RELAY), theft(src=RELAY, start=NOON + HOUR)]
    second = theft(src=RELAY, start=NOON + 40 * DAY)

    issued = certified(inventory, [*first, second], since=NOON + 30 * DAY)

    assert (issued.verdict, issued.unapproved) == ("possible", MODEL_BYTES)


def test_a_borrowed_address_does_not_clear_a_host(inventory: Inventory) -> None:
    """A second address on its link sent the model: nobody can say that it was not the host."""
    issued = certified(inventory, [theft(src="10.0.1.77"), Transfer(GPU, DROP, sent=1)], "gpu")

    assert issued.verdict == "unknown"
    assert f"10.0.1.77, which nobody lists, sent {MODEL_BYTES:,} B and may be gpu" in issued.assumptions


def test_a_host_that_no_sensor_saw_is_named(inventory: Inventory) -> None:
    """Its silence proves nothing."""
    issued = certified(inventory, [Transfer(GPU, DROP, sent=1)], "gpu-2")

    assert any(assumption.startswith("nothing was seen of gpu-2") for assumption in issued.assumptions)


def test_another_hosts_traffic_does_not_spoil_a_certificate(inventory: Inventory) -> None:
    """The counterpart: what cannot have been the host is not held against it."""
    issued = certified(inventory, [theft(src="10.0.2.99"), Transfer(GPU, DROP, sent=1)], "gpu")

    assert (issued.verdict, issued.gap) == ("excluded", 0)
