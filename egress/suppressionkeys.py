"""Every key of `[[suppressions]]`; see `configkeys`."""

from __future__ import annotations

from egress import configvalues as read
from egress.configtable import Key, Section
from egress.contracts import Level
from egress.registry import DETECTORS

COUNTING = ("ledger", "coverage")
"""They count bytes; nobody's rule makes bytes not to have left."""


def _detector(value: object) -> str:
    if value in COUNTING:
        raise ValueError(
            f"is {value!r}, which no rule silences: it counts bytes; write an approval, a tolerance or a review"
        )
    return read.one_of(*DETECTORS)(value)


SUPPRESSIONS = Section(
    "suppressions",
    "Findings of detectors that somebody has looked at and does not want in the queue. They are kept, marked and "
    "counted; what the ledger says is never suppressed.",
    (
        Key(
            "id", read.identifier, "name of the rule; suppressed findings tell it", '"nightly-build"', is_required=True
        ),
        Key(
            "detectors",
            read.list_of(_detector, at_least=1),
            "whose findings: " + ", ".join(DETECTORS),
            '["volume", "edges"]',
            is_required=True,
        ),
        Key(
            "hosts",
            read.list_of(read.text, at_least=1),
            "about whom: ids, globs, `role:NAME`",
            '["role:dev"]',
            is_required=True,
        ),
        Key(
            "to",
            read.list_of(read.network, at_least=1),
            "networks that all destinations of the finding must lie in",
            '["203.0.113.0/24"]',
            default=(),
            shown_default="any destination, or several",
        ),
        Key(
            "max_level",
            read.one_of(*(level.word for level in (Level.INFO, Level.MEDIUM, Level.HIGH))),
            "info, medium or high: findings above it stay in the queue",
            '"medium"',
            default=Level.MEDIUM.word,
            shown_default=Level.MEDIUM.word,
        ),
        Key("expires", read.day, "first UTC day on which it no longer holds", "2027-01-01", is_required=True),
        Key("owner", read.text, "who answers for it", '"platform@example.org"', is_required=True),
        Key("reason", read.text, "why this is no news", '"builds are pushed at night"', is_required=True),
    ),
    is_list=True,
)
