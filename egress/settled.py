"""What coverage keeps of the time before a border, so that the minutes after it are folded on and not everything anew.

A memo, not a truth: whoever goes on from a border looks whether anything that came since would have changed what was
kept there, and goes back to an earlier one if so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import polars as pl

from egress import cardbytes, spans
from egress.beyond import ENDLESS, Explained, go_on
from egress.cells import MINUTE_US
from egress.inventory import Inventory
from egress.memo import UNCHANGED, borders_kept
from egress.recorded import Minutes, Recorded
from egress.spans import Clock, Spans
from egress.spoken import NEVER, SENSOR, Spoken, blank, text

_LARGEST = ["dropped_packets", "shed_rows"]
_TOLD = {"first": pl.Int64, "dropped_packets": pl.UInt64, "shed_rows": pl.UInt64}
_TIMES = {"start": pl.Int64, "end": pl.Int64}


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything that spans which ended by the border add to coverage, by text names."""

    border: int = NEVER
    """A full hour, or before everything."""
    spoken: Spoken = field(default_factory=Spoken)
    explained: Explained = field(default_factory=Explained)
    told: pl.DataFrame = field(default_factory=blank(SENSOR, **_TOLD).clone)
    """What sensors said of themselves, as in `coverage.Coverage`."""
    unsure: pl.DataFrame = field(default_factory=blank([*SENSOR, "why"], **_TIMES).clone)
    """Spans in which a counter does not tell all."""
    whole: pl.DataFrame = field(default_factory=blank(["host"], **_TIMES).clone)
    """Stretches in which some counter of the host went on."""
    asked: pl.DataFrame = field(default_factory=blank(["host"], since=pl.Int64, until=pl.Int64).clone)
    """In which of these minutes of silence others were asked what they received."""
    doubted: frozenset[int] = frozenset()
    """Minutes whose heartbeats were not believed."""


@dataclass
class Memo:
    """Of each of the last hours and days what was settled when it began."""

    minutes: Minutes = field(default_factory=Minutes)
    _settled: dict[int, Settled] = field(default_factory=dict)
    _changed: int = UNCHANGED
    """The earliest time of what came since."""
    _rests_on: object = None

    def note(self, times: pl.Series) -> None:
        """Times of heartbeats, or minutes in which rows begin, of which more may be known now than before."""
        if len(times):
            self._changed = min(self._changed, int(times.cast(pl.Int64).min()))  # type: ignore[arg-type] # not empty

    def usable(self, rests_on: object, doubted: frozenset[int]) -> Iterator[Settled]:
        """What nothing that was noted touches, the latest first, and at last nothing at all.

        Where `rests_on` is another object than before, all of it is forgotten.
        """
        if self._rests_on is not rests_on:
            self._settled, self._rests_on = {}, rests_on
        self._settled = {border: each for border, each in self._settled.items() if border < self._changed}
        self._changed = UNCHANGED
        for border in sorted(self._settled, reverse=True):
            if self._settled[border].doubted == doubted_before(border, doubted):
                yield self._settled[border]
        yield Settled()

    def keep(self, used: Settled, new: list[Settled]) -> None:
        """What was gone on from, and what was settled on the way; what is later than that was of no use."""
        known = {border: each for border, each in self._settled.items() if border <= used.border}
        known |= {each.border: each for each in new}
        self._settled = {border: known[border] for border in borders_kept(known)}


def doubted_before(border: int, minutes: frozenset[int]) -> frozenset[int]:
    return frozenset(minute for minute in minutes if minute < border)


def asked_before(border: int, silent: pl.DataFrame) -> pl.DataFrame:
    """The minutes before a border that lie in silences, `host start end`."""
    since = pl.col("start") // MINUTE_US * MINUTE_US
    minutes = silent.select(pl.col("host").cast(pl.String), since=since, until=pl.min_horizontal("end", border))
    return minutes.filter(pl.col("since") < border).unique().sort("host", "since", "until")


