"""What Egress promises about kinds of theft, held against what was measured, at findings of medium level and above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from egress.cells import DAY_US, HOUR_US, MINUTE_US
from egress.contracts import Level
from egress.evaluate import EGRESS, Evaluation
from egress.scoring import Outcome, Point

LEVEL = Level.MEDIUM
BURST_BYTES = 16_000_000_000
BURSTS = (
    *("burst", "parallel", "quantised", "compressed", "delta", "ipv6", "overlay"),
    *("fan-out", "relay", "reverse-pull", "last-minute"),
)
"""By any path outside an approval."""
AT_ONCE = 0.06
"""Of a model: what may be gone at the alarm beyond one reporting part; about 1/16, the strongest compression known."""
DRIPPED = 0.15
NEW_HOLDER = 0.25
"""Of a model: what a host may receive before it is a holder; the ledger counts it by the minute."""
LATE_US = DAY_US + HOUR_US
"""Receipts are due in a day; an hour for what is reported in parts."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Which thefts it is about, and what must be true of one that was found."""

    text: str
    kinds: Sequence[str]
    is_kept: Callable[[Outcome], bool]
    least_bytes: int = 0


def _gone_within(outcome: Outcome, least_us: int = 0) -> float:
    """Fraction of the model that leaves at the mean rate during the longest part, or so many microseconds."""
    theft, label = outcome.theft, outcome.theft.label
    part = int((theft.ends - theft.starts).max()) if theft.ends.size else 0
    rate = label.bytes / max(1, label.end - label.start)
    return max(part, least_us) * rate / label.model_bytes


def _gone_at_once(outcome: Outcome) -> bool:
    return outcome.gone <= AT_ONCE + _gone_within(outcome)


def _gone_beyond_tolerance(outcome: Outcome) -> bool:
    """The ledger speaks of what exceeds the tolerance that the site wrote down, which starts anew each UTC day."""
    theft = outcome.theft
    days = 2 + (outcome.delay_us or 0) // DAY_US  # that it can touch
    tolerated = days * theft.tolerated_a_day / theft.label.model_bytes
    return outcome.gone <= AT_ONCE + _gone_within(outcome) + tolerated


def _at_a_new_holder(outcome: Outcome) -> bool:
    return outcome.gone <= NEW_HOLDER + _gone_within(outcome, MINUTE_US)


def _gone_slowly(outcome: Outcome) -> bool:
    return outcome.gone <= DRIPPED


def _before_the_end(outcome: Outcome) -> bool:
    return outcome.delay_us is not None and outcome.delay_us <= outcome.theft.label.end - outcome.theft.began


def _by_the_deadline(outcome: Outcome) -> bool:
    over = outcome.theft.label.end - outcome.theft.began
    return outcome.delay_us is not None and outcome.delay_us <= over + LATE_US


PROMISES = (
    Promise("16 GB or more at once, outside an approval", BURSTS, _gone_at_once, BURST_BYTES),
    Promise("dripped over days or weeks, at most 15 % gone", ("drip-days", "drip-weeks"), _gone_slowly),
    Promise("any baseline ridden, 6 %, a part and what is tolerated gone", ("ramp", "peaks"), _gone_beyond_tolerance),
    Promise("piggy-back on a job with a manifest, before it closes", ("piggyback",), _before_the_end),
    Promise("own bucket, mimicked checkpoints: by the deadline", ("own-bucket", "mimic-checkpoint"), _by_the_deadline),
    Promise("copied inside, a quarter and a minute gone", ("inside-copy",), _at_a_new_holder),
    Promise("while no sensor looked", ("gap",), _by_the_deadline),
)


def point(evaluation: Evaluation) -> Point:
    """Egress at findings of medium level and above."""
    return evaluation.named(EGRESS).marks[LEVEL.word]


def rows(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """For each promise: its text, found of how many, kept of those found, and the worst that was gone."""
    found = []
    for promise in PROMISES:
        mine = [outcome for outcome in point(evaluation).outcomes if _is_meant(promise, outcome)]
        if mine:
            seen = [outcome for outcome in mine if outcome.is_found]
            kept = sum(map(promise.is_kept, seen))
            worst = f"{max(outcome.gone for outcome in mine):.1%}"
            found.append((promise.text, f"{len(seen)}/{len(mine)}", f"{kept}/{len(mine)}", worst))
    return found


def _is_meant(promise: Promise, outcome: Outcome) -> bool:
    return outcome.theft.label.kind in promise.kinds and outcome.theft.label.bytes >= promise.least_bytes
