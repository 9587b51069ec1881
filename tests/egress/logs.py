"""Logs of one partition: rows of several hosts as messages, some of them twice, and ways to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl
from hypothesis import strategies as st

from egress import arrivals, taskstate
from egress.arrivals import SENSORS
from egress.inventory import Inventory
from egress.partition import PartitionTask
from egress.sums import KINDS
from egress.wire import FLOWS_V1, Header
from tests.egress.strategies import DAY, HOUR, MINUTE, NOON, Transfer, flows_of, site

SITE = Inventory(site())
LAWS = {**{kind.name: kind.join for kind in KINDS}, SENSORS.name: arrivals.join}
LONG = 30 * DAY
"""A horizon that no row of these tests lies behind."""

Sums = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Message:
    header: Header
    flows: pl.DataFrame


def attributed(transfers: Sequence[Transfer]) -> pl.DataFrame:
    rows = SITE.attribute(flows_of(transfers))
    return rows.with_columns(flow_id=pl.int_range(1, pl.len() + 1, dtype=pl.UInt64))


def log_of(transfers: Sequence[Transfer], rows: int = 2, epoch: str = "e") -> list[Message]:
    """The transfers in messages of so many rows, host by host, in the order dealt."""
    return list(_messages(attributed(transfers), rows, epoch))


def _messages(flows: pl.DataFrame, rows: int, epoch: str) -> Iterator[Message]:
    for (host, sensor), part in flows.partition_by(["host", "sensor"], maintain_order=True, as_dict=True).items():
        for seq, begin in enumerate(range(0, part.height, rows)):
            cut = part[begin : begin + rows]
            yield Message(Header(FLOWS_V1, str(host), str(sensor), "b", epoch, seq, cut.height), cut)


def fresh(late_after: int = LONG) -> PartitionTask:
    return PartitionTask(SITE, late_after)


def read(task: PartitionTask, log: Sequence[Message], most: int | None = None) -> PartitionTask:
    """Feeds the log from where the task is, at most so many messages."""
    begin = task.next_offset
    for offset, message in enumerate(log[begin : None if most is None else begin + most], begin):
        task.feed(message.header, message.flows, offset)
    return task


def joined(published: Sequence[Sums]) -> Sums:
    """What the judge holds after all that was handed on."""
    return {name: law([sums[name] for sums in published if name in sums]) for name, law in LAWS.items()}


def told_by(log: Sequence[Message], late_after: int = LONG) -> Sums:
    """What an undisturbed task says at the end."""
    return joined([read(fresh(late_after), log).take_changes()])


@dataclass(frozen=True)
class Step:
    """Read so many messages, hand on what changed, then perhaps die and begin again from an earlier state."""

    messages: int
    goes_back_to: int | None = None
    """Which of the states kept so far; None: it lives on."""


steps = st.lists(
    st.builds(Step, st.integers(0, 5), st.one_of(st.none(), st.none(), st.integers(0, 9))), min_size=1, max_size=8
)


def told_on_the_way(log: Sequence[Message], schedule: Sequence[Step], late_after: int = LONG) -> Sums:
    """What is handed on under a schedule of readings, deaths and states, in whatever order the judge gets it."""
    task, states, published = fresh(late_after), [b""], []
    for step in [*schedule, Step(len(log))]:
        read(task, log, step.messages)
        published.append(task.take_changes())
        states.append(taskstate.dump(task))
        if step.goes_back_to is not None:
            state = states[step.goes_back_to % len(states)]
            read(task, log, 1)  # what it read and told nobody is forgotten with it
            task = taskstate.load(state, SITE, late_after) if state else fresh(late_after)
    published.append(read(task, log).take_changes())
    return joined(published[::-1])


@st.composite
def wanderings(draw: st.DrawFn) -> list[Transfer]:
    """What one host's sensor says while its clock leaps to and fro: for a row, or for longer; to new places, or to
    where it was before; with rows so long that they reach from one place into the next."""
    places, dealt = [NOON], []
    for _ in range(draw(st.integers(2, 10))):
        leap = draw(st.sampled_from([HOUR, 5 * HOUR, -5 * HOUR, 3 * DAY, -3 * DAY, 400 * DAY]))
        now = draw(st.sampled_from(places)) + draw(st.sampled_from([0, MINUTE, leap]))
        places.append(now)
        for _ in range(draw(st.integers(1, 6))):
            now += draw(st.sampled_from([0, MINUTE, 50 * MINUTE, 50 * MINUTE]))
            seconds = draw(st.sampled_from([0, 30, 20_000, 300_000]))
            place = draw(st.sampled_from(["198.51.100.10", "203.0.113.5"]))
            dealt.append(Transfer(dst=place, sent=1000 + len(dealt), start=now, seconds=seconds))
        places.append(now)
    return dealt


def again(message: Message, **changes: object) -> Message:
    return replace(message, header=replace(message.header, **changes))
