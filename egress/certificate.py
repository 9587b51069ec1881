"""Certificates: whether anything the size of a model could have left, and what that statement rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from egress import accounts, words
from egress.approvals import is_outside
from egress.cells import MINUTE_US
from egress.charges import relayed, relays_of
from egress.config import Model
from egress.edges import edges_of, reachable, views_of
from egress.errors import UsageError
from egress.inventory import Inventory
from egress.proof import LAPSED, PROVEN, UNAPPROVED, UNPROVEN
from egress.vantage import Dated, dated, largest_view

SMALLEST_COPY = 16
"""The strongest published compression leaves a sixteenth of a model."""

EXCLUDED, POSSIBLE, UNKNOWN = "excluded", "possible", "unknown"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What could have left of one model in a time, and under which assumptions.

    `excluded`: less than a sixteenth of it, even if everything unapproved, unproven and unseen was the model.
    `possible`: what left without proof would hold it. `unknown`: what was not seen could, or nothing was seen.
    """

    model: str
    host: str
    """Empty for every host that held or could have relayed the model."""
    start: int
    """UTC microseconds; `end` is not included."""
    end: int
    native_bytes: int
    verdict: str
    unapproved: int
    unproven: int
    proven: int
    gap: int
    """Bytes missing from the captures, bytes whose time cannot be believed, and what strangers near the host sent."""
    assumptions: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "model": self.model,
            "host": self.host or None,
            "from": words.moment(self.start),
            "to": words.moment(self.end),
            "verdict": self.verdict,
            "native_bytes": self.native_bytes,
            "excluded_below": smallest_copy(self.native_bytes),
            "bytes": {
                UNAPPROVED: self.unapproved,
                UNPROVEN: self.unproven,
                PROVEN: self.proven,
                "gap": self.gap,
            },
            "assumptions": list(self.assumptions),
        }


