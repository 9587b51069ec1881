"""Reviews by the dozen: a site that reviews every week has a hundred in two years."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from egress import ledger
from egress.accounts import charge, left, sent
from egress.config import LifecycleEvent
from egress.inventory import Inventory
from egress.reviews import NEVER, reviewed
from tests.egress import labelled
from tests.egress.labelled import DAY, START


def test_a_hundred_reviews_drain_each_byte_at_the_earliest_that_speaks_of_it() -> None:
    """The expression must not double with every review; the days of the first two reviews differ."""
    rows = labelled.transfer(labelled.VICTIM, labelled.STRANGER, START, labelled.PART, 1000)
    rows += labelled.transfer(labelled.VICTIM, labelled.STRANGER, START + 36 * labelled.HOUR, labelled.PART, 1000)
    rows += labelled.transfer(labelled.OTHER, labelled.STRANGER, START, labelled.PART, 1000)
    reviews = tuple(LifecycleEvent(START + day * DAY, "review", host="gpu-01") for day in range(100, 0, -1))
    inventory = Inventory(replace(labelled.config(), lifecycle=reviews))
    cells = ledger.cells_of(inventory.attribute(labelled.frame(rows)))
    gone = left(sent(cells, inventory)).with_columns(is_misdated=pl.lit(False))
    entries = charge(gone, inventory, START + 99 * DAY)

    drained = reviewed(entries, inventory).sort("host", "minute")

    assert drained["drained_at"].to_list() == [START + DAY, START + 2 * DAY, NEVER]
