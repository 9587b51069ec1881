"""What the store's service has read and not yet written: decoded, without duplicates, cut into rounds.

A batch of flows is a run of messages of one partition. Its token is made of what names those messages, so a batch that
is formed again after a crash, from the same offsets, is known to ClickHouse as the one it may have already.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from egress import cells, ddl, findingjson, heartbeats, publications, storerows, wire
from egress.heartbeats import HEARTBEATS
from egress.metrics import Metrics
from egress.schema import CELLS, FLOWS, conform
from egress.storerows import Said

if TYPE_CHECKING:
    from egress.messages import Message

TOPICS = ("flows", "heartbeats", "sums", "findings")

BATCH_ROWS = 400_000
"""Rows of one partition that are written at once: 90 MB. Half of it costs a tenth more, an eighth half as much again,
since ClickHouse merges what is small."""
RIPE_BYTES = 192 << 20
"""With so much waiting, the fullest partition's batch is written though it is none of `BATCH_ROWS`."""
MOST_SOURCES = 100_000
"""(sensor, host, epoch) of one partition whose numbers are remembered; of those heard least lately none are. What is
forgotten here ClickHouse merges by content."""
MOST_HOLES = 1_000
"""Numbers remembered ahead of a hole; a source with more of them has lost more than can be waited for."""
PATIENCE = 10
"""Rounds without a message in which the end of a batch that somebody began is waited for: retention may have it."""
MOST_UNPACKED_BYTES = 64 << 20
CHECKSUM_BYTES = 4
"""At the end of a zstd frame, of its content; `wire.decode` has verified it."""

NO_FINDING = (
    *(ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError),
    pl.exceptions.PolarsError,
)
"""What reading somebody's JSON as a finding can raise."""

FLOWS_SCHEMAS = {name: version for name, version in wire.SCHEMAS.items() if version.read is FLOWS}
BEATS_SCHEMAS = {name: version for name, version in wire.SCHEMAS.items() if version.read is HEARTBEATS}

Place = tuple[str, int]
"""Topic (short name) and partition."""
Counts = Mapping[str, int]
Refuse = Callable[["Message", str, str], None]
"""Message, reason and words for a person: where what cannot be understood goes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Flows of a run of messages of one partition, from offset `first` to before `next`: written once, whole."""

    place: Place
    first: int
    next: int
    token: str
    flows: pa.Table
    """Columns of FLOWS as they travel: a piece for each message, each with dictionaries of its own."""


