"""What nobody saw: bytes that a host's network card sent beyond the flows, and times in which nobody watched.

A pure fold over heartbeats, flows' sums and the clock, so order, duplicates and batches change nothing. Times are UTC
microseconds. docs/decisions/0014-a-gap-has-its-own-level.md says why it is measured so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from egress import spans, words
from egress.beyond import ENDLESS
from egress.cells import MINUTE_US
from egress.days import Day
from egress.inventory import Inventory
from egress.memo import borders_before
from egress.recorded import Recorded, recorded
from egress.reviews import NEVER
from egress.settled import Memo, Since, since, stretches
from egress.spans import SECOND_US
from egress.spoken import SENSOR, text

LINE_BYTES_PER_S = 1_250_000_000
"""10 Gbit/s: what could have left while nobody counted."""


@dataclass(frozen=True, slots=True)
class Blind:
    """A time in which a host could send what nobody counted."""

    host: str
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """As much as a line carries in that time."""
        return (self.end - self.start) * LINE_BYTES_PER_S // SECOND_US

    def within(self, start: int, end: int) -> Blind:
        """The part of it in [start, end); empty where there is none."""
        first = max(self.start, start)
        return Blind(self.host, first, max(first, min(self.end, end)))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of what was not seen."""

    hosts: frozenset[str]
    """Those that sent heartbeats."""
    gaps: pl.DataFrame
    """`host minute first last bytes beyond`: what the card sent beyond the flows; `beyond`: more than chatter."""
    blind: tuple[Blind, ...]
    """In order of host and time."""
    events: pl.DataFrame
    """`host sensor start end why lost is_long`: silences, restarts, lost heartbeats (`spans.Spans`)."""
    sensors: pl.DataFrame
    """`host sensor first dropped_packets shed_rows`: its first heartbeat, and the largest that one said, or 0."""
    misdated: int
    """Heartbeats left out for their time."""
    since: int
    """First packet of any flow; 0 without flows."""
    until: int
    """Last heartbeat or packet whose time can be believed."""

    def gap_bytes(self, start: int | None = None, end: int | None = None) -> Mapping[str, int]:
        """By host that sent heartbeats: bytes beyond the flows, and what could have left while nobody counted."""
        begin, stop = start or 0, NEVER if end is None else end
        minute = pl.col("minute")
        inside = self.gaps.filter((minute > begin - MINUTE_US) & (minute < stop))
        sums = inside.group_by("host").agg(pl.col("bytes").cast(pl.Int128).sum())
        total = dict.fromkeys(sorted(self.hosts), 0) | {host: int(amount) for host, amount in sums.iter_rows()}
        for each in self.blind:
            total[each.host] += each.within(begin, stop).bytes
        return total

    def blind_us(self, host: str, start: int | None = None, end: int | None = None) -> int:
        """For how long nobody counted what the host sent, in microseconds."""
        begin, stop = start or 0, NEVER if end is None else end
        parts = [each.within(begin, stop) for each in self.blind if each.host == host]
        return sum(part.end - part.start for part in parts)

    def remarks(self, inventory: Inventory, start: int | None = None, end: int | None = None) -> Mapping[str, str]:
        """By host, in a sentence, what its gap in [start, end) is made of and what is not known of it."""
        total = self.gap_bytes(start, end)
        return {host: "; ".join(self._remarks(host, total[host], inventory, start, end)) for host in sorted(self.hosts)}

    def _remarks(
        self, host: str, total: int, inventory: Inventory, start: int | None, end: int | None
    ) -> Iterator[str]:
        blind_us = self.blind_us(host, start, end)
        beyond = total - blind_us * LINE_BYTES_PER_S // SECOND_US
        yield f"the card of {host} sent {beyond:,} B beyond its flows"
        if blind_us:
            yield f"nobody counted for {-(-blind_us // SECOND_US):,} s, in which 10 Gbit/s carry {total - beyond:,} B"
        first = int(self.sensors.filter(pl.col("host") == host)["first"].min())  # type: ignore[arg-type] # has one
        if first > (self.since if start is None else start):
            yield f"its heartbeats begin at {words.moment(first)}: before that a silent sensor looks like a silent host"
        if inventory.is_transit(host):
            yield "it passes on what others send, so its card was not compared with flows"
        yield from self.complaints(host)

    def complaints(self, host: str) -> Iterator[str]:
        """What the host's sensors said of themselves."""
        for _, sensor, _, dropped, shed in self.sensors.filter(pl.col("host") == host).iter_rows():
            for number, what in ((dropped, "packets dropped"), (shed, "rows shed")):
                if number:
                    yield f"sensor {sensor or '(no name)'} said up to {number:,} {what} in one heartbeat"


