"""Snapshots in the compacted topic: the newest whole one counts, and how the last owner ended."""

from __future__ import annotations

import pytest

from egress.messages import Message
from egress.snapshots import BEGUN, ENDED, PIECE_BYTES, Found, Record, mark, newest, pieces
from egress.taskstate import StateError

OLD, NEW = b"old" * PIECE_BYTES, b"new" * PIECE_BYTES


def topic(*records: Record) -> list[Message]:
    return [
        Message("state", 3, offset, key, value, tuple(headers)) for offset, (key, value, headers) in enumerate(records)
    ]


def loaded(state: bytes) -> bytes:
    if state == b"of another version":
        raise StateError("state: written by another version")
    return state


def found(*records: Record) -> Found[bytes]:
    return newest("flows-3", topic(*records), loaded)


def written(slot: int, state: bytes) -> list[Record]:
    return list(pieces("flows-3", slot, state))


def test_the_newest_whole_one_is_found() -> None:
    assert found(*written(0, OLD), *written(1, NEW)).state == NEW


def test_pieces_fit_into_messages() -> None:
    assert [len(value) for _, value, _ in written(0, NEW)] == [PIECE_BYTES] * 3


def test_a_torn_one_leaves_the_one_before() -> None:
    """Killed while it was written."""
    records = [*written(0, OLD), *written(1, NEW)]
    assert found(*records[:-1]).state == OLD


def test_a_damaged_one_leaves_the_one_before() -> None:
    key, value, headers = written(1, NEW)[0]
    damaged = (key, value[:-1] + b"?", headers)

    result = found(*written(0, OLD), damaged, *written(1, NEW)[1:])

    assert (result.state, len(result.complaints)) == (OLD, 1)


def test_one_of_another_version_leaves_the_one_before() -> None:
    """After a downgrade."""
    assert found(*written(0, OLD), *written(1, b"of another version")).state == OLD


def test_one_whose_slot_was_written_again_and_torn_is_gone() -> None:
    """Compaction keeps the newest of each key: the torn one took the older one's pieces along."""
    torn = written(0, NEW)[:2]
    left = [*written(1, OLD), written(0, OLD)[2], *torn]
    assert found(*left).state == OLD


@pytest.mark.parametrize("records", [[], written(0, b"of another version")], ids=["none", "no good one"])
def test_without_any_the_log_is_read_from_its_begin(records: list[Record]) -> None:
    assert found(*records).state is None


def test_slots_are_written_in_turn() -> None:
    """The one that is kept is never the one that is being written."""
    assert [found().slot, found(*written(0, OLD)).slot, found(*written(0, OLD), *written(1, NEW)).slot] == [0, 1, 0]


def test_whoever_did_not_say_that_it_ended_was_killed() -> None:
    begun, ended = mark("flows-3", BEGUN), mark("flows-3", ENDED)

    assert [found().was_killed, found(begun).was_killed, found(begun, ended).was_killed] == [False, True, False]
    assert found(ended, *written(0, OLD)).was_killed
    assert not found(*written(0, OLD), ended).was_killed


def test_tasks_share_a_topic() -> None:
    others = [*pieces("flows-30", 0, NEW), mark("flows-30", BEGUN), *pieces("judge", 0, NEW)]
    assert found(*written(0, OLD), mark("flows-3", ENDED), *others) == found(*written(0, OLD), mark("flows-3", ENDED))
