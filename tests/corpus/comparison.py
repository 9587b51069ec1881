"""One tool's word on a capture against the sums of another, conversation by conversation."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.corpus.conversations import Key, Sums, Way
from tests.corpus.oracles import UNITS, Told

EXCEPTIONS = Path(__file__).with_name("exceptions.tsv")
ANY_FLOW = "*"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two do not agree; `what` names unit, way, what was told and what was counted."""

    key: Key
    what: str


@dataclass(frozen=True, slots=True)
class Exempt:
    """One line of `exceptions.tsv`: why `flows` conversations of a capture (or this one) differ from an oracle."""

    oracle: str
    path: str
    flow: str
    flows: int
    reason: str


def differences(told: dict[Key, tuple[Told, Told]], own: Sums, carriers: Sums) -> Iterator[Difference]:
    """What `told` says otherwise. A tool may also count the conversations that carried others: alone or added."""
    for key in sorted(set(told) | set(own)):
        if key not in told:
            yield Difference(key, "not told")
        elif key not in own and key not in carriers:
            yield Difference(key, "told only")
        else:
            candidates = [sums[key] for sums in (own, carriers) if key in sums]
            if len(candidates) == 2:
                candidates.append(_both(*candidates))
            found = [_difference(told[key], ways) for ways in candidates]
            if all(found):
                yield Difference(key, found[0])


def _difference(told: tuple[Told, Told], counted: tuple[Way, Way]) -> str:
    parts = []
    for way, (said, is_) in enumerate(zip(told, counted, strict=True)):
        for unit in UNITS:
            number = getattr(said, unit)
            if number is not None and number != getattr(is_, unit):
                parts.append(f"{unit}[{way}] told {number} counted {getattr(is_, unit)}")
    return ", ".join(parts)


def _both(a: tuple[Way, Way], b: tuple[Way, Way]) -> tuple[Way, Way]:
    first, second = (Way(*(getattr(x, u) + getattr(y, u) for u in Way.__slots__)) for x, y in zip(a, b, strict=True))
    return first, second


def exceptions() -> list[Exempt]:
    with EXCEPTIONS.open(newline="") as lines:
        return [Exempt(**{**row, "flows": int(row["flows"])}) for row in csv.DictReader(lines, delimiter="\t")]


def unexplained(oracle: str, path: str, found: list[Difference], exempt: list[Exempt]) -> list[str]:
    """Differences that no exception covers, and exceptions that differ no longer or elsewhere than they say."""
    own = [line for line in exempt if (line.oracle, line.path) == (oracle, path)]
    whole = [line for line in own if line.flow == ANY_FLOW]
    if whole:
        wrong = len(found) != whole[0].flows or len(own) > 1
        said = f"{whole[0].flows} conversations should differ, {len(found)} do"
        return [f"{oracle} {path}: {said}: {[str(one.key) for one in found]}"] if wrong else []
    named = {line.flow for line in own}
    differing = {str(one.key): one.what for one in found}
    new = [f"{oracle} {path}: {flow}: {what}" for flow, what in differing.items() if flow not in named]
    return new + [f"{oracle} {path}: {flow} agrees now: take the exception out" for flow in named - set(differing)]
