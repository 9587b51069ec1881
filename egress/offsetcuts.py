"""Where partitions that others fill are cut into slices, so that whoever starts again cuts them alike.

Slices of a partition follow each other without a hole. Where one ends is noted with the group's offset before anything
of it is sent (docs/decisions/0021), and so are the ends of all slices of its epoch: what numbers its messages have
follows from them and the topic alone. Knows no bus and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from egress.messages import Message, Partition

FORM = "2"
EPOCH_OFFSETS = 1 << 19
"""What is read again of a partition after a crash, at most: 5 s of protobuf. Each epoch is a row a host that lasts, so
shorter ones would fill the judge's memory."""
EPOCH_CUTS = 360
"""An hour of slices of 10 s."""
MOST_NOTE = 3_000
"""Brokers take 4,096 B (offset.metadata.max.bytes)."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Slice:
    """Messages from offset `first` to before `next`, sent together."""

    place: Partition
    begin: int
    """Where its epoch begins."""
    first: int
    next: int
    messages: tuple[Message, ...]
    is_known: bool
    """All of it arrived before: it is only counted again."""


@dataclass(slots=True)
class Part:
    """One partition: what of it has arrived, what waits, and how its epoch was cut."""

    place: Partition
    sent: int
    """All before this offset has arrived."""
    begin: int
    """Of the epoch; to be read from here, since the numbers of what follows depend on it."""
    ends: list[int] = field(default_factory=list)
    """Of the slices of the epoch, given or still to be given again."""
    spread: int = 0
    """Over how many partitions of ours the epoch's messages go, however many there are by now."""
    given: int = 0
    waiting: list[Message] = field(default_factory=list)
    bytes: int = 0
    """Of what waits."""

    @property
    def is_behind(self) -> bool:
        """What it reads now was cut before."""
        return self.given < len(self.ends)

    @property
    def is_settled(self) -> bool:
        """Nothing is on its way, or may have been when a process ended: a new epoch may begin."""
        return not self.ends or self.ends[-1] <= self.sent

    @property
    def next(self) -> int:
        """All before this offset was taken."""
        return self.waiting[-1].offset + 1 if self.waiting else [self.begin, *self.ends][self.given]

    def take(self, message: Message) -> None:
        self.waiting.append(message)
        self.bytes += len(message.value or b"")

    def slice(self, is_due: bool, partitions: int) -> Slice | None:
        """The next slice, if it is whole; what nobody has cut yet is one if it is due.

        The first of an epoch decides that all of it goes to so many partitions of ours.
        """
        if not self.is_behind and is_due and self.waiting:
            self.spread = self.spread if self.ends else partitions
            self.ends.append(self.waiting[-1].offset + 1)
        if not self.is_behind or not self._has_come(self.ends[self.given]):
            return None
        first = self.ends[self.given - 1] if self.given else self.begin
        end = self.ends[self.given]
        messages = tuple(message for message in self.waiting if message.offset < end)
        self.given += 1
        self.waiting = self.waiting[len(messages) :]
        self.bytes -= sum(len(message.value or b"") for message in messages)
        return Slice(self.place, self.begin, first, end, messages, end <= self.sent)

    def arrived(self, cut: Slice) -> None:
        """All of the slice did; a long epoch ends with it."""
        self.sent = max(self.sent, cut.next)
        is_long = self.sent - self.begin >= EPOCH_OFFSETS or len(self.ends) >= EPOCH_CUTS
        if not self.is_behind and (is_long or len(self.note("")) > MOST_NOTE):
            self.begin, self.ends, self.given, self.spread = self.sent, [], 0, 0

    def note(self, rules: str) -> str:
        """What is kept with the offset; `rules` are those by which rows become messages."""
        lengths = [_base36(end - start) for start, end in pairwise((self.begin, *self.ends))]
        return ";".join((FORM, rules, _base36(self.begin), ",".join(lengths), _base36(self.spread)))

    def _has_come(self, end: int) -> bool:
        return bool(self.waiting) and self.waiting[-1].offset >= end - 1


def part_of(place: Partition, left: range, offset: int, note: str, rules: str) -> Part:
    """A partition as the group noted it; `left` are its offsets, and the one that comes next.

    A new epoch begins where there is no note, or one by other rules, or where not all of the epoch is there any more;
    at the oldest message where the offset is none of the topic's: it was made again, or has forgotten.
    """
    written, begin, ends, spread = _read(note) or ("", offset, [], 0)
    is_whole = begin in left and [begin, *ends][-1] in left and offset in (begin, *ends)
    if written == rules and is_whole:
        return Part(place, offset, begin, ends, spread)
    start = offset if offset in left else left.start
    return Part(place, start, start)


def promised(note: str) -> int:
    """Before which offset something may have been sent already; 0 where the note does not say."""
    found = _read(note)
    return found[2][-1] if found and found[2] else 0


def _read(note: str) -> tuple[str, int, list[int], int] | None:
    """Rules, begin, ends and spread; None for what `Part.note` did not write."""
    fields = note.split(";")
    if len(fields) != 5 or fields[0] != FORM:
        return None
    try:
        numbers = [int(text, 36) for text in (fields[2], *filter(None, fields[3].split(",")))]
        spread = int(fields[4], 36)
    except ValueError:
        return None
    if min(*numbers, spread) < 0 or 0 in numbers[1:] or (numbers[1:] and not spread):
        return None
    begin, *ends = accumulate(numbers)
    return fields[1], begin, ends, spread


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
