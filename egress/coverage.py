"""What nobody saw: bytes that a host's network card sent beyond the flows, and times in which nobody watched.

A pure fold over heartbeats, flows' sums and the clock, so order, duplicates and batches change nothing. Times are UTC
microseconds. docs/decisions/0014-a-gap-has-its-own-level.md says why it is measured so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import polars as pl

from egress import cardbytes, spans, words
from egress.cells import DAY_US, HOUR_US, LONGEST_ROW_US, MINUTE_US, MOST
from egress.inventory import Inventory
from egress.matching import unexplained
from egress.reviews import NEVER
from egress.spans import SECOND_US

SLACK_US = MINUTE_US
"""How far a card's counter and a meter may disagree about when a byte was sent: clocks, buffers, reporting parts."""

CHATTER_BYTES_PER_S = 256
"""What a card sends that is no flow: ARP, LLDP, spanning tree, discovery. 22 MB a day; findings leave it out,
certificates do not."""

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

    Hosts with `transit` have no gap: their card sends what others began, and those pay for it. A heartbeat about no
    host is a source's word that it goes on, or is at its end; it covers nobody.
    """
    beats = beats.filter(pl.col("host") != "")
    believed, last = spans.dated(beats, cells["minute"])
    until = max(last, watermark)
    between = spans.of(believed, until)
    counting = between.sent.filter(~pl.col("host").is_in(_transit(between.sent["host"].unique(), inventory)))
    told = [pl.col("time").min().cast(pl.Int64).alias("first")]
    told += [pl.col(name).max().fill_null(0) for name in ("dropped_packets", "shed_rows")]
    return Coverage(
        hosts=frozenset(believed["host"].unique()),
        gaps=_gaps(counting, _explaining(sent, between.silent, inventory)),
        blind=tuple(_blind(between)),
        events=_events(between),
        sensors=believed.group_by(spans.SENSOR).agg(told).sort(spans.SENSOR),
        misdated=beats.height - believed.height,
        since=int(cells["first"].dt.epoch("us").to_numpy().min(initial=NEVER)) if cells.height else 0,
        until=until,
    )


def _explaining(sent: pl.DataFrame, silent: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """`sender begin end bytes most`: what each host sent by its own sensors, and in their silences by its peers'."""
    is_own, adding = pl.col("host") == pl.col("sender"), _adding(sent["sensor"].unique(), inventory)
    own, told = (cardbytes.largest_view(sent.filter(which), adding) for which in (is_own, ~is_own))
    return cardbytes.explaining(own, told, silent.with_columns(pl.col("host").cast(pl.String)))


def _events(between: spans.Spans) -> pl.DataFrame:
    """Silences and restarts, and what else broke a counter."""
    broken = between.sent.filter(pl.col("why").is_in([spans.ANEW, spans.JUMP]))
    also = broken.select(*spans.SENSOR, "start", "end", "why", lost=pl.lit(0, pl.Int64), is_long=pl.lit(False))
    both = pl.concat([between.silent, also]).with_columns(pl.col(*spans.SENSOR).cast(pl.String))
    return both.sort("host", "start", "end", "sensor", "why")


def _transit(hosts: Iterable[str], inventory: Inventory) -> list[str]:
    return [host for host in hosts if inventory.is_transit(host)]


def _adding(sensors: Iterable[str], inventory: Inventory) -> pl.Expr:
    patterns = inventory.config.fleet.disjoint
    return pl.col("sensor").is_in([name for name in sensors if any(fnmatchcase(name, each) for each in patterns)])


