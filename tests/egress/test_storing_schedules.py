"""The store's service, whatever its group, its broker and ClickHouse do to it meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from itertools import count
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress import storing, wire
from egress.config import Kafka
from egress.intake import Place
from egress.messages import Message
from egress.metrics import Metrics
from egress.schema import FLOWS, TIME, V4_MAPPED_PREFIX, conform

READ, LOSE, REFUSE, WRITE = "read", "lose", "refuse", "write"
MESSAGES = 6
PLACES: tuple[Place, ...] = (("flows", 0), ("flows", 1))


class Killed(Exception):
    """kill -9: nothing after it is carried out."""


def message(place: Place, offset: int) -> Message:
    """One row, whose `flow_id` is of this message alone."""
    row = {
        "flow_id": [place[1] * 100 + offset],
        "host": [f"gpu-{place[1]}"],
        "side": ["src"],
        "collector": ["capture"],
        "src_ip": [V4_MAPPED_PREFIX + b"\x0a\x00\x00\x01"],
        "dst_ip": [V4_MAPPED_PREFIX + b"\x0a\x00\x00\x02"],
    }
    noon = pl.lit(20_000 * 86_400_000_000).cast(TIME)
    flows = conform(pl.DataFrame(row).with_columns(start=noon, end=noon, proto=6), FLOWS)
    value, headers = wire.encode(flows, wire.Header(wire.FLOWS_V1, f"gpu-{place[1]}", "s", "b", "e", offset, 1))
    return Message(*place, offset, b"", value, tuple(headers))


LOG = {place: [message(place, offset) for offset in range(MESSAGES)] for place in PLACES}
EVERYTHING = sorted(place[1] * 100 + offset for place in PLACES for offset in range(MESSAGES))


class World:
    """What outlives the service: offsets with notes, and what ClickHouse holds by token."""

    def __init__(self) -> None:
        self.committed: dict[Place, tuple[int, str]] = {}
        self.stored: dict[str, list[int]] = {}
        self.happens: deque[str] = deque()
        self.refuses = False
        self.writing: deque[tuple[Future[float], Callable[[object], float]]] = deque()

    def write_once(self, client: object, table: str, flows: pa.Table, token: str) -> None:
        self.stored.setdefault(token, flows["flow_id"].to_pylist())

    def run(self, work: Callable[[object], float]) -> Future[float]:
        self.writing.append((Future(), work))
        return self.writing[-1][0]

    def write(self) -> None:
        while self.writing:
            promise, work = self.writing.popleft()
            promise.set_result(work(None))

    def serve(self, happens: Iterable[str], until_idle_s: float | None) -> None:
        """One life of the service; without a time it is killed after what happens."""
        self.happens, self.writing, self.refuses = deque(happens), deque(), False
        running = SimpleNamespace(
            metrics=Metrics("store"), log=SimpleNamespace(info=_silent, warning=_silent), stop=Event()
        )
        running.clock = count(step=storing.FLUSH_S / 4).__next__
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(storing, "Consumer", lambda *given, **_: Member(self, until_idle_s is None, *given))
            patched.setattr(storing, "write_once", self.write_once)
            patched.setattr(storing, "write", _silent)
            store, bus = SimpleNamespace(run=self.run), SimpleNamespace(flush=lambda timeout_s: True)
            service = storing.Storing(Kafka(("none:9092",)), *cast(Any, (store, running, bus)), "")
            service.run(until_idle_s)


class Member:
    """A consumer of the one member of its group."""

    def __init__(
        self,
        world: World,
        is_mortal: bool,
        settings: Kafka,
        group: str,
        topics: tuple[str, ...],
        on_assign: Callable[[tuple[Place, ...]], None],
        on_revoke: Callable[[tuple[Place, ...]], None],
        member: str,
    ) -> None:
        self._world, self._is_mortal = world, is_mortal
        self._places = PLACES if topics == ("flows",) else ()
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self._at: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self.assigned: set[Place] = set()

    def connect(self) -> bool:
        return True

    def poll(self, timeout_s: float, most: int) -> list[Message]:
        if not self._places:
            return []
        if not self.assigned:
            self._join()
        if not self._world.happens and self._is_mortal:
            raise Killed
        act = self._world.happens.popleft() if self._world.happens else READ
        if act == LOSE:
            self._on_revoke(self._places)
            self._join()
        self._world.refuses |= act == REFUSE
        if act == WRITE or not self._is_mortal:
            self._world.write()
        ready = sorted(self._at.keys() - self._paused) if act == READ else []
        return [one for place in ready for one in self._next(place)]

    def _join(self) -> None:
        self.assigned = set(self._places)
        self._on_assign(self._places)

    def _next(self, place: Place) -> list[Message]:
        at, self._at[place] = self._at[place], self._at[place] + 2
        return LOG[place][at : at + 2]

    def commit(self, offsets: Mapping[Place, int], notes: Mapping[Place, str]) -> bool:
        if self._world.refuses:
            self._world.refuses = False
            return False
        self._world.committed |= {place: (offset, notes.get(place, "")) for place, offset in offsets.items()}
        return True

    def noted(self, places: Iterable[Place]) -> dict[Place, tuple[int, str]]:
        return {place: self._world.committed[place] for place in places if place in self._world.committed}

    def begins(self, places: Iterable[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, 0)

    def ends(self) -> dict[Place, int]:
        return {}

    def has_read_all(self) -> bool:
        return all(self._at.get(place, 0) >= MESSAGES for place in self._places)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._at[topic, partition] = offset

    def pause(self, places: Iterable[Place]) -> None:
        self._paused |= set(places)

    def resume(self, places: Iterable[Place]) -> None:
        self._paused -= set(places)

    def close(self) -> None:
        pass


def _silent(*_: object, **__: object) -> None:
    pass


@pytest.mark.slow
@given(st.lists(st.lists(st.sampled_from([READ, READ, LOSE, REFUSE, WRITE]), max_size=20), min_size=1, max_size=3))
@example([[READ, READ, REFUSE, LOSE, WRITE]])
def test_whatever_happens_each_row_is_stored_once(lives: list[list[str]]) -> None:
    """A round that was read before the partitions were lost must not commit what it no longer writes."""
    world = World()
    for happens in lives:
        with pytest.raises(Killed):
            world.serve(happens, None)
    world.serve([], 10 * storing.FLUSH_S)

    assert sorted(row for rows in world.stored.values() for row in rows) == EVERYTHING