def smallest_copy(native_bytes: int) -> int:
    """Bytes from which a copy of the model cannot be excluded."""
    return -(-native_bytes // SMALLEST_COPY)


def certify(
    cells: pl.DataFrame,
    inventory: Inventory,
    model_id: str,
    host: str | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    gaps: Mapping[str, int] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> Certificate:
    """The certificate of a model for one host, or for all, from `start_us` until before `end_us`.

    Without times it covers whatever was seen. `cells` are those of the whole fleet: what a host relayed is known from
    the cells of others. Tolerance is ignored. `gaps`: bytes by host that left its network card beyond what any sensor
    saw; `remarks`: what they are made of (`Coverage.gap_bytes` and `remarks`). Raises UsageError for an unknown model.
    """
    model = _model(model_id, inventory)
    clock = dated(cells)
    seen = largest_view(clock.cells, inventory.config.fleet.disjoint)
    sent = accounts.sent(seen, inventory)
    edges = edges_of([views_of(seen, sent, inventory)])
    hosts = set(seen["host"].unique()) | set(edges["src"].unique()) | {each.id for each in inventory.config.fleet.hosts}
    holders = inventory.holders_of(model_id, hosts)
    subjects = (set(holders) | reachable(edges, holders)) & (hosts if host is None else {host})

    start, end = _span(seen, clock.watermark, start_us, end_us)
    minute = pl.col("minute").cast(pl.Int64)
    is_in_time = (minute > start - MINUTE_US) & (minute < end)
    left = _left(sent, inventory, clock.watermark).filter(is_in_time | pl.col("is_misdated"))
    of_all = _charged(left, edges, holders)
    charged = of_all.filter(pl.col("host").is_in(subjects))
    sums = _sums(charged.filter(~pl.col("is_misdated")))
    strange = of_all.filter(pl.col("host").is_in(inventory.strangers_near(host or "", hosts)))
    # A broken clock could have put bytes of this time anywhere, so they count whenever they are said to have left.
    gap = _sum(charged.filter("is_misdated"), "bytes") + _sum(strange, "bytes")
    gap += _missed(seen.filter(pl.col("host").is_in(subjects) & (is_in_time | pl.col("is_misdated"))), inventory)
    gap += sum(amount for name, amount in (gaps or {}).items() if name in subjects)
    assumptions = (
        *_assumptions(clock, inventory, model, sorted(subjects), gaps),
        *((remarks or {})[name] for name in sorted(subjects) if name in (remarks or {})),
        *_unseen(set(holders) & subjects, seen.filter(is_in_time)),
        *(f"{name}, which nobody lists, sent {size:,} B and may be {host}" for name, size in _by_host(strange)),
    )
    verdict = _verdict(model, sums, gap, is_blind=seen.filter(is_in_time).is_empty())
    amounts = (sums[UNAPPROVED], sums[UNPROVEN], sums[PROVEN], gap)
    return Certificate(model_id, host or "", start, end, model.bytes, verdict, *amounts, assumptions)


def _model(model_id: str, inventory: Inventory) -> Model:
    try:
        return inventory.model(model_id)
    except KeyError as error:
        declared = ", ".join(model.id for model in inventory.config.models) or "none"
        raise UsageError(f"model {model_id} is not declared; declared are: {declared}") from error


def _span(seen: pl.DataFrame, watermark: int, start_us: int | None, end_us: int | None) -> tuple[int, int]:
    first = seen["first"].cast(pl.Int64).min()
    start = first if isinstance(first, int) else 0
    return start if start_us is None else start_us, watermark + 1 if end_us is None else end_us


def _charged(left: pl.DataFrame, edges: pl.DataFrame, holders: Sequence[str]) -> pl.DataFrame:
    """What left from holders, and what others relayed of what they received at any time before.

    `left` is what left in the time in question, and nothing else: who sent a copy out earlier may send it out again.
    """
    passed_on = relayed(left.with_columns(path=pl.lit("")), relays_of(holders, edges, left)).drop("path")
    return pl.concat([left.filter(pl.col("host").is_in(holders)), passed_on])


def _left(sent: pl.DataFrame, inventory: Inventory, watermark: int) -> pl.DataFrame:
    """Entries that left, each byte once and when it left: what lapsed is unapproved from the start."""
    left = accounts.charge(accounts.left(sent), inventory, watermark)
    left = left.filter(~((pl.col("account") == UNAPPROVED) & (pl.col("why") == "receipt")))
    return left.with_columns(account=pl.col("account").replace(LAPSED, UNAPPROVED))


def _sums(charged: pl.DataFrame) -> dict[str, int]:
    return {
        account: _sum(charged.filter(pl.col("account") == account), "bytes")
        for account in (UNAPPROVED, UNPROVEN, PROVEN)
    }


def _missed(seen: pl.DataFrame, inventory: Inventory) -> int:
    """Bytes that conversations with the outside lack in the captures, in either direction."""
    return _sum(seen.filter(is_outside(inventory, "remote_ip") | is_outside(inventory, "outer_ip")), "missed")


def _sum(frame: pl.DataFrame, column: str) -> int:
    return int(frame[column].cast(pl.Int128).sum() or 0)


def _verdict(model: Model, sums: Mapping[str, int], gap: int, *, is_blind: bool) -> str:
    threshold = smallest_copy(model.bytes)
    if sums[UNAPPROVED] + sums[UNPROVEN] >= threshold:
        return POSSIBLE
    return UNKNOWN if is_blind or sums[UNAPPROVED] + sums[UNPROVEN] + gap >= threshold else EXCLUDED


def _by_host(entries: pl.DataFrame) -> list[tuple[str, int]]:
    return list(entries.group_by("host").agg(pl.col("bytes").cast(pl.Int128).sum()).sort("host").iter_rows())


def _unseen(holders: set[str], seen: pl.DataFrame) -> Iterator[str]:
    for host in sorted(holders - set(seen["host"])):
        yield f"nothing was seen of {host} in this time; if its traffic passed no sensor, this says nothing about it"


def _assumptions(
    clock: Dated, inventory: Inventory, model: Model, subjects: Sequence[str], gaps: Mapping[str, int] | None
) -> Iterator[str]:
    yield f"no copy of {model.id} is smaller than {smallest_copy(model.bytes):,} B, 1/{SMALLEST_COPY} of it"
    if clock.cells.is_empty():
        yield "nothing was seen at all"
    else:
        sensors = ", ".join(clock.cells["sensor"].unique().sort())
        first = int(clock.cells["first"].cast(pl.Int64).min())  # type: ignore[arg-type] # not empty, so not None
        yield f"what left passed one of {sensors}; they saw {words.moment(first)} to {words.moment(clock.watermark)}"
    if gaps is None:
        yield "no heartbeats were given: a silent sensor looks like a silent host"
    for host in subjects:
        if gaps is not None and host not in gaps:
            yield f"no heartbeats of {host} were given: a silent sensor looks like a silent host"
    for host in subjects:
        if inventory.tolerance_of(host):
            yield f"{host} may send {inventory.tolerance_of(host):,} B a day unapproved; that is not taken off here"
        for approval in inventory.config.approvals:
            if inventory.matches(approval.hosts, host):
                yield f"{host} may send {approval.bytes_per_day:,} B a day under approval {approval.id}"
