"""What became of every byte that left: unapproved, unproven or proven; and the excess over what a site tolerates.

Entries are pieces of cells with one account each, in time order per host: `host remote_ip outer_ip tunnel name
name_from served_port proto is_misdated minute first last bytes account approval why`. Times are UTC microseconds.
`approval` is an index into `config.approvals`, -1 for none; `why` says what decided the account.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from egress.amounts import longs
from egress.approvals import NONE, approve, cap, is_outside
from egress.cells import DAY_US
from egress.grouping import at
from egress.inventory import Inventory
from egress.proof import UNAPPROVED, UNPROVEN, prove

ORDER = [
    *("host", "minute", "first", "last", "remote_ip", "outer_ip", "tunnel"),
    *("name", "name_from", "served_port", "proto", "sensor"),
]
"""Total and free of arrival order: where a cap ends inside a minute must not depend on batches."""


def sent(cells: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """One entry for each cell in which something was sent, and whether its addresses are beyond the perimeter."""
    entries = cells.filter(pl.col("sent") > 0).with_columns(
        pl.col("minute", "first", "last").cast(pl.Int64), bytes=pl.col("sent").cast(pl.Int64)
    )
    # Asked once for each address: there are many cells for one.
    for address, answer in (("remote_ip", "inner_is_outside"), ("outer_ip", "outer_is_outside")):
        asked = entries.select(address).unique().with_columns(is_outside(inventory, address).alias(answer))
        answers = entries.select(address).join(asked, on=address, how="left", maintain_order="left")
        entries = entries.with_columns(answers[answer])
    return entries.drop("sent", "received", "missed")


def left(entries: pl.DataFrame) -> pl.DataFrame:
    """What left the perimeter of what was `sent`, by its inner or its outer address, in time order."""
    # What is in order but for its text sorts in a fifth of the time.
    return by_time(entries.filter(is_left()), ORDER[:4]).sort(ORDER)


def stayed(entries: pl.DataFrame) -> pl.DataFrame:
    """What went to an address inside of what was `sent`, in time order."""
    return entries.filter(~is_left()).sort(ORDER)


def is_left() -> pl.Expr:
    return pl.col("inner_is_outside") | pl.col("outer_is_outside")


def charge(entries: pl.DataFrame, inventory: Inventory, watermark: int) -> pl.DataFrame:
    """Entries with their final account; one that a cap, a manifest or a receipt divides becomes several."""
    return prove(in_order([approved(entries, inventory)]), inventory, watermark)


def approved(entries: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Entries as approvals and their caps divide them, in any order. Each UTC day is judged by itself."""
    return _divided(cap(approve(entries, inventory), inventory.config.approvals))


def in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`approved` entries of whole days in time order."""
    return pl.concat(parts).sort("host", "minute", "first", "last", maintain_order=True)


def _divided(capped: pl.DataFrame) -> pl.DataFrame:
    """Covered bytes first, what exceeds the caps after them, also in time."""
    turn = pl.col("first") + (
        (pl.col("last") - pl.col("first")).cast(pl.Int128) * pl.col("covered") // pl.col("bytes")
    ).cast(pl.Int64)
    expired = pl.when(pl.col("expired") != NONE).then(pl.lit("expired")).otherwise(pl.lit(""))
    covered = capped.filter(pl.col("covered") > 0).with_columns(
        bytes=pl.col("covered"), last=turn, account=pl.lit(UNPROVEN), why=pl.lit("")
    )
    beyond = capped.filter(pl.col("covered") < pl.col("bytes")).with_columns(
        bytes=pl.col("bytes") - pl.col("covered"),
        first=turn,
        account=pl.lit(UNAPPROVED),
        why=pl.when(pl.col("approval") == NONE).then(expired).otherwise(pl.col("cap")),
        approval=pl.when(pl.col("approval") == NONE).then("expired").otherwise("approval"),
    )
    return pl.concat([covered, beyond]).drop("covered", "cap", "expired")


def by_time(entries: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """The entries in order of `host` and times, as `order` has them; equal ones as they stand.

    Columns of numbers sort in half of what Polars takes for rows of them.
    """
    hosts = pl.Enum(entries["host"].unique().sort())
    numbers = entries.select(order).with_columns(pl.col("host").cast(hosts).to_physical())
    return at(entries, np.lexsort([longs(numbers[name]) for name in reversed(order)]))


def excess(entries: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Unapproved entries with `tolerated`, what the UTC day's tolerance of their host took, and `bytes`, the rest.

    The tolerance of a day is used in time order; nothing is saved up for later.
    """
    unapproved = entries.filter(pl.col("account") == UNAPPROVED)
    hosts = unapproved["host"].unique()
    tolerances = [inventory.tolerance_of(host) for host in hosts]
    if not any(tolerances):
        return unapproved.with_columns(tolerated=pl.lit(0, pl.Int64))
    tolerance = pl.DataFrame(
        {"host": hosts, "tolerance": tolerances},
        schema={"host": pl.String, "tolerance": pl.Int128},
    )
    used = unapproved.join(tolerance, on="host", how="left", maintain_order="left")
    after = pl.col("bytes").cast(pl.Int128).cum_sum().over("host", pl.col("minute") // DAY_US)
    before = after - pl.col("bytes")
    took = pl.min_horizontal(after, "tolerance") - pl.min_horizontal(before, "tolerance")
    used = used.with_columns(tolerated=took.cast(pl.Int64)).drop("tolerance")
    return used.with_columns(bytes=pl.col("bytes") - pl.col("tolerated"))