@dataclass(frozen=True, slots=True)
class Round:
    """What is written next, and the offsets up to which everything is then stored."""

    batches: tuple[Batch, ...]
    heartbeats: pl.DataFrame
    cells: pl.DataFrame
    said: tuple[Said, ...]
    offsets: Mapping[Place, int]

    @property
    def intents(self) -> dict[Place, tuple[int, str]]:
        """Where each batch begins and, as a note to the offset, ends: for whoever has to form it again."""
        return {batch.place: (batch.first, str(batch.next)) for batch in self.batches}

    @property
    def rows(self) -> Counts:
        """What it brings, by table."""
        return {
            "flows": sum(batch.flows.num_rows for batch in self.batches),
            "heartbeats": self.heartbeats.height,
            "ledger": self.cells.height,
            "findings": len(self.said),
        }

    def without(self, places: Collection[Place]) -> Round:
        """Of partitions that are another's now, or ours again from what was committed: their flows are not written by
        this round, so their offsets are not its to commit either."""
        kept = tuple(batch for batch in self.batches if batch.place not in places)
        offsets = {place: offset for place, offset in self.offsets.items() if place not in places}
        return replace(self, batches=kept, offsets=offsets)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One message of flows; `mark` is what names it and its content."""

    offset: int
    flows: pa.RecordBatch
    mark: bytes
    bytes: int


@dataclass(slots=True)
class _Part:
    """One partition of a topic as this process knows it."""

    next: int
    until: int | None = None
    """Where the batch ends that was begun by a process that is no more."""
    given: int = -1
    """The offset that was last given out to be committed."""
    patience: int = PATIENCE
    heard: int = -1
    """`next` as it was when patience was last lost."""
    pieces: list[_Piece] = field(default_factory=list)
    seen: Seen = field(default_factory=lambda: Seen())

    @property
    def rows(self) -> int:
        return sum(piece.flows.num_rows for piece in self.pieces)

    def is_waiting(self) -> bool:
        return self.until is not None and self.next < self.until

    def cut(self) -> list[_Piece]:
        """The pieces of the next batch, which are then gone from here."""
        if self.is_waiting():
            self.patience = self.patience - 1 if self.heard == self.next else PATIENCE
            self.heard = self.next
            if self.patience >= 0 or not self.pieces:
                return []
        number = self._until() if self.until is not None else self._full()
        self.until = None
        taken, self.pieces = self.pieces[:number], self.pieces[number:]
        return taken

    def _until(self) -> int:
        return sum(piece.offset < (self.until or 0) for piece in self.pieces)

    def _full(self) -> int:
        ends = list(accumulate(piece.flows.num_rows for piece in self.pieces))
        return max(1, bisect_right(ends, BATCH_ROWS))


class Intake:
    """Takes messages in the order of their partitions, gives rounds."""

    def __init__(self, metrics: Metrics, refuse: Refuse) -> None:
        self._metrics = metrics
        self._refuse = refuse
        self._parts: dict[Place, _Part] = {}
        self._beats: list[pl.DataFrame] = []
        self._cells: dict[int, list[pl.DataFrame]] = {}
        """By the task that summed them."""
        self._said: dict[str, Said] = {}
        self._is_moved = False
        self.rows = 0
        """What waits to be written."""
        self.bytes = 0
        """Its memory, about."""
        self._readers: Mapping[str, Callable[[_Part, Message], None]] = {
            "flows": self._flows,
            "heartbeats": self._heartbeats,
            "sums": self._sums,
            "findings": self._findings,
        }

    @property
    def is_empty(self) -> bool:
        """Nothing waits, and no offset moved."""
        return not self._is_moved

    @property
    def is_ripe(self) -> bool:
        """A round is worth its insert without waiting for more."""
        return self.bytes >= RIPE_BYTES or any(map(_is_full, self._parts.values()))

    @property
    def places(self) -> tuple[Place, ...]:
        """The partitions that are ours."""
        return tuple(self._parts)

    def owns(self, place: Place) -> bool:
        return place in self._parts

    def stored(self, place: Place) -> int:
        """The offset up to which everything was given out to be written."""
        return self._parts[place].given

    def begin(self, place: Place, offset: int, note: str) -> None:
        """A partition is ours, from `offset`; `note` is the intent that was left there, empty if none."""
        self.drop(place)
        is_number = note.isascii() and note.isdecimal() and len(note) < 20
        self._parts[place] = _Part(offset, int(note) if is_number and int(note) > offset else None, offset)

    def drop(self, place: Place) -> None:
        """A partition is another's: what was read of it and not written is read again there."""
        part = self._parts.pop(place, None)
        if part is not None:
            self._let_go(part.pieces)

    def take(self, message: Message) -> None:
        """Reads one message. What cannot be understood is refused, by reference, and passed over."""
        part = self._parts.get((message.topic, message.partition))
        if part is None or message.offset < part.next:
            return
        self._metrics.add("received_messages", topic=message.topic)
        self._metrics.add("received_bytes", len(message.value or b""), topic=message.topic)
        try:
            self._readers[message.topic](part, message)
        except wire.WireError as error:
            self._metrics.add("dead_letters", topic=message.topic)
            self._refuse(message, error.reason, error.what)
        part.next = message.offset + 1
        self._is_moved = True

    def round(self, is_all: bool = True) -> Round | None:
        """The next round, at most a batch of each partition; what is beyond stays for the one after. None: nothing.

        Without `is_all`, flows of partitions that have a full batch, or else of the one that has most.
        """
        most = min(max((part.rows for part in self._parts.values()), default=0), BATCH_ROWS)
        cut = {place for place, part in self._parts.items() if is_all or part.rows >= most or _is_full(part)}
        batches = [
            _batch(place, self._parts[place].given, self._parts[place].cut()) for place in self._parts if place in cut
        ]
        offsets = {}
        for place, part in self._parts.items():
            stored = part.pieces[0].offset if part.pieces else part.next
            if stored != part.given:
                offsets[place] = part.given = stored
        made = Round(
            tuple(batch for batch in batches if batch is not None),
            heartbeats.add(self._beats),
            _ledger(self._cells),
            tuple(self._said.values()),
            offsets,
        )
        self._beats, self._cells, self._said = [], {}, {}
        left = [piece for part in self._parts.values() for piece in part.pieces]
        self.rows, self.bytes = sum(piece.flows.num_rows for piece in left), sum(piece.bytes for piece in left)
        self._is_moved = bool(left)
        return made if offsets or made.said or made.cells.height or made.heartbeats.height else None

    def _flows(self, part: _Part, message: Message) -> None:
        header, flows = wire.decode_batch(message.value, message.headers, FLOWS_SCHEMAS)
        if not part.seen.is_new((header.sensor, header.host, header.epoch), header.seq):
            self._metrics.add("duplicate_messages")
            flows = flows[:0]  # and still a piece: after a crash nobody knows that it came before
        mark = repr((header, (message.value or b"")[-CHECKSUM_BYTES:])).encode()
        piece = _Piece(message.offset, flows, mark, flows.nbytes)
        part.pieces.append(piece)
        self.rows += flows.num_rows
        self.bytes += piece.bytes

    def _heartbeats(self, part: _Part, message: Message) -> None:
        _, beats = wire.decode(message.value, message.headers, BEATS_SCHEMAS)
        self._keep(self._beats, beats)

    def _sums(self, part: _Part, message: Message) -> None:
        if publications.kind_of(message.headers) == CELLS.name:
            kept = self._cells.setdefault(publications.task_of(message.headers), [])
            self._keep(kept, wire.unpack(message.value or b"", CELLS, MOST_UNPACKED_BYTES))

    def _findings(self, part: _Part, message: Message) -> None:
        said = _said(message)
        self._said[said.uid] = said
        self.rows += 1
        self.bytes += len(message.value or b"")

    def _keep(self, kept: list[pl.DataFrame], frame: pl.DataFrame) -> None:
        kept.append(frame)
        self.rows += frame.height
        self.bytes += int(frame.estimated_size())

    def _let_go(self, pieces: Sequence[_Piece]) -> None:
        self.rows -= sum(piece.flows.num_rows for piece in pieces)
        self.bytes -= sum(piece.bytes for piece in pieces)


