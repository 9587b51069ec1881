"""Snapshots of tasks in the compacted topic: written in pieces, found again whole or not at all.

A task has two slots and writes them in turn, so that one that is torn leaves the one before. What was written last
also says how the task ended: `ended` is the last word of one that was stopped, so anything else was killed or crashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Generic, TypeVar

from egress.errors import EgressError
from egress.messages import Message

PIECE_BYTES = 900_000
SLOTS = 2
MOST_PIECES = 100_000
BEGUN, ENDED = b"begun", b"ended"

Record = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value and headers of a message."""
T = TypeVar("T")


@dataclass(slots=True)
class _Whole:
    """Pieces of one snapshot, as far as they are here."""

    id: str
    pieces: int
    slot: int
    offset: int
    """Of its first piece."""
    found: dict[int, bytes] = field(default_factory=dict)

    def state(self) -> bytes | None:
        """None unless it is whole and as it was written."""
        if len(self.found) != self.pieces:
            return None
        state = b"".join(self.found[number] for number in range(self.pieces))
        return state if _digest(state) == self.id else None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What there is to begin with."""

    state: T | None
    """The newest that could be used; None: there is none, the log is read from its begin."""
    slot: int
    """Where the next snapshot goes."""
    was_killed: bool
    """True: whoever had the task last did not stop by itself."""
    complaints: list[str]
    """In words, which snapshots could not be used."""


def pieces(task: str, slot: int, state: bytes) -> Iterator[Record]:
    """The records of one snapshot."""
    parts = [state[start : start + PIECE_BYTES] for start in range(0, len(state), PIECE_BYTES)] or [b""]
    for number, part in enumerate(parts):
        headers = [("id", _digest(state).encode()), ("piece", b"%d" % number), ("pieces", b"%d" % len(parts))]
        yield f"{task}/{slot}/{number}".encode(), part, headers


def mark(task: str, word: bytes) -> Record:
    """The record that says how far a task got: `BEGUN` or `ENDED`."""
    return f"{task}/run".encode(), word, []


def newest(task: str, messages: Iterable[Message], load: Callable[[bytes], T]) -> Found[T]:
    """The task as `load` makes it of the newest snapshot among the messages (of any tasks, in order) that it takes.

    `load` raises EgressError for a state that it cannot use; the one before is tried then.
    """
    snapshots, last_word, slot = _collected(task, messages)
    complaints = []
    for one in sorted(snapshots, key=lambda each: -each.offset):
        state = one.state()
        if state is None:
            complaints.append(f"snapshot at offset {one.offset} is not whole")
            continue
        try:
            return Found(load(state), slot, last_word != ENDED, complaints)
        except EgressError as problem:
            complaints.append(f"snapshot at offset {one.offset}: {problem}")
    return Found(None, slot, last_word not in (None, ENDED), complaints)


def _collected(task: str, messages: Iterable[Message]) -> tuple[list[_Whole], bytes | None, int]:
    """Snapshots, the last word, and the slot that was not written last."""
    snapshots: dict[tuple[int, str], _Whole] = {}
    last_word, slot = None, 0
    for message in messages:
        place = _place(task, message)
        if place is None or message.value is None:
            continue
        if place == (None, None):
            last_word = message.value
            continue
        piece = _piece(message)
        if piece is None:
            continue
        written, number = place
        id_, count = piece
        one = snapshots.setdefault((written or 0, id_), _Whole(id_, count, written or 0, message.offset))
        one.found[number or 0] = message.value
        last_word, slot = BEGUN, (one.slot + 1) % SLOTS
    return list(snapshots.values()), last_word, slot


def _place(task: str, message: Message) -> tuple[int | None, int | None] | None:
    """Slot and number of a piece of the task; (None, None) for its word; None for what is another's."""
    name, _, rest = (message.key or b"").decode("utf-8", "replace").partition("/")
    if name != task:
        return None
    if rest == "run":
        return None, None
    slot, _, number = rest.partition("/")
    return (int(slot), int(number)) if slot.isdecimal() and number.isdecimal() else None


def _piece(message: Message) -> tuple[str, int] | None:
    headers = dict(message.headers)
    count = headers.get("pieces", b"")
    if not count.isdigit() or not 0 < int(count) <= MOST_PIECES:
        return None
    return headers.get("id", b"").decode("ascii", "replace"), int(count)


def _digest(state: bytes) -> str:
    return sha256(state).hexdigest()
