"""Manifests and receipts: which of the approved bytes are proven, and which were not proven in time.

A manifest says beforehand what a job will send, a receipt says afterwards what arrived. Neither approves anything:
they only speak about bytes inside an approval.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from egress.approvals import Destinations
from egress.cells import MINUTE_US
from egress.config import Approval, LifecycleEvent, Receipt
from egress.inventory import Inventory

UNAPPROVED, UNPROVEN, PROVEN = "unapproved", "unproven", "proven"
LAPSED = "lapsed"
"""Left unproven and was never proven: the same bytes stand again, as unapproved, where their deadline passed."""

CLOCKS_US = 5 * MINUTE_US
"""How far the clocks of a host and of a destination may be apart: receipts that seem to come before their bytes count,
as Kerberos bears with as much (RFC 4120, 5 minutes)."""

OVERHEAD_PERCENT = 6
"""Of what is proven, so much more may leave as headers, handshakes and repeats of its transport."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of some bytes of one entry. `at`: when they became so, None for the time that they left."""

    row: int
    bytes: int
    account: str
    why: str = ""
    at: int | None = None


def overhead(proven: int) -> int:
    return proven * OVERHEAD_PERCENT // 100


def prove(entries: pl.DataFrame, inventory: Inventory, watermark: int) -> pl.DataFrame:
    """Entries, in time order, with unproven ones divided by what manifests and receipts say of them."""
    return _receipted(_manifested(entries, inventory), inventory.config.approvals, watermark)


