"""Why a finding is one, in sentences with numbers and units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from egress import words
from egress.addresses import text_of
from egress.approvals import NONE, name_matches
from egress.cells import HOUR_US
from egress.charges import PATH_SEPARATOR
from egress.config import Approval, Model
from egress.contracts import Level
from egress.inventory import Inventory
from egress.levels import LIFETIME, Rise, ladder
from egress.proof import UNAPPROVED
from egress.schema import NO_ADDRESS

MOST_NAMED = 3
"""Sentences of one kind; the largest come first."""

_ACCOUNT_REASONS = {
    "day": "{amount:,} B beyond the {day:,} B that approval {id} allows a host a day",
    "peer": "{amount:,} B beyond the {peer:,} B that approval {id} allows a peer a day",
    "expired": "{amount:,} B after approval {id} expired at {expires}",
    "receipt": "{amount:,} B under approval {id} without a receipt within {deadline}",
    "manifest": "{amount:,} B under approval {id} beyond what its manifests list ({jobs})",
}


def reasons(rise: Rise, peak: int, charges: pl.DataFrame, inventory: Inventory) -> Iterator[str]:
    """Sentences about the rise that explains an episode: its window's largest sum, and the model's `charges`."""
    yield _level_reason(rise, peak)
    yield from _account_reasons(charges, inventory)
    yield from _claims(charges, inventory)
    yield from _wire_reasons(charges)


def total_of(charges: pl.DataFrame) -> int:
    """Their bytes, exact however large."""
    return int(charges["bytes"].cast(pl.Int128).sum() or 0)


def _level_reason(rise: Rise, peak: int) -> str:
    model = rise.model
    span = "since the last review" if rise.window == LIFETIME else f"in {rise.window}"
    return (
        f"{peak:,} B {span} is {words.share(peak / model.bytes)} of {model.id} ({words.size(model.bytes)}); "
        f"{rise.level.word} from {_percent(model, rise.level, rise.is_retiring)}"
    )


def _percent(model: Model, level: Level, is_retiring: bool) -> str:
    steps = ladder(model)
    place = [reached for _, reached in steps].index(level)
    threshold = steps[max(0, place - is_retiring)][0]
    return f"{100 * threshold / model.bytes:.4g} %" + (f" while {model.id} is retiring" if is_retiring else "")


def _account_reasons(charges: pl.DataFrame, inventory: Inventory) -> Iterator[str]:
    unapproved = charges.filter((pl.col("account") == UNAPPROVED) & pl.col("why").is_in(list(_ACCOUNT_REASONS)))
    sums = unapproved.group_by("why", "approval").agg(pl.col("bytes").cast(pl.Int128).sum())
    for why, index, amount in sums.sort("why", "approval").iter_rows():
        approval = inventory.config.approvals[index]
        hosts = unapproved.filter((pl.col("why") == why) & (pl.col("approval") == index))["host"]
        yield _ACCOUNT_REASONS[why].format(**_words_of(approval, hosts, inventory), amount=amount)


def _words_of(approval: Approval, hosts: pl.Series, inventory: Inventory) -> dict[str, object]:
    named = [event for event in inventory.config.lifecycle if event.event == "manifest"]
    jobs = {event.job for event in named if any(inventory.matches([event.host], host) for host in hosts.unique())}
    return {
        "id": approval.id,
        "day": approval.bytes_per_day,
        "peer": approval.bytes_per_peer_per_day or 0,
        "expires": words.moment(approval.expires),
        "deadline": f"{approval.receipt_deadline / HOUR_US:.3g} h",
        "jobs": ", ".join(sorted(jobs)),
    }


def _claims(charges: pl.DataFrame, inventory: Inventory) -> Iterator[str]:
    """Names that would be approved if they rested on more than the sender's word."""
    claimed = charges.filter((pl.col("name") != "") & (pl.col("approval") == NONE))
    for name, name_from, host, amount in _sums(claimed, "name", "name_from", "host"):
        for approval in inventory.config.approvals:
            covers = any(name_matches(name, pattern) for pattern in approval.names)
            if covers and inventory.matches(approval.hosts, host):
                yield (
                    f"{amount:,} B name {name}, which approval {approval.id} covers, but only by {name_from}: "
                    "that counts where an answer of fleet.resolvers gave this address, and for the outermost one"
                )


def _wire_reasons(charges: pl.DataFrame) -> Iterator[str]:
    """What the packets themselves say: tunnels, who connected, clocks."""
    for path, amount in _sums(charges.filter(pl.col("path") != ""), "path"):
        yield f"{amount:,} B were relayed: {' > '.join(path.split(PATH_SEPARATOR))}"
    tunnels = charges.filter(pl.col("outer_ip") != NO_ADDRESS)
    for tunnel, outer, amount in _sums(tunnels, "tunnel", "outer_ip"):
        yield f"{amount:,} B went inside {tunnel or 'a tunnel'} to {text_of(outer)}"
    for port, amount in _sums(charges.filter(pl.col("served_port") > 0), "served_port"):
        yield f"{amount:,} B were fetched: the other side connected to port {port} here"
    misdated = total_of(charges.filter(pl.col("is_misdated")))
    if misdated:
        yield f"{misdated:,} B carry a time far from all others (clock error); charged at the nearest credible minute"


def _sums(charges: pl.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    sums = charges.group_by(columns).agg(pl.col("bytes").cast(pl.Int128).sum())
    ordered = sums.sort("bytes", *columns, descending=[True, *(False for _ in columns)])
    yield from ordered.head(MOST_NAMED).iter_rows()