def _ledger(by_task: Mapping[int, Sequence[pl.DataFrame]]) -> pl.DataFrame:
    """LEDGER: states of one task joined, those of different ones beside each other."""
    joined = [cells.join(states).with_columns(task=pl.lit(task)) for task, states in sorted(by_task.items())]
    return pl.concat([ddl.LEDGER.empty(), *(conform(states, ddl.LEDGER) for states in joined)])


def _is_full(part: _Part) -> bool:
    is_whole = part.until is not None and not part.is_waiting()
    return is_whole or part.rows >= BATCH_ROWS


def _batch(place: Place, first: int, pieces: Sequence[_Piece]) -> Batch | None:
    if not pieces:
        return None
    token = hashlib.sha256(b"\n".join(piece.mark for piece in pieces)).hexdigest()[:32]
    return Batch(place, first, pieces[-1].offset + 1, token, pa.Table.from_batches([piece.flows for piece in pieces]))


def _said(message: Message) -> Said:
    """What a message says of a finding. Raises WireError where it cannot be kept as one."""
    uid = (message.key or b"").decode("utf-8", "replace")
    said = Said(uid, None, message.offset + 1)
    if message.value is None:
        return said
    try:
        said = Said(uid, findingjson.decode(message.value.decode()), message.offset + 1)
        storerows.of_said([said], storerows.STREAM)  # as a row, so that no value can spoil a whole round
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        pl.exceptions.PolarsError,
    ):
        raise wire.WireError(wire.Reason.IMPOSSIBLE_VALUE, "no finding as JSON") from None
    if said.finding is None or said.finding.uid != uid:
        raise wire.WireError(wire.Reason.NOT_AS_SAID, "the finding has another id than the message")
    return said


class Seen:
    """Which numbers of which (sensor, host, epoch) came; bounded, and forgetful where that would be exceeded."""

    def __init__(self) -> None:
        self._sources: OrderedDict[tuple[str, str, str], _Numbers] = OrderedDict()

    def is_new(self, source: tuple[str, str, str], number: int) -> bool:
        """True the first time; the number then has come."""
        numbers = self._sources.get(source)
        if numbers is None:
            self._sources[source] = _Numbers(number, number + 1)
            if len(self._sources) > MOST_SOURCES:
                self._sources.popitem(last=False)
            return True
        self._sources.move_to_end(source)
        return numbers.is_new(number)


@dataclass(slots=True)
class _Numbers:
    """All from `first` to before `next`, and some beyond a hole."""

    first: int
    next: int
    others: set[int] = field(default_factory=set)

    def is_new(self, number: int) -> bool:
        if self.first <= number < self.next or number in self.others:
            return False
        self.others.add(number)
        while self.next in self.others:
            self.others.remove(self.next)
            self.next += 1
        if len(self.others) > MOST_HOLES:
            self.first, self.next = number, number + 1
            self.others.clear()
        return True