def of(beats: pl.DataFrame, sent: pl.DataFrame, cells: pl.DataFrame, watermark: int, inventory: Inventory) -> Coverage:
    """Coverage from heartbeats (each once), sums of `cardbytes`, and the ledger's cells with their watermark.

    Hosts with `transit` have no gap: their card sends what others began, and those pay for it.
    """
    return _of(recorded(beats, sent, cells), watermark, inventory, None)


def of_days(
    beats: Sequence[Day], sent: Sequence[Day], cells: Sequence[Day], watermark: int, inventory: Inventory, memo: Memo
) -> Coverage:
    """The same, for the work that the time needs in which something changed; all that came was noted to the memo."""
    return _of(memo.minutes.of(beats, sent, cells), watermark, inventory, memo)


def _of(seen: Recorded, watermark: int, inventory: Inventory, memo: Memo | None) -> Coverage:
    clock = spans.clock_of(seen.said, seen.cells)
    until = max(clock.last, watermark)
    usable = (memo or Memo()).usable(inventory.config.fleet, clock.doubted)
    tried = (since(each, seen, clock, until, inventory) for each in usable)
    found = next(each for each in tried if each is not None)
    explained = found.settled.explained
    if memo is not None:
        settled = list(found.settle(borders_before(until)))
        explained = settled[-1].explained if settled else explained
        memo.keep(found.settled, settled)
    sensors = found.told(ENDLESS)
    return Coverage(
        hosts=frozenset(sensors["host"]),
        gaps=found.explained(explained, ENDLESS).gaps,
        blind=tuple(_blind(found)),
        events=_events(found),
        sensors=sensors.sort(SENSOR),
        misdated=clock.misdated,
        since=int(seen.cells["first"].to_numpy().min(initial=NEVER)) if seen.cells.height else 0,
        until=until,
    )


def _events(found: Since) -> pl.DataFrame:
    """Silences and restarts, and what else broke a counter."""
    broken = found.unsure(ENDLESS).filter(pl.col("why").is_in([spans.ANEW, spans.JUMP]))
    also = broken.select(*SENSOR, "start", "end", "why", lost=pl.lit(0, pl.Int64), is_long=pl.lit(False))
    both = pl.concat([text(found.silent), also])
    return both.sort("host", "start", "end", "sensor", "why", "lost")


def _blind(found: Since) -> Iterator[Blind]:
    """Times without a word, or in which the counter began anew, unless a counter of the host went on through them."""
    silent = text(found.silent.filter("is_long"))
    doubtful = stretches(pl.concat(each.select("host", "start", "end") for each in (found.unsure(ENDLESS), silent)))
    whole = found.whole(ENDLESS, doubtful["host"])
    counted = {str(host): list(part.iter_rows()) for (host,), part in whole.group_by("host", maintain_order=True)}
    for host, start, end in doubtful.iter_rows():
        for _, begin, stop in counted.get(host, []):
            if begin < end and stop > start:
                if begin > start:
                    yield Blind(str(host), start, begin)
                start = max(start, stop)
        if start < end:
            yield Blind(str(host), start, end)
