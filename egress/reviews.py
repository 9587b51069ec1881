"""Reviews and retirements: what people said about a host or a model, and what that does to its sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from egress.approvals import Destinations
from egress.cells import MINUTE_US
from egress.config import LifecycleEvent
from egress.destinations import with_groups
from egress.grouping import coded
from egress.inventory import Inventory
from egress.levels import Flags, Longs

PLACE = [
    *("host", "remote_ip", "outer_ip", "name", "name_from", "approval", "account"),
    *("inner_is_outside", "outer_is_outside"),
]
"""What a review can be about."""

NEVER = 2**62
"""Later than any time."""

RETIRING_FROM = ("retire_requested", "retire_approved")
RETIRING_UNTIL = "retire_verified"


def reviewed(entries: pl.DataFrame, inventory: Inventory, model: str = "") -> pl.DataFrame:
    """Adds `drained_at`, when a review took the entry out of the lifetime, and drops what one had accepted before.

    Without a model the reviews of hosts alone are meant, with it those that name the model. A review speaks about
    bytes that left before its `until`, which is its own time where it says none: those from before the review are
    drained by it, those after it are accepted.
    """
    reviews = [each for each in inventory.config.lifecycle if each.event == "review" and each.model == model]
    entries = entries if "drained_at" in entries.columns else entries.with_columns(drained_at=pl.lit(NEVER, pl.Int64))
    if not reviews or entries.is_empty():
        return entries
    # There are many entries of one place: what a review is about is asked once for each.
    codes, places = coded(entries, PLACE)
    grouped = with_groups(places, inventory.config.approvals)
    meant = [f"meant_{number}" for number in range(len(reviews))]
    flags = grouped.select(
        _is_meant(each, grouped, inventory).alias(name) for each, name in zip(reviews, meant, strict=True)
    )
    accepted, drains = [], []
    for review, name in zip(reviews, meant, strict=True):
        is_meant = pl.col(name)
        is_before = is_meant & (pl.col("minute") < min(review.time, _until(review)))
        accepted.append(is_meant & (pl.col("minute") >= review.time) & (pl.col("minute") < _until(review)))
        # Side by side: an expression that held the one before it twice would double with every review.
        drains.append(pl.when(is_before).then(review.time).otherwise(NEVER))
    asked = pl.concat([entries, flags[codes]], how="horizontal")
    drained = asked.with_columns(drained_at=pl.min_horizontal("drained_at", *drains))
    return drained.filter(~pl.any_horizontal(accepted)).select(entries.columns)


def _until(review: LifecycleEvent) -> int:
    return review.time if review.until is None else review.until


def _is_meant(review: LifecycleEvent, entries: pl.DataFrame, inventory: Inventory) -> pl.Expr:
    hosts = [host for host in entries["host"].unique() if not review.host or inventory.matches([review.host], host)]
    is_meant = pl.col("host").is_in(hosts)
    if not review.destinations:
        return is_meant
    approvals = [n for n, each in enumerate(inventory.config.approvals) if each.id in review.destinations]
    destinations = Destinations.of(review.destinations).covers(entries["name"], inventory, pl.lit(False))
    # A domain groups by whatever resolver named it; only the site's own resolvers are evidence.
    is_domain = pl.col("group").is_in(list(review.destinations)) & pl.lit(bool(inventory.config.fleet.resolvers))
    return is_meant & (destinations | is_domain | pl.col("approval").is_in(approvals))


def accepts(host: str, model: str, inventory: Inventory) -> pl.Expr:
    """Whether a review of everything that the host or the model sent had accepted what left at `minute`."""
    spans = [(review.time, _until(review)) for review in _total_reviews(host, model, inventory)]
    return is_within(pl.col("minute"), spans)


def life_since(host: str, model: str, minutes: Longs, inventory: Inventory) -> Longs:
    """For each minute when the lifetime that it belongs to began: at the last review of everything, or at 0."""
    since = minutes * 0
    for review in _total_reviews(host, model, inventory):
        since[minutes >= review.time] = min(review.time, _until(review)) // MINUTE_US * MINUTE_US
    return since


def _total_reviews(host: str, model: str, inventory: Inventory) -> Iterator[LifecycleEvent]:
    for review in inventory.config.lifecycle:
        is_total = review.event == "review" and not review.destinations and review.model in ("", model)
        if is_total and (not review.host or (host and inventory.matches([review.host], host))):
            yield review


def retirements(model: str, inventory: Inventory) -> list[tuple[int, int]]:
    """From when until when the model is retiring, in microseconds; `NEVER` while the end was not verified."""
    spans: list[tuple[int, int]] = []
    begun = 0 if inventory.model(model).status == "retiring" else None
    for event in sorted(_retiring_events(model, inventory.config.lifecycle), key=lambda event: event.time):
        if event.event == RETIRING_UNTIL and begun is not None:
            spans.append((begun, event.time))
            begun = None
        elif event.event in RETIRING_FROM and begun is None:
            begun = event.time // MINUTE_US * MINUTE_US
    return [*spans, (begun, NEVER)] if begun is not None else spans


def _retiring_events(model: str, events: Sequence[LifecycleEvent]) -> Iterator[LifecycleEvent]:
    kinds = (*RETIRING_FROM, RETIRING_UNTIL)
    return (event for event in events if event.model == model and event.event in kinds)


def is_within(column: pl.Expr, spans: Sequence[tuple[int, int]]) -> pl.Expr:
    return pl.any_horizontal([(column >= begin) & (column < end) for begin, end in spans] or [pl.lit(False)])


def flags_within(minutes: Longs, spans: Sequence[tuple[int, int]]) -> Flags:
    flags = minutes < 0
    for begin, end in spans:
        flags |= (minutes >= begin) & (minutes < end)
    return flags
