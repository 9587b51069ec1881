"""Where messages go while partitions grow: where they went, whoever sends them again, whenever, by whatever clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.growth import AHEAD_US, FRESH_US, LEAD_US, STEP, Growth, begun_at, growth_of, named, partition_of
from egress.messages import Message

NOW = 1_795_348_800_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
CLOCKS = (0, 6 * MINUTE, -6 * MINUTE, -5 * HOUR)
"""How far those of four collectors are off: ahead by minutes at most."""


def written(*said: tuple[int, bytes, bytes]) -> list[Message]:
    return [Message("growth", 0, place, key, value, (), at) for place, (at, key, value) in enumerate(said)]


@dataclass
class World:
    """A topic, and what each collector knew of it when it looked last."""

    now: int = NOW
    partitions: int = 2
    said: list[tuple[int, bytes, bytes]] = field(default_factory=lambda: [(NOW, STEP, b"2")])
    known: dict[int, tuple[int, Growth]] = field(default_factory=dict)
    sent: dict[str, set[int]] = field(default_factory=dict)

    def grow(self, more: int) -> None:
        self.partitions += more
        self.said.append((self.now, STEP, b"%d" % self.partitions))

    def send(self, who: int, epoch: str, delay: int) -> None:
        """As `Sender` does it; between looking and pinning some time passes."""
        looked, known = self.known.get(who) or (0, Growth(0))
        if self.now - looked > FRESH_US:
            known = self.look(who)
        if known.must_pin(epoch, self.now + CLOCKS[who]):
            self.now += delay
            self.said.append((self.now, epoch.encode(), b"%d" % known.of(epoch)))
            known = self.look(who)
        self.sent.setdefault(epoch, set()).add(known.of(epoch))

    def look(self, who: int) -> Growth:
        found = growth_of(written(*self.said), self.partitions)
        assert found is not None
        self.known[who] = self.now, found
        return found


WHO, DELAY = st.integers(0, 3), st.sampled_from([0, 30, 50])
STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([10, 30, 59, 61, 240, 700])),
    st.tuples(st.just("new"), st.tuples(WHO, st.sampled_from([-9, 0, 1, 2, 5, 7, 9, 11, 19]), DELAY)),
    st.tuples(st.just("again"), st.tuples(WHO, st.integers(0, 9), DELAY)),
)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(STEPS, min_size=4, max_size=40))
def test_an_epoch_never_moves(steps: list[tuple[str, object]]) -> None:
    """Met by collectors that look once a minute, from an hour ago or from the future; sent again, at last by all."""
    world, epochs = World(), list[str]()
    for step in steps:
        match step:
            case "grow", int(more):
                world.grow(more)
            case "wait", int(seconds):
                world.now += seconds * 1_000_000
            case "new", (int(who), int(minutes), int(delay)):
                epochs.append(named(world.now + minutes * MINUTE, f"{len(epochs):x}"))
                world.send(who, epochs[-1], delay * 1_000_000)
            case "again", (int(who), int(which), int(delay)) if epochs:
                world.send(who, epochs[-1 - which % len(epochs)], delay * 1_000_000)
    world.now += HOUR
    for who in range(len(CLOCKS)):
        for epoch in epochs:
            world.send(who, epoch, 0)

    assert [found for found in world.sent.values() if len(found) > 1] == []


def test_what_begins_later_is_spread_further() -> None:
    """A step holds ten minutes after it was written; what has no time goes where it always went."""
    found = growth_of(written((NOW, STEP, b"4"), (NOW + HOUR, STEP, b"12"), (NOW + 2 * HOUR, STEP, b"48")), 48)

    assert found is not None
    late = [NOW + HOUR, NOW + HOUR + LEAD_US - 1, NOW + HOUR + LEAD_US, NOW + 9 * HOUR]
    assert [found.of(named(begun, "0f")) for begun in late] == [4, 4, 12, 48]
    assert [found.of(epoch) for epoch in ("0123456789abcdef", "file", "-1-0f", "")] == [4] * 4
    assert found.last == 48


def test_two_who_pin_one_epoch_agree() -> None:
    """The first of them is heard, though the second knows of more partitions."""
    ahead = named(NOW + 9 * HOUR, "0f")
    said = [(NOW, STEP, b"4"), (NOW, STEP, b"12"), (NOW, ahead.encode(), b"4"), (NOW, ahead.encode(), b"12")]

    found = growth_of(written(*said), 12)

    assert found is not None
    assert found.of(ahead) == 4
    assert not found.must_pin(ahead, NOW)
    assert found.must_pin(named(NOW + AHEAD_US + 1, "0f"), NOW)
    assert not found.must_pin(named(NOW + AHEAD_US, "0f"), NOW)


@pytest.mark.parametrize(
    "rubbish", [(STEP, b"900"), (STEP, b""), (STEP, b"3"), (STEP, b"9" * 5_000), (b"5-0f", b"7"), (b"\xff", b"x")]
)
def test_rubbish_moves_nothing(rubbish: tuple[bytes, bytes]) -> None:
    """Who may collect may write there, and a collector may have been taken over."""
    found = growth_of(written((NOW, STEP, b"4"), (NOW, *rubbish), (NOW, STEP, b"8")), 8)

    assert found == Growth(4, ((NOW + LEAD_US, 8),))


def test_nothing_written_is_nothing_known() -> None:
    assert growth_of([], 4) is None


def test_a_name_tells_when_it_began() -> None:
    """Any time that a file can hold."""
    for begun in (NOW, 0, -5, 2**62):
        assert begun_at(named(begun, "0123456789abcdef")) == begun


def test_keys_go_where_other_clients_put_them() -> None:
    """Numbers that Java's client gives, as its own tests have them (murmur2 of these texts, without the sign)."""
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}

    assert {key: partition_of(key, 7) for key in hashes} == {key: (h & 0x7FFFFFFF) % 7 for key, h in hashes.items()}
