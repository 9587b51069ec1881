"""Work beside the thread that polls: once at a time, given once, dropped where it asks."""

from __future__ import annotations

from threading import Event

import pytest

from egress.aside import Aside, Check

WAIT_S = 10.0


def held(go: Event, result: str = "done") -> Aside[str]:
    """Work that waits for `go` and is then asked whether it is still wanted."""

    def work(check: Check) -> str:
        assert go.wait(WAIT_S)
        check()
        return result

    aside: Aside[str] = Aside("test")
    aside.start(work)
    return aside


def test_nobody_waits_for_work_that_goes_on() -> None:
    """And while it does, there is no room for other work."""
    aside = held(go := Event())

    assert aside.taken() == []
    assert not aside.is_free()

    go.set()
    assert aside.taken(WAIT_S) == ["done"]


def test_a_result_is_given_once() -> None:
    aside = held(go := Event())
    go.set()

    assert aside.taken(WAIT_S) == ["done"]
    assert aside.taken(WAIT_S) == []
    assert aside.is_free()


def test_a_result_that_was_not_taken_leaves_no_room() -> None:
    """Else it would be lost."""
    aside: Aside[str] = Aside("test")
    aside.start(lambda check: "done")
    Event().wait(0.05)

    assert not aside.is_free()
    assert aside.taken(WAIT_S) == ["done"]


def test_dropped_work_gives_nothing_and_keeps_its_place_until_it_ends() -> None:
    """A thread cannot be killed, and two at a time would be one too many."""
    aside = held(go := Event())

    aside.drop()
    assert aside.taken() == []
    assert not aside.is_free()

    go.set()
    for _ in range(1000):
        if aside.is_free():
            break
        Event().wait(0.01)
    assert aside.is_free()
    assert aside.taken() == []


def test_what_went_wrong_is_raised_where_the_result_was_due() -> None:
    def work(check: Check) -> str:
        raise OSError("no such luck")

    aside: Aside[str] = Aside("test")
    aside.start(work)

    with pytest.raises(OSError, match="no such luck"):
        aside.taken(WAIT_S)
    assert aside.is_free()
