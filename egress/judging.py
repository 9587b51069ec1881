"""Judging a stream: sums of all partitions joined, and what is found in them compared with what was said before.

The judge holds no truth of its own: sums join by maximum, declarations by being the same, and findings are a pure
function of both. So it may start anew anywhere, read anything twice, and still ends at what `replay` says of the same
flows, byte for byte (docs/decisions/0016).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

import polars as pl

from egress import coverage, declared, detect, findingjson, findings, ledger, settled, severity, streamfindings
from egress.arrivals import SENSORS
from egress.aside import Check, go_on
from egress.cardbytes import ON_CARDS
from egress.contracts import Finding
from egress.conversations import CONVERSATIONS
from egress.dating import Dating
from egress.days import Answers
from egress.declared import Declared
from egress.detect import Detectors
from egress.errors import UsageError
from egress.folding import Fold
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.pieces import CUTS, KeptSums, Pieces, Saved
from egress.schema import CELLS
from egress.signals import tied_by_day
from egress.witnessing import Witnessing

SAID_BYTES = 500_000
"""Saved bytes under one key, where they are no sums: below the 1 MB that brokers allow."""
WHERE = ("origin", "position")
"""Of a conversation, where it was read: not the same in a file and on a topic, and no part of what was found."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to say on the bus so that it holds what is found now."""

    publish: list[Finding]
    """New or other than they were, worst first."""
    withdraw: list[str]
    """Uids that are no finding any more: more came, and the episode begins elsewhere or is none."""


