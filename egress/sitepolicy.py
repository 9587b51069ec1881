"""What a careful site would have declared about its honest traffic: approvals, caps, tolerances, receipts, reviews.

All of it is derived from the honest transfers, by stated rules; attacks are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from egress.addresses import text_of
from egress.fleetplan import DAY_US, HOUR_US, SECOND_US, Plan
from egress.rhythm import around
from egress.traffic import APPROVED
from egress.transfers import days_of

CAP_FACTOR = 2
"""A cap is twice the busiest honest day of any host: growth, retries, a doubled cadence."""
PEER_CAP_FACTOR = 1.5
TOLERANCE_FACTOR = 1.5
"""A role's tolerance is 1.5 times the unapproved bytes that 95 of 100 of its honest host-days stay below."""
ROUND_TO = 10_000_000

OVERHEAD = (1.006, 1.024)
"""TLS, HTTP and repeats on top of an object."""
LATE_SHARE = 0.03
LATE_US = (2 * HOUR_US, 14 * HOUR_US)

BROKEN = "retries"
"""Uploads that broke off: no destination holds them."""


REVIEWED, REVIEW_FROM = "errands", 200_000_000
"""What a week's review looks at, and from how many bytes to one place."""


@dataclass(frozen=True, slots=True)
class Grant:
    """An approval as the site wrote it; its caps come from what it covers."""

    hosts: tuple[str, ...]
    to: tuple[str, ...] = ()
    serve: tuple[int, ...] = ()
    has_peer_cap: bool = False
    has_receipts: bool = False


