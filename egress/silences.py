"""Silences, restarts and lost heartbeats as findings: what could have left while nobody counted, medium at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from egress import words
from egress.cells import DAY_US
from egress.config import Model
from egress.contracts import Finding, Level, ModelShare
from egress.coverage import LINE_BYTES_PER_S, Coverage
from egress.findings import WINDOWS, uid_of
from egress.inventory import Inventory
from egress.levels import ladder
from egress.reviews import retirements
from egress.spans import REBOOT, SECOND_US, SILENT_US

DETECTOR = "coverage"
QUICK_REBOOT_US = 900 * SECOND_US
"""Servers with terabytes of memory to train are back within a quarter of an hour. One such reboot in a stretch is for
information: with one a month and a hundred hosts it would fill the queue every day. Certificates count it all the
same."""
MOST_TOLD = 5
"""Events that are spelled out, the longest first; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Event:
    """A silence, a restart or lost heartbeats of one sensor."""

    sensor: str
    start: int
    end: int
    why: str
    lost: int
    is_long: bool
    blind_us: int
    """For how long in it nobody counted what the host sent."""

    @property
    def is_quick_reboot(self) -> bool:
        return self.why == REBOOT and self.end - self.start <= QUICK_REBOOT_US

    @property
    def noticed(self) -> int:
        return min(self.end, self.start + SILENT_US) if self.is_long else self.end

    @property
    def text(self) -> str:
        when = f"silent from {words.moment(self.start)} for {_seconds(self.end - self.start)}"
        parts = [when if self.is_long else f"at {words.moment(self.end)}", self.why]
        parts += [f"{self.lost:,} heartbeats lost by their numbers"] if self.lost else []
        parts += [_carried(self.blind_us)] if self.blind_us else ["the card's counter went on"] if self.is_long else []
        return f"sensor {self.sensor or '(no name)'}: {'; '.join(part for part in parts if part)}"


def events_of(coverage: Coverage) -> Mapping[str, list[Event]]:
    """Events by host, in order of time."""
    found: dict[str, list[Event]] = {}
    for host, sensor, start, end, why, lost, is_long in coverage.events.sort("host", "start", "end").iter_rows():
        blind_us = coverage.blind_us(host, start, end)
        found.setdefault(host, []).append(Event(sensor, start, end, why, lost, is_long, blind_us))
    return found


def findings_of(host: str, events: Sequence[Event], coverage: Coverage, inventory: Inventory) -> Iterator[Finding]:
    """One finding for each stretch of events without a quiet day between them; `events` in order of time."""
    models = [inventory.model(model) for model in inventory.models_of(host)]
    for stretch in _stretches(events):
        times = level_times(stretch, models, inventory)
        start, last = stretch[0].start, max(event.end for event in stretch)
        yield Finding(
            uid=uid_of(DETECTOR, f"host:{host} silence", start),
            detector=DETECTOR,
            subject=f"host:{host}",
            host=host,
            level=max(times),
            title=_title(host, stretch),
            bytes=0,
            window=next((name for name, seconds in WINDOWS if last - start <= seconds * SECOND_US), "lifetime"),
            start=start,
            first_seen=start,
            last_seen=last,
            level_times=times,
            models=tuple(sorted((_share(model) for model in models), key=lambda share: (share.native_bytes, share.id))),
            path=(host,),
            reasons=(*reasons(stretch), *coverage.complaints(host)),
            is_closed=coverage.until - last >= DAY_US,
            revision=len(stretch),
        )


def level_times(events: Sequence[Event], models: Sequence[Model], inventory: Inventory) -> dict[Level, int]:
    """When each level was reached: info at once, medium when a line could have carried enough of some model.

    The first quick reboot does not count, unless one of the models was retiring.
    """
    times = {Level.INFO: events[0].noticed}
    enough = min((size for model in models for size, level in ladder(model) if level is Level.MEDIUM), default=None)
    carried = 0
    excused = next(
        (each for each in events if each.is_quick_reboot and not _is_retiring(each, models, inventory)), None
    )
    for event in events:
        if event is excused:
            continue
        capacity = event.blind_us * LINE_BYTES_PER_S // SECOND_US
        if enough is not None and capacity and carried + capacity >= enough:
            needed = -(-max(0, enough - carried) * SECOND_US // LINE_BYTES_PER_S)
            times[Level.MEDIUM] = min(event.end, max(event.noticed, event.start + needed))
            break
        carried += capacity
    return times


def _is_retiring(event: Event, models: Sequence[Model], inventory: Inventory) -> bool:
    spans = [span for model in models for span in retirements(model.id, inventory)]
    return any(begin <= event.end and event.start < end for begin, end in spans)


def reasons(events: Sequence[Event]) -> Iterator[str]:
    """The longest events in words, in order of time, and how many more there are."""
    longest = sorted(events, key=lambda event: (-event.blind_us, event.start - event.end, event.start, event.sensor))
    told = sorted(longest[:MOST_TOLD], key=lambda event: (event.start, event.sensor))
    yield from (event.text for event in told)
    rest = longest[MOST_TOLD:]
    if rest:
        yield f"and {len(rest):,} more, {_seconds(sum(event.blind_us for event in rest))} of them uncounted"
    if any(event.blind_us for event in events):
        yield "without a counter of the card a silence is medium at most"


def _stretches(events: Sequence[Event]) -> Iterator[list[Event]]:
    stretch: list[Event] = []
    for event in events:
        if stretch and event.start - max(each.end for each in stretch) >= DAY_US:
            yield stretch
            stretch = []
        stretch.append(event)
    if stretch:
        yield stretch


def _title(host: str, events: Sequence[Event]) -> str:
    blind = sum(event.blind_us for event in events)
    if blind:
        return f"nobody counted what {host} sent for {_seconds(blind)}"
    if any(event.is_long for event in events):
        return f"the sensor of {host} was silent for {_seconds(sum(each.end - each.start for each in events))}"
    return f"the sensor of {host} lost heartbeats or was restarted"


def _share(model: Model) -> ModelShare:
    """Nothing was measured, so nothing is charged."""
    return ModelShare(model.id, 0, model.bytes, model.is_assumed)


def _carried(blind_us: int) -> str:
    capacity = words.size(blind_us * LINE_BYTES_PER_S // SECOND_US)
    return f"nobody counted for {_seconds(blind_us)}, in which 10 Gbit/s carry {capacity}"


def _seconds(span_us: int) -> str:
    return f"{-(-span_us // SECOND_US):,} s"