class Judge:
    """Everything that is known of a fleet, and what was said of it."""

    def __init__(self, inventory: Inventory, detectors: Detectors) -> None:
        self._declared_in_files = inventory.config
        self._declared: dict[Declared, None] = {}
        self.inventory = inventory
        self._kept = {cut.table.name: Pieces(cut) for cut in CUTS}
        self._fold = Fold(detectors)
        self._dating = Dating()
        self._memo = ledger.Memo()
        self._severity = severity.Memo()
        self._beating = Answers()
        self._witnessing = Witnessing()
        self._covering = settled.Memo()
        self._on_bus: dict[str, str] = {}
        """Digests of findings that the bus holds, by uid."""
        self._digests: dict[str, tuple[Finding, str]] = {}
        """What was found last, by uid, with its digest."""
        self._parts: dict[str, int] = {}
        """Under how many keys each thing that is no sum was saved last."""

    def join(self, kind: str, frame: pl.DataFrame, task: int = 0) -> None:
        """Takes states of sums of one task, in any order and as often as they come.

        `kind` is the name of one of `sums.KINDS`, or `sensors` (`arrivals.SENSORS`). Raises KeyError for any other.
        """
        self._kept[kind].join(frame, task)
        if kind == CONVERSATIONS.name:
            self._witnessing.note(frame)
        if kind == ON_CARDS.name:
            self._covering.note(frame["begin"])

    def feed_heartbeats(self, frame: pl.DataFrame) -> None:
        """Takes columns of HEARTBEATS, in any order and as often as they come."""
        self._kept[HEARTBEATS.name].join(frame)
        self._covering.note(frame["time"])

    def learn_of(self, said: Iterable[Declared]) -> None:
        """Takes events and receipts, which act at their own time, as if they stood in the site's files.

        Of several with one time, the first said comes first: they have to come in the order of their topic.
        """
        before = len(self._declared)
        self._declared |= dict.fromkeys(said)
        if len(self._declared) > before:
            self.inventory = Inventory(declared.extended(self._declared_in_files, self._declared))

    def findings(self, check: Check = go_on) -> list[Finding]:
        """Everything found in what is known so far, worst first. What `check` raises between two steps ends it."""
        state = KeptSums(self._kept, self._dating)
        check()
        judged = detect.judge(
            state,
            self.inventory,
            lambda queue: self._fold.scores(tied_by_day(state.days("signals"), queue), check),
            lambda: ledger.evaluate_again(state.dated_cells, self.inventory, self._memo),
            lambda found: self._witnessing.attach(found, state.days(CONVERSATIONS.name)),
            lambda scores, charged: severity.context_again(state, scores, charged, self.inventory, self._severity),
            lambda: self._covered(state),
        )
        check()
        of_stream = streamfindings.findings_of(
            self._kept[SENSORS.name].by_task(), self._beaten(state), state.watermark, self.inventory
        )
        return findings.in_order([*judged.findings, *of_stream])

    def _covered(self, state: KeptSums) -> coverage.Coverage:
        days = [state.days(name) for name in (HEARTBEATS.name, ON_CARDS.name, CELLS.name)]
        return coverage.of_days(days[0], days[1], days[2], state.watermark, self.inventory, self._covering)

    def _beaten(self, state: KeptSums) -> pl.DataFrame:
        parts = self._beating.of(state.days(HEARTBEATS.name), lambda day: (streamfindings.beating_of(day),), None)
        return pl.concat([streamfindings.beating_of(HEARTBEATS.empty()), *(part for (part,) in parts)]).unique()

    def judge(self, check: Check = go_on) -> Changes:
        """What has to be said now; whoever calls this says it, or starts anew with what the bus holds.

        A judge is used by one thread at a time, and not again after `check` has raised in it.
        """
        found = self.findings(check)
        self._digests = {finding.uid: (finding, self._digest(finding)) for finding in found}
        digests = {uid: digest for uid, (_, digest) in self._digests.items()}
        publish = [finding for finding in found if self._on_bus.get(finding.uid) != digests[finding.uid]]
        withdraw = sorted(self._on_bus.keys() - digests.keys())
        self._on_bus = digests
        return Changes(publish, withdraw)

    def _digest(self, finding: Finding) -> str:
        before, digest = self._digests.get(finding.uid, (None, ""))
        return digest if before == finding else digest_of(finding)

    def saw(self, uid: str, value: bytes | None) -> None:
        """What the bus holds under a uid, whoever wrote it; None: withdrawn. What is wrong there, `judge` puts right.

        A judge that was believed dead may have written after this one, and one that died may have written more than
        its last snapshot knows.
        """
        if value is None:
            self._on_bus.pop(uid, None)
        else:
            self._on_bus[uid] = _digest_of_value(value)

    def state(self) -> Iterator[tuple[str, bytes | None]]:
        """By key, what changed since this was asked last; None: the key is not used any more.

        Pieces may be mixed with earlier or later ones: what was not saved together still joins.
        """
        for pieces in self._kept.values():
            yield from pieces.changed()
        yield from self._in_parts("declared", "\n".join(map(declared.line, self._declared)).encode())
        yield from self._in_parts("said", json.dumps(self._on_bus, sort_keys=True).encode())
        yield from self._in_parts("scores", self._fold.snapshot())

    def restore(self, saved: Iterable[Saved]) -> list[str]:
        """Takes what `state` gave, in any order; returns, in words, what could not be used and has to be made again."""
        others: dict[str, dict[int, bytes]] = {}
        complaints = []
        for key, value in saved:
            name, _, rest = key.partition("/")
            if name in self._kept:
                self._kept[name].restore(key, value)
            else:
                others.setdefault(name, {})[int(rest)] = value
        self._parts = {name: len(parts) for name, parts in others.items()}
        whole = {name: b"".join(parts[number] for number in sorted(parts)) for name, parts in others.items()}
        self.learn_of(map(declared.parse, whole.get("declared", b"").splitlines()))
        self._on_bus = json.loads(whole.get("said", b"{}"))
        try:
            if "scores" in whole:
                self._fold.restore(whole["scores"])
        except UsageError as problem:
            complaints.append(str(problem))
        return complaints

    def _in_parts(self, name: str, value: bytes) -> Iterator[tuple[str, bytes | None]]:
        parts = [value[start : start + SAID_BYTES] for start in range(0, len(value), SAID_BYTES)]
        for number, part in enumerate(parts):
            yield f"{name}/{number}", part
        for number in range(len(parts), self._parts.get(name, 0)):
            yield f"{name}/{number}", None
        self._parts[name] = len(parts)


def value_of(finding: Finding) -> bytes:
    """What stands on the bus under the finding's uid."""
    return findingjson.encode(finding).encode("utf-8", "surrogatepass")


def digest_of(finding: Finding) -> str:
    """Equal for findings that say the same, wherever their conversations were read."""
    evidence = tuple({key: value for key, value in seen.items() if key not in WHERE} for seen in finding.evidence)
    return sha256(value_of(replace(finding, evidence=evidence))).hexdigest()[:32]


def _digest_of_value(value: bytes) -> str:
    """Empty, which no digest is, for what cannot be read."""
    try:
        return digest_of(findingjson.decode(value.decode("utf-8", "surrogatepass")))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        return ""
