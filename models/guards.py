"""What keeps learners from being taught by whoever has patience.

What could be a theft teaches nothing: a strange interval in which enough left to hold a model (the gate), and every
interval while the ledger has a finding of the host in the queue (`SIGNALS.is_tied`). What teaches is winsorised. And
beside each adaptive baseline stands a reference that was frozen when it began to speak: it follows by a little a day,
the baseline may stray from it no further than one interval may teach, and its moves are told.
"""

from __future__ import annotations

from dataclasses import dataclass

from egress.schema import NO_ADDRESS
from egress.words import at
from models.outside import Row

MODEL_FRACTION = 16
"""1/16 of the smallest held model: the strongest published compression could be complete."""
RECORD = 0.0
"""Score of a row that only tells: a baseline has moved."""


def could_hold(sent: int, model_bytes: int) -> bool:
    """Whether so many bytes could be a model that the host holds; never where it holds none (0)."""
    return 0 < model_bytes <= sent * MODEL_FRACTION


def winsorised(value: float, centre: float, reach: float) -> float:
    """The value, or the nearest that lies within `reach` of `centre`."""
    return min(max(value, centre - reach), centre + reach)


@dataclass(frozen=True, slots=True)
class Reference:
    """What was usual once. It follows what is usual now, but slowly."""

    value: float
    told: float
    """What it was when its value was last told."""

    @classmethod
    def frozen(cls, usual: float) -> Reference:
        return cls(usual, usual)

    def followed(self, usual: float, most: float) -> Reference:
        """A while later: no further than `most` from where it was."""
        return Reference(winsorised(usual, self.value, most), self.told)

    def held(self, usual: float, reach: float) -> float:
        """What is usual now, or less where that has run away from the reference by more than `reach`."""
        return min(usual, self.value + reach)

    def has_moved(self, step: float) -> bool:
        return abs(self.value - self.told) >= step

    def as_told(self) -> Reference:
        return Reference(self.value, self.value)


def moved(detector: str, host: str, span: tuple[int, int], before: str, now: str) -> Row:
    """The row that tells of a reference that has moved, but for its window; no bytes are counted.

    `span`: first and last packet of the window in which it is told, UTC microseconds.
    """
    return {
        "detector": detector,
        "host": host,
        "group": "",
        "what": "moved baseline of traffic to",
        "score": RECORD,
        "bytes": 0,
        "first": at(span[0]),
        "last": at(span[1]),
        "low_address": NO_ADDRESS,
        "high_address": NO_ADDRESS,
        "reason": f"what is usual for {host} was {before} and has become {now}, a little every day",
    }