GRANTS = {
    "telemetry": Grant(("*",), ("198.18.4.0/24",), (9100,)),
    "logs": Grant(("*",), ("198.18.5.0/24",)),
    "serving": Grant(("role:inference",), serve=(443,), has_peer_cap=True),
    "model-api": Grant(("role:agent",), ("api.model-api.home.arpa",)),
    "git": Grant(("*",), ("198.18.2.0/24",)),
    "checkpoints": Grant(("role:training",), ("*.buckets.home.arpa",), has_receipts=True),
    "backups": Grant(("role:storage",), ("198.18.8.0/24",), has_receipts=True),
    "region-2": Grant(("role:storage",), ("198.18.9.0/24",), has_receipts=True),
    "recovery": Grant(("role:storage", "role:training"), ("198.18.10.0/24",), has_receipts=True),
    "tracking": Grant(("role:training",), ("198.18.12.0/24",)),
    "partner": Grant(("role:dev",), ("198.18.11.0/24",)),
    "registry": Grant(("role:dev",), ("198.18.1.0/24",), has_receipts=True),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What goes into `egress.toml` beside the plan: bytes a day by role and by approval."""

    tolerated: Mapping[str, int]
    caps: Mapping[str, int]
    peer_caps: Mapping[str, int]


PLANNED = ("recovery",)
"""What was announced gets the caps that it needs; other odd days must live with those of usual ones."""


def policy(usual: pl.DataFrame, odd: Sequence[pl.DataFrame], plan: Plan) -> Policy:
    """What the site declares on the strength of its usual traffic, and of the odd days that it planned."""
    honest = pl.concat([usual, *(frame.filter(pl.col("family").is_in(PLANNED)) for frame in odd)])
    count = len(plan.machines)
    roles = pl.Series([each.role for each in plan.machines])
    # Only bytes beyond the perimeter fall under an approval or a tolerance.
    out = honest.filter((pl.col("peer") >= 2 * count) & (pl.col("family") != "names"))
    out = out.with_columns(
        day=days_of(out),
        role=roles[out["host"]],
        approval=pl.col("family").replace_strict(APPROVED, default=""),
        network=pl.Series([each.address[:15] for each in plan.endpoints])[out["peer"]],
    )
    approved = out.filter(pl.col("approval") != "")
    daily = approved.group_by("approval", "host", "day").agg(pl.col("sent").sum())
    by_peer = approved.group_by("approval", "host", "day", "network").agg(pl.col("sent").sum())
    return Policy(_tolerances(out, plan), _largest(daily, CAP_FACTOR), _largest(by_peer, PEER_CAP_FACTOR))


def _tolerances(out: pl.DataFrame, plan: Plan) -> dict[str, int]:
    unapproved = out.filter(pl.col("approval") == "").group_by("role", "host", "day").agg(pl.col("sent").sum())
    found = {}
    for role in sorted({each.role for each in plan.machines}):
        days = np.zeros(max(1, plan.of_role(role).size * plan.days), dtype=np.int64)
        sums = unapproved.filter(pl.col("role") == role)["sent"].sort().to_numpy()[-days.size :]
        days[: sums.size] = sums
        found[role] = _rounded(TOLERANCE_FACTOR * float(np.quantile(days, 0.95)))
    return found


def _largest(sums: pl.DataFrame, factor: float) -> dict[str, int]:
    most = sums.group_by("approval").agg(pl.col("sent").max()).sort("approval")
    return {approval: _rounded(factor * sent) for approval, sent in most.iter_rows()}


def _rounded(amount: float) -> int:
    return max(1, -(-int(amount) // ROUND_TO)) * ROUND_TO


def reviews(honest: pl.DataFrame, plan: Plan) -> list[dict[str, object]]:
    """Every Monday somebody looks at what people took home in the week before, and signs what was much."""
    week = (pl.col("start") // DAY_US + 3) // 7  # 1970-01-01 was a Thursday
    taken = honest.filter(pl.col("family") == REVIEWED).with_columns(week=week)
    sums = taken.group_by("week", "host", "peer").agg(pl.col("sent").sum()).filter(pl.col("sent") >= REVIEW_FROM)
    sums = sums.with_columns(monday=((pl.col("week") + 1) * 7 - 3) * DAY_US + 10 * HOUR_US)
    due = sums.filter(pl.col("monday") < plan.end).sort("monday", "host", "peer")
    return [
        {
            "time": monday,
            "event": "review",
            "host": plan.machines[host].id,
            "by": "dora",
            "destinations": [text_of(plan.endpoints[peer].address)],
            "ticket": "OPS-340",
            "note": "own files, seen",
        }
        for monday, host, peer in due.select("monday", "host", "peer").iter_rows()
    ]


def accepted_while_retiring(model: str, begin: int, end: int) -> dict[str, object]:
    """A review of what goes on meanwhile: all that is approved, but for places where people put what they like."""
    goes_on = [name for name in GRANTS if name not in ("registry", "recovery")]
    review = {"time": begin, "event": "review", "model": model, "destinations": goes_on, "until": end}
    return review | {"by": "bob", "ticket": "OPS-310", "note": "goes on while it retires"}


def receipts(frame: pl.DataFrame, plan: Plan, rng: np.random.Generator) -> list[dict[str, object]]:
    """What destinations say that they hold: one receipt an object, most within minutes, some half a day late."""
    awaiting = [family for family, approval in APPROVED.items() if GRANTS[approval].has_receipts and family != BROKEN]
    sent = frame.filter(pl.col("family").is_in(awaiting)).sort("start", "host", "peer", "sent")
    delay = around(rng, 240 * SECOND_US, 1.2, sent.height).clip(SECOND_US, HOUR_US)
    is_late = rng.random(sent.height) < LATE_SHARE
    delay = np.where(is_late, rng.integers(*LATE_US, sent.height), delay)
    size = (sent["sent"].to_numpy() / rng.uniform(*OVERHEAD, sent.height)).astype(np.int64)
    time = (sent["start"] + sent["length"]).to_numpy() + delay
    ids = [each.id for each in plan.machines]
    lines = zip(time.tolist(), sent["family"], sent["host"], size.tolist(), strict=True)
    return [
        {
            "time": time,
            "approval": APPROVED[family],
            "host": ids[host],
            "object": f"{family}/{number:06}",
            "bytes": amount,
        }
        for number, (time, family, host, amount) in enumerate(lines)
        if time < plan.end
    ]
