"""Where topics of others are cut: alike, whoever reads them, however often and in whatever pieces."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import offsetcuts
from egress.messages import Message
from egress.offsetcuts import Part, Slice, part_of, promised

PLACE = ("flow-messages", 3)
RULES = "0123456789abcdef"
LEFT = range(100)


def message(offset: int) -> Message:
    return Message(*PLACE, offset, None, b"flow %d" % offset)


def offsets(cut: Slice) -> list[int]:
    return [each.offset for each in cut.messages]


@dataclass
class Group:
    """What a group keeps of a partition, and the slices that anybody sent: epoch, over how many, place, messages."""

    offset: int = 0
    note: str = ""
    partitions: int = 2
    sent: list[tuple[int, int, int, list[int]]] = field(default_factory=list)

    def member(self) -> Part:
        return part_of(PLACE, LEFT, self.offset, self.note, RULES)

    def commit(self, part: Part) -> None:
        self.offset, self.note = part.sent, part.note(RULES)


def work(group: Group, topic: list[int], reads: list[int], crash: int, grown: int) -> None:
    """A member that reads so many messages at a time and cuts after each read; it ends after `crash` steps.

    There are so many partitions more at each read.
    """
    part = group.member()
    left = [offset for offset in topic if offset >= part.begin]
    for number in reads:
        for offset in left[:number]:
            part.take(message(offset))
        left = left[number:]
        group.partitions += grown
        while (cut := part.slice(True, group.partitions)) is not None:
            if cut.is_known:
                continue
            for step in ("note", "send", "settle"):
                if crash == 0:
                    return
                crash -= 1
                if step == "send":
                    group.sent.append((cut.begin, part.spread, cut.first, offsets(cut)))
                    continue
                if step == "settle":
                    part.arrived(cut)
                group.commit(part)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    st.sets(st.integers(0, 60), min_size=12).map(sorted),
    st.lists(
        st.tuples(st.lists(st.integers(1, 9), min_size=3), st.integers(0, 8), st.integers(0, 2)), min_size=2, max_size=8
    ),
    st.integers(1, 4),
)
def test_whoever_crashes_when_each_message_has_one_place(
    topic: list[int], lives: list[tuple[list[int], int, int]], cuts: int
) -> None:
    """Read in other pieces, killed at any step, while partitions grow: a slice that is sent again is the same, goes to
    the same places, and none is missing; those of one epoch go to the same places."""
    group = Group()
    before, offsetcuts.EPOCH_CUTS = offsetcuts.EPOCH_CUTS, cuts
    try:
        for reads, crash, grown in lives:
            work(group, topic, reads, crash, grown)
        work(group, topic, [7] * 10, 1_000, 1)
    finally:
        offsetcuts.EPOCH_CUTS = before

    different = {(begin, spread, first, tuple(found)) for begin, spread, first, found in group.sent}
    assert sorted(offset for *_, found in different for offset in found) == topic
    assert len({first for _, _, first, _ in different}) == len(different)
    assert len({(begin, spread) for begin, spread, _, _ in different}) == len({begin for begin, *_ in different})


def test_a_member_reads_again_what_the_numbers_depend_on() -> None:
    """From the beginning of the epoch; what has arrived is only counted, what may not have is sent."""
    group = Group()
    part = group.member()
    for offset in range(6):
        part.take(message(offset))
        cut = part.slice(offset in (1, 5), 4)
        if cut is not None:
            group.commit(part)
            if offset == 1:
                part.arrived(cut)

    successor = group.member()
    for offset in range(9):
        successor.take(message(offset))
    first, second, third = (successor.slice(True, 4) for _ in range(3))

    assert (group.offset, successor.begin, promised(group.note)) == (2, 0, 6)
    assert first is not None
    assert second is not None
    assert third is not None
    assert [(cut.is_known, offsets(cut)) for cut in (first, second, third)] == [
        (True, [0, 1]),
        (False, [2, 3, 4, 5]),
        (False, [6, 7, 8]),
    ]


def test_nothing_is_cut_before_it_is_due() -> None:
    part = Group().member()
    part.take(message(0))

    assert part.slice(False, 4) is None
    assert part.bytes == 6
    assert part.slice(True, 4) is not None
    assert (part.bytes, part.slice(True, 4)) == (0, None)


def test_a_slice_that_was_noted_is_not_cut_shorter() -> None:
    """Some of it has come, and time is up: the rest is waited for."""
    noted = Part(PLACE, 0, 0, [5], 4)
    part = part_of(PLACE, LEFT, 0, noted.note(RULES), RULES)
    part.take(message(3))

    assert part.slice(True, 4) is None
    part.take(message(4))
    assert part.slice(False, 4) is not None


@pytest.mark.parametrize("reason", ["cuts", "offsets", "note"])
def test_an_epoch_ends_before_it_is_too_long_to_read_again(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"cuts": ("EPOCH_CUTS", 3), "offsets": ("EPOCH_OFFSETS", 30), "note": ("MOST_NOTE", 11)}
    monkeypatch.setattr(offsetcuts, *limits[reason])
    part = Part(PLACE, 0, 0)
    begins = []
    for offset in (9, 19, 29, 39):
        part.take(message(offset))
        cut = part.slice(True, 4)
        assert cut is not None
        begins.append(cut.begin)
        part.arrived(cut)

    assert begins == [0, 0, 0, 30]


@pytest.mark.parametrize(
    "note",
    [
        *("", "x", "2;;;;", f"2;{RULES};0", f"2;{RULES};0;1,,2;;", f"2;{RULES};-5;3;4", f"2;{RULES};0;3,0;4"),
        *(f"1;{RULES};0;a;4", f"2;{RULES};0;a;0", f"2;{RULES};0;a;-4", f"2;{RULES};0;a"),
    ],
)
def test_a_note_of_somebody_else_begins_an_epoch(note: str) -> None:
    part = part_of(PLACE, LEFT, 7, note, RULES)

    assert (part.begin, part.sent, part.ends) == (7, 7, [])
    assert promised(note) == 0


@pytest.mark.parametrize(
    ("left", "rules"), [(range(2, 100), RULES), (range(8), RULES), (LEFT, "another")], ids=["head", "tail", "rules"]
)
def test_an_epoch_that_cannot_be_repeated_is_left(left: range, rules: str) -> None:
    """Messages of it are gone, or the inventory is another: what comes is named anew, where the last slice ended."""
    noted = Part(PLACE, 5, 0, [5, 9], 4)

    part = part_of(PLACE, left, 5, noted.note(RULES), rules)

    assert (part.begin, part.sent, part.ends) == (5, 5, [])
    assert promised(noted.note(RULES)) == 9


@pytest.mark.parametrize("left", [range(30, 50), range(6)], ids=["forgotten", "made again"])
def test_an_offset_that_the_topic_has_not_begins_at_its_oldest(left: range) -> None:
    part = part_of(PLACE, left, 7, Part(PLACE, 7, 0, [7], 4).note(RULES), RULES)

    assert (part.begin, part.sent) == (left.start, left.start)


def test_a_note_fits_its_broker() -> None:
    """4,096 B are taken; an epoch of the most cuts of the most messages stays below."""
    ends = [10**15 + 65_536 * number for number in range(1, offsetcuts.EPOCH_CUTS + 1)]
    part = Part(PLACE, 0, 10**15, ends, 10_000)

    assert len(part.note(RULES)) < offsetcuts.MOST_NOTE
    assert part_of(PLACE, range(2 * 10**15), 10**15, part.note(RULES), RULES).ends == part.ends