@dataclass(frozen=True, slots=True)
class Since:
    """What came after a border, and what was settled there."""

    settled: Settled
    clock: Clock
    beats: pl.DataFrame
    between: Spans
    counting: pl.DataFrame
    """What cards sent whose bytes flows have to explain, as in `spans.Spans`."""
    flows: pl.DataFrame
    """What explains them: `sender begin end most`."""

    @property
    def silent(self) -> pl.DataFrame:
        return self.between.silent

    def explained(self, before: Explained, border: int) -> Explained:
        """What is explained until a border, from what is explained until an earlier one."""
        end, begin = pl.col("end"), pl.col("begin")
        sent = self.counting.filter((end > before.border) & (end <= border))
        return go_on(before, sent, self.flows.filter((begin >= before.border) & (begin < border)), border)

    def told(self, border: int) -> pl.DataFrame:
        """What sensors said of themselves before a border."""
        beats = self.beats.filter(_time() < border)
        new = beats.group_by(SENSOR).agg(_time().min().alias("first"), pl.col(_LARGEST).max().fill_null(0))
        every = pl.concat([self.settled.told, new]).group_by(SENSOR)
        return every.agg(pl.col("first").min(), pl.col(_LARGEST).max())

    def unsure(self, border: int) -> pl.DataFrame:
        """Spans that end by a border and in which a counter does not tell all."""
        new = self.between.sent.filter(~pl.col("is_whole") & (pl.col("end") <= border))
        return pl.concat([self.settled.unsure, text(new).select(self.settled.unsure.columns)])

    def whole(self, border: int, hosts: pl.Series | None = None) -> pl.DataFrame:
        """Stretches of spans that end by a border and in which some counter of the host, of `hosts`, went on."""
        is_asked = pl.lit(True) if hosts is None else pl.col("host").cast(pl.String).is_in(hosts.unique().implode())
        new = self.between.sent.filter(pl.col("is_whole") & (pl.col("end") <= border)).filter(is_asked)
        return stretches(pl.concat([self.settled.whole.filter(is_asked), text(stretches(new))]))

    def settle(self, borders: Iterable[int]) -> Iterator[Settled]:
        """What is settled at borders, in their order; none where that was known, or what came later reaches behind."""
        before = self.settled.explained
        for border in borders:
            if border <= before.border or self.clock.last == 0:
                continue
            explained = self.explained(before, border)
            if explained.can_go_on(self.counting.filter(pl.col("end") > border)):
                before = explained
                yield Settled(
                    border,
                    self.between.until(border),
                    explained,
                    self.told(border),
                    self.unsure(border),
                    self.whole(border),
                    asked_before(border, self.silent),
                    doubted_before(border, self.clock.doubted),
                )


def since(settled: Settled, seen: Recorded, clock: Clock, until: int, inventory: Inventory) -> Since | None:
    """What is known from a border until `until`; None where it throws another light on what was before."""
    border = settled.border
    beats = clock.believed(seen.beats(border))
    between = spans.of(beats, until, settled.spoken)
    if between is None or not asked_before(border, between.silent).equals(settled.asked):
        return None
    # Where nobody ever spoke, flows have nothing to explain.
    sent = seen.sent(border if clock.last else ENDLESS)
    flows = _explaining(sent, between.silent, inventory)
    hosts = between.sent["host"].unique()
    transit = [host for host in hosts if inventory.is_transit(host)]
    counting = between.sent.filter(~pl.col("host").is_in(transit))
    return Since(settled, clock, beats, between, counting, flows) if settled.explained.can_go_on(counting) else None


def _explaining(sent: pl.DataFrame, silent: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """`sender begin end bytes most`: what each host sent by its own sensors, and in their silences by its peers'."""
    is_own, adding = pl.col("host") == pl.col("sender"), _adding(sent["sensor"].unique(), inventory)
    own, told = (cardbytes.largest_view(sent.filter(which), adding) for which in (is_own, ~is_own))
    return cardbytes.explaining(own, told, silent.with_columns(pl.col("host").cast(pl.String)))


def _adding(sensors: Iterable[str], inventory: Inventory) -> pl.Expr:
    patterns = inventory.config.fleet.disjoint
    return pl.col("sensor").is_in([name for name in sensors if any(fnmatchcase(name, each) for each in patterns)])


def stretches(times: pl.DataFrame) -> pl.DataFrame:
    """`host start end`: the union of times, as few as possible, in order."""
    ordered = times.select("host", "start", "end").sort("host", "start", "end")
    reached = pl.col("end").cum_max().shift(1).over("host")
    stretch = (pl.col("start") > reached).fill_null(True).cum_sum()
    joined = ordered.group_by("host", stretch.alias("stretch"), maintain_order=True)
    return joined.agg(pl.col("start").min(), pl.col("end").max()).drop("stretch")


def _time() -> pl.Expr:
    return pl.col("time").cast(pl.Int64)
