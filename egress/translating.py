"""Slices of topics that others fill as our messages: read, given their hosts, cut, numbered.

What comes out follows from the messages of the epoch, where it was cut, and the rules; so a slice that is read again
gives the same bytes under the same names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from egress import __version__, wire
from egress.config import Config
from egress.contracts import RowsReader
from egress.inventory import Inventory
from egress.messages import Message
from egress.offsetcuts import Slice
from egress.parcels import MESSAGE_ROWS, Cutter, who_is_who
from egress.segments import Parcel


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message without rows for us."""

    message: Message
    reason: str
    what: str


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of a slice. In rows: rows == sum of the parcels' + unfit; in messages: taken + refusals."""

    parcels: tuple[Parcel, ...]
    rows: int
    """Once for each watched side."""
    unfit: int
    """Rows that cannot travel."""
    taken: int
    """Messages that were understood."""
    refusals: tuple[Refusal, ...]


class Translator:
    """Takes the slices of one partition in their order, each epoch from its beginning."""

    def __init__(self, reader: RowsReader, inventory: Inventory, sensor: str, rules: str) -> None:
        self._reader = reader
        self._inventory = inventory
        self._sensor = sensor
        self._rules = rules
        self._begin = -1
        self._cutter: Cutter | None = None

    def translated(self, cut: Slice) -> Translated:
        if cut.begin != self._begin:
            self._begin, self._cutter = cut.begin, None
        if not cut.messages:
            return Translated((), 0, 0, 0, ())
        if self._cutter is None:
            self._cutter = Cutter("flows", wire.FLOWS_V1, self._sensor, self._epoch(cut.messages[0]), "start")
        read = self._reader.read([message.value or b"" for message in cut.messages])
        rows = self._inventory.attribute(read.flows)
        parcels = tuple(self._cutter.whole(rows)) if rows.height else ()
        refusals = tuple(Refusal(cut.messages[one.place], one.reason, one.what) for one in read.refused)
        unfit = rows.height - sum(parcel.rows for parcel in parcels)
        return Translated(parcels, rows.height, unfit, len(cut.messages) - len(refusals), refusals)

    def _epoch(self, first: Message) -> str:
        """Named by its first message too: a topic that was made again counts from 0 again."""
        digest = hashlib.sha256(f"{self._rules} {self._sensor} {first.offset} {first.written_us} ".encode())
        digest.update(first.value or b"")
        return digest.hexdigest()[:16]


def rules_of(config: Config, encoding: str, sensor: str) -> str:
    """A name for all that decides, beside a topic, what is sent of it."""
    rules = (__version__, encoding, sensor, wire.FLOWS_V1, MESSAGE_ROWS, *who_is_who(config))
    return hashlib.sha256(repr(rules).encode()).hexdigest()[:16]
