"""Frames that are summed beside the reading."""

from __future__ import annotations

import threading

import polars as pl
import pytest

from egress.feeding import BEHIND, Feeder

FRAMES = [pl.DataFrame({"n": [n]}) for n in range(20)]


def test_answers_come_in_the_order_of_frames() -> None:
    with Feeder(lambda frame: int(frame["n"][0])) as feeder:
        answers = [answer for frame in FRAMES for answer in feeder.put(frame)]
        answers += feeder.finish()

    assert answers == list(range(20))


def test_an_error_of_the_work_reaches_the_reader() -> None:
    def work(frame: pl.DataFrame) -> None:
        if frame["n"][0] == 3:
            raise ValueError("no room left")

    with Feeder(work) as feeder:
        for frame in FRAMES[:4]:
            feeder.put(frame)
        with pytest.raises(ValueError, match="no room left"):
            feeder.finish()


def test_the_reader_waits_for_work_that_falls_behind() -> None:
    """However fast it reads, no more frames are held than may wait and the one in hand."""
    go_on, begun = threading.Event(), []

    def work(frame: pl.DataFrame) -> None:
        begun.append(frame["n"][0])
        go_on.wait(10)

    with Feeder(work) as feeder:
        for frame in FRAMES[:BEHIND]:
            feeder.put(frame)
        reader = threading.Thread(target=feeder.put, args=(FRAMES[BEHIND],))
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
        assert len(begun) == 1
        go_on.set()
        reader.join(10)
        assert not reader.is_alive()