def _manifested(entries: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    manifests = [event for event in inventory.config.lifecycle if event.event == "manifest"]
    if not manifests or entries.is_empty():
        return entries
    hosts = entries["host"].unique().to_list()
    unproven = entries.with_row_index("row").filter(pl.col("account") == UNPROVEN)
    marked = unproven.with_columns(
        _applies(manifest, hosts, unproven, inventory).alias(f"m{number}") for number, manifest in enumerate(manifests)
    )
    names = [f"m{number}" for number in range(len(manifests))]
    concerned = marked.filter(pl.any_horizontal(names))
    rows = concerned.select("row", "bytes", *names).iter_rows()
    rulings = by_manifest(((row, amount, applies) for row, amount, *applies in rows), manifests)
    return _ruled(entries, concerned["row"], rulings)


def _applies(manifest: LifecycleEvent, hosts: Sequence[str], entries: pl.DataFrame, inventory: Inventory) -> pl.Expr:
    trusting = [number for number, approval in enumerate(inventory.config.approvals) if approval.trust_names]
    is_named_host = pl.col("host").is_in([host for host in hosts if inventory.matches([manifest.host], host)])
    destinations = Destinations.of(manifest.to)
    covers = destinations.covers(entries["name"], inventory, pl.col("approval").is_in(trusting))
    return is_named_host & covers & (pl.col("minute") >= manifest.time // MINUTE_US * MINUTE_US)


def by_manifest(rows: Iterable[tuple[int, int, Sequence[bool]]], manifests: Sequence[LifecycleEvent]) -> list[Ruling]:
    """Rulings on (row, bytes, which manifests apply), in time order: credit proves, overhead stays, the rest is out."""
    listed = [sum(size for _, size in manifest.files) for manifest in manifests]
    allowances = ((PROVEN, listed.copy()), (UNPROVEN, [overhead(size) for size in listed]))
    rulings = []
    for row, amount, applies in rows:
        for account, credit in allowances:
            for number in (number for number, is_meant in enumerate(applies) if is_meant):
                taken = min(amount, credit[number])
                credit[number] -= taken
                amount -= taken
                rulings.append(Ruling(row, taken, account, "listed"))
        rulings.append(Ruling(row, amount, UNAPPROVED, "manifest"))
    return rulings


def _receipted(entries: pl.DataFrame, approvals: Sequence[Approval], watermark: int) -> pl.DataFrame:
    awaiting = [number for number, approval in enumerate(approvals) if approval.receipts is not None]
    is_awaiting = (pl.col("account") == UNPROVEN) & (pl.col("why") == "") & pl.col("approval").is_in(awaiting)
    concerned = entries.with_row_index("row").filter(is_awaiting)
    rulings = []
    for (number, host), part in concerned.group_by("approval", "host", maintain_order=True):
        approval = approvals[number]
        receipts = [each for each in approval.receipts or () if each.approval == approval.id and each.host == host]
        receipts.sort(key=lambda receipt: receipt.time)
        rows = part.select("row", "bytes", "minute", "first").iter_rows()
        rulings += by_receipt(rows, receipts, approval.receipt_deadline, watermark)
    return _ruled(entries, concerned["row"], rulings)


class _Lately:
    """Bytes of a sliding stretch of time; times must not run back."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._pieces: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, time: int, amount: int) -> None:
        self._pieces.append((time, amount))
        self._sum += amount

    def until(self, time: int) -> int:
        """What was added in the stretch that ends at `time`."""
        while self._pieces and self._pieces[0][0] < time - self._length:
            self._sum -= self._pieces.popleft()[1]
        return self._sum


def by_receipt(
    rows: Iterable[tuple[int, int, int, int]], receipts: Sequence[Receipt], deadline: int, watermark: int
) -> list[Ruling]:
    """Rulings on (row, bytes, minute, first), in time order, of one host under one approval.

    Each receipt proves the newest bytes that left before it, or by a fast clock seem to have left soon after it, and
    still wait (decision 0015): honest ones come soon
    after their object, and what nobody confirms stays behind. Bytes wait for `deadline` from the end of their minute;
    then they are unapproved, but for an overhead of what was proven while they waited: what was proven earlier has had
    its own overhead, and saves up none.
    """
    # Every byte of a minute gets the whole deadline, so the minute's end counts.
    coming = deque([row, amount, first, minute + MINUTE_US + deadline] for row, amount, minute, first in rows)
    waiting: deque[list[int]] = deque()
    rulings: list[Ruling] = []
    proven, excused = _Lately(deadline), _Lately(deadline)

    def lapse(before: int) -> None:
        while waiting and waiting[0][3] < before:
            row, amount, _, due = waiting.popleft()
            is_over = due <= watermark
            spared = min(amount, max(0, overhead(proven.until(due)) - excused.until(due))) if is_over else amount
            if is_over:
                excused.add(due, spared)
            rulings.append(Ruling(row, spared, UNPROVEN))
            rulings.append(Ruling(row, amount - spared, LAPSED))
            rulings.append(Ruling(row, amount - spared, UNAPPROVED, "receipt", due))

    for receipt in receipts:
        while coming and coming[0][2] <= receipt.time + CLOCKS_US:
            waiting.append(coming.popleft())
        lapse(receipt.time)
        credit = receipt.bytes
        while credit and waiting:
            taken = min(credit, waiting[-1][1])
            rulings.append(Ruling(waiting[-1][0], taken, PROVEN, "receipt", None))
            credit -= taken
            proven.add(receipt.time, taken)
            waiting[-1][1] -= taken
            if not waiting[-1][1]:
                waiting.pop()
    waiting.extend(coming)
    lapse(watermark + 1)
    rulings += [Ruling(row, amount, UNPROVEN) for row, amount, _, _ in waiting]
    return rulings


def _ruled(entries: pl.DataFrame, concerned: pl.Series, rulings: Sequence[Ruling]) -> pl.DataFrame:
    """Entries with the concerned ones replaced by what was ruled, in time order."""
    made = [ruling for ruling in rulings if ruling.bytes]
    if concerned.is_empty():
        return entries
    ruled = pl.DataFrame(
        [(each.row, each.bytes, each.account, each.why, each.at) for each in made],
        schema={"row": pl.UInt32, "bytes": pl.Int64, "account": pl.String, "why": pl.String, "at": pl.Int64},
        orient="row",
    )
    divided = entries[ruled["row"]].with_columns(ruled["bytes"], ruled["account"], ruled["why"], ruled["at"])
    divided = divided.with_columns(
        minute=pl.coalesce(pl.col("at") // MINUTE_US * MINUTE_US, "minute"),
        first=pl.coalesce("at", "first"),
        last=pl.coalesce("at", "last"),
    )
    untouched = entries.with_row_index("row").filter(~pl.col("row").is_in(concerned.implode()))
    return pl.concat([untouched.drop("row"), divided.drop("at")]).sort(
        "host", "minute", "first", "last", maintain_order=True
    )