def _gaps(sent: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """By host and minute what flows do not explain; of several sensors' words on one card the largest counts."""
    flows = {str(host): part for (host,), part in seen.group_by("sender", maintain_order=True)}
    gaps = [_NO_GAPS]
    for (host,), of_host in sent.group_by("host", maintain_order=True):
        mine = flows.get(str(host), seen.clear())
        of_sensors = [_of_sensor(part, mine) for _, part in of_host.group_by("sensor", maintain_order=True)]
        largest = pl.concat(of_sensors).group_by("minute").agg(*_TIMES, pl.col("bytes", "beyond").max())
        gaps.append(largest.sort("minute").select(pl.lit(str(host)).alias("host"), pl.all()))
    return pl.concat(gaps)


def _of_sensor(sent: pl.DataFrame, flows: pl.DataFrame) -> pl.DataFrame:
    """By minute what the host's flows do not explain of what one sensor says of its card."""
    pieces = _spread(_left(_supplies(sent), flows).filter(pl.col("bytes") > 0))
    return pieces.group_by("minute").agg(pl.col("bytes", "beyond").sum(), *_TIMES)


def _supplies(sent: pl.DataFrame) -> pl.DataFrame:
    """What one card sent, by minute; what lies between two heartbeats further apart stays one."""
    is_long = pl.col("end") - pl.col("start") > MINUTE_US
    keyed = sent.select("start", "end", "bytes", is_long=is_long, minute=(pl.col("end") - 1) // MINUTE_US)
    short = keyed.group_by("minute", "is_long").agg(
        pl.col("start").min(), pl.col("end").max(), pl.col("bytes").cast(pl.Int128).sum().clip(0, MOST).cast(pl.Int64)
    )
    # A clock that was set back makes spans overlap; whichever came first may explain them.
    since = pl.col("start").reverse().cum_min().reverse()
    return short.sort("end", "start").with_columns(since=since)


def _left(supplies: pl.DataFrame, flows: pl.DataFrame) -> pl.DataFrame:
    """Supplies of one card with the `bytes` that no flow explains, and those `beyond` chatter."""
    demands = flows.select(pl.col("begin") - SLACK_US, pl.col("end") + MINUTE_US + SLACK_US, "most")
    left = unexplained(supplies.select("since", "end", "bytes").rows(), demands.rows())
    chatter = (pl.col("end") - pl.col("start")) * CHATTER_BYTES_PER_S // SECOND_US
    told = supplies.with_columns(bytes=pl.Series(left, dtype=pl.Int64))
    return told.select("start", "end", "bytes", beyond=(pl.col("bytes") - chatter).clip(0))


_TIMES = [pl.col("first").min(), pl.col("last").max()]
_NO_GAPS = pl.DataFrame(
    schema={"host": pl.String} | dict.fromkeys(("minute", "first", "last", "bytes", "beyond"), pl.Int64)
)


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """Each row over the minutes that it touches, in proportion to time; over hours where it lasts longer than a day.

    One longer than 31 days stands where it ends, as the ledger has it.
    """
    step, last = pl.col("step"), pl.max_horizontal(pl.col("end") - 1, pl.col("start"))
    is_long = pl.col("end") - pl.col("start") > DAY_US
    rows = rows.with_columns(step=pl.when(is_long).then(HOUR_US).otherwise(MINUTE_US).cast(pl.Int64), end=last)
    is_endless = pl.col("end") - pl.col("start") >= LONGEST_ROW_US
    rows = rows.with_columns(start=pl.when(is_endless).then("end").otherwise("start"))
    touched = pl.int_ranges(pl.col("start") // step, pl.col("end") // step + 1)
    lines = (
        rows.with_columns(touched=touched)
        .explode("touched")
        .with_columns(
            first=pl.max_horizontal("start", pl.col("touched") * step),
            last=pl.min_horizontal("end", (pl.col("touched") + 1) * step - 1),
        )
    )
    return lines.select(
        "first",
        "last",
        _portion("bytes"),
        _portion("beyond"),
        minute=pl.col("first") // MINUTE_US * MINUTE_US,
    )


def _portion(name: str) -> pl.Expr:
    """The difference of two rounded-down running sums, so that nothing is lost."""
    total, whole = pl.col(name).cast(pl.Int128), pl.col("end") - pl.col("start") + 1
    until = total * (pl.col("last") - pl.col("start") + 1) // whole
    return (until - total * (pl.col("first") - pl.col("start")) // whole).cast(pl.Int64).alias(name)


def _blind(between: spans.Spans) -> Iterator[Blind]:
    """Times without a word, or in which the counter began anew, unless a counter of the host went on through them."""
    unsure = between.sent.filter(~pl.col("is_whole")).select("host", "start", "end")
    doubtful = pl.concat([unsure, between.silent.filter("is_long").select("host", "start", "end")])
    measured = between.sent.filter("is_whole").filter(pl.col("host").is_in(doubtful["host"].unique().implode()))
    counted = {str(host): list(part.iter_rows()) for (host,), part in _stretches(measured).group_by("host")}
    for host, start, end in _stretches(doubtful).iter_rows():
        for _, begin, stop in counted.get(host, []):
            if begin < end and stop > start:
                if begin > start:
                    yield Blind(str(host), start, begin)
                start = max(start, stop)
        if start < end:
            yield Blind(str(host), start, end)


def _stretches(times: pl.DataFrame) -> pl.DataFrame:
    """`host start end`: the union of times, as few as possible, in order."""
    ordered = times.select("host", "start", "end").sort("host", "start", "end")
    reached = pl.col("end").cum_max().shift(1).over("host")
    stretch = (pl.col("start") > reached).fill_null(True).cum_sum()
    joined = ordered.group_by("host", stretch.alias("stretch"), maintain_order=True)
    return joined.agg(pl.col("start").min(), pl.col("end").max()).drop("stretch")
