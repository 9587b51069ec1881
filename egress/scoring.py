"""How well somebody's alarms found labelled thefts, at which cost in false alarms: the same arithmetic for everybody.

An alarm is true when it is raised on a host of a theft, between the theft's first byte and two days after its last,
and names one of its destinations, if it names any. Everything else is false, also on hosts where a theft goes on: an
alarm about something else there is luck. A false episode is a finding, or, where a rule has none, a run of false alarms
of one host with less than a day between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from egress.cells import DAY_US
from egress.labels import GRACE_US, Incident, Theft

BUDGETS = (0.001, 0.01, 0.1)
"""False episodes per host-day."""
QUIET_US = DAY_US
PARTICULARS = {
    "dns-tunnel": ("DNS",),
    "icmp-tunnel": ("ICMP",),
    "overlay": ("vxlan", "VXLAN"),
    "relay": (" > ",),
    "inside-copy": ("does not hold",),
    "piggyback": ("manifest",),
    "own-bucket": ("receipt",),
    "mimic-checkpoint": ("receipt",),
    "last-minute": ("retiring",),
    "gap": ("network card", "nobody counted"),
}
"""Words of which the reasons of a finding about such a theft must hold one."""
OFF = float("inf")
"""The threshold of a rule that no threshold brings into the budget."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fleet: what happened, and how many hosts were watched from when until when."""

    fleet: str
    thefts: tuple[Theft, ...]
    incidents: tuple[Incident, ...]
    hosts: int
    start: int
    end: int

    @property
    def host_days(self) -> float:
        return self.hosts * (self.end - self.start) / DAY_US

    @property
    def middle(self) -> int:
        return (self.start + self.end) // 2


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A threshold set on the first half of every recording, and what it cost in the second."""

    threshold: float
    first_rate: float
    second_rate: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one theft under one rule at one threshold."""

    theft: Theft
    fleet: str
    is_found: bool
    gone_bytes: int
    """That had left when the alarm came; all of them where none came."""
    delay_us: int | None
    """From the theft's first byte; None: not found."""
    names_model: bool | None = None
    """None: the rule names no models."""
    leads_with_destination: bool | None = None
    """The first destination that the alarm names is one of the theft's."""
    says_how: bool | None = None
    """Its words name what is particular about this kind of theft; None: nothing is, or the rule has no words."""

    @property
    def gone(self) -> float:
        """As a fraction of the model's native size."""
        return self.gone_bytes / self.theft.label.model_bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One rule at one threshold."""

    threshold: float
    false_episodes: int
    host_days: float
    outcomes: tuple[Outcome, ...]
    disturbed: Mapping[str, tuple[int, int]]
    """By kind of incident: how many had a false alarm on their hosts, during them and two days after; of how many."""

    @property
    def rate(self) -> float:
        """False episodes per host-day."""
        return self.false_episodes / self.host_days if self.host_days else 0.0

    @property
    def found(self) -> int:
        return sum(outcome.is_found for outcome in self.outcomes)

    @property
    def share(self) -> float:
        return self.found / len(self.outcomes) if self.outcomes else 0.0

    def gone(self, quantile: float) -> float:
        """Fraction of the model that had left at the alarm, over all thefts: one that was missed left whole."""
        return float(np.quantile([outcome.gone for outcome in self.outcomes], quantile)) if self.outcomes else 0.0

    def delay_us(self, quantile: float) -> float | None:
        """Of the thefts that were found."""
        delays = [outcome.delay_us for outcome in self.outcomes if outcome.delay_us is not None]
        return float(np.quantile(delays, quantile)) if delays else None


class Scored:
    """One rule's alarms in all fleets, matched with their thefts; asked for any threshold."""

    def __init__(self, trials: Sequence[Trial], alarms: Sequence[pl.DataFrame]) -> None:
        """`alarms` are columns of ALARMS, one frame for each of the trials."""
        self._trials = trials
        self._host_days = sum(trial.host_days for trial in trials)
        matched = [_matched(trial, frame) for trial, frame in zip(trials, alarms, strict=True)]
        # In order of time, so that the first of a theft is its earliest.
        self._alarms = pl.concat(matched).sort("time", "fleet", "host", "episode")

    def at(self, threshold: float) -> Point:
        raised = self._alarms.filter(pl.col("score") >= threshold)
        outcomes, disturbed = tuple(self._outcomes(raised)), self._disturbed(raised)
        return Point(threshold, _false_episodes(raised), self._host_days, outcomes, disturbed)

    def within(self, budget: float) -> Point:
        """The lowest threshold whose false episodes stay within the budget; a rule that has none is switched off."""
        return self.at(_lowest(self._alarms, budget * self._host_days))

    def held_out(self, budget: float) -> HeldOut:
        """Whether a threshold keeps what it promised: set for the budget on the first half, asked on the second."""
        first, second = (self._alarms.filter(pl.col("is_late") == late) for late in (False, True))
        threshold, days = _lowest(first, budget * self._host_days / 2), self._host_days / 2
        costs = [_false_episodes(half.filter(pl.col("score") >= threshold)) / days for half in (first, second)]
        return HeldOut(threshold, *costs)

    def halves(self, threshold: float) -> tuple[float, float]:
        """False episodes per host-day in the first and in the second half of every recording."""
        raised, days = self._alarms.filter(pl.col("score") >= threshold), self._host_days / 2
        first, second = (_false_episodes(raised.filter(pl.col("is_late") == late)) / days for late in (False, True))
        return first, second

    def curve(self, most: int = 24) -> list[Point]:
        """Points over the whole range of thresholds, at those where a theft is found or lost."""
        telling = self._alarms.filter(pl.col("theft") >= 0)["score"].unique().sort()
        places = np.unique(np.linspace(0, max(0, len(telling) - 1), most).astype(int))
        return [self.at(float(telling[int(place)])) for place in places] if len(telling) else []

    def _outcomes(self, raised: pl.DataFrame) -> list[Outcome]:
        first = raised.filter(pl.col("theft") >= 0).unique(["fleet", "theft"], keep="first", maintain_order=True)
        alarm = {(row["fleet"], row["theft"]): row for row in first.iter_rows(named=True)}
        return [
            _outcome(trial.fleet, theft, alarm.get((trial.fleet, number)))
            for trial in self._trials
            for number, theft in enumerate(trial.thefts)
        ]

    def _disturbed(self, raised: pl.DataFrame) -> dict[str, tuple[int, int]]:
        false = raised.filter(pl.col("theft") < 0)
        counts: dict[str, tuple[int, int]] = {}
        for trial in self._trials:
            for each in trial.incidents:
                is_then = pl.col("time").is_between(each.start, each.end + GRACE_US)
                is_there = (pl.col("fleet") == trial.fleet) & pl.col("host").is_in(each.hosts)
                disturbed, total = counts.get(each.kind, (0, 0))
                counts[each.kind] = (disturbed + int(not false.filter(is_then & is_there).is_empty()), total + 1)
        return dict(sorted(counts.items()))


def _lowest(alarms: pl.DataFrame, most: float) -> float:
    """The lowest threshold with at most so many false episodes. Thresholds between two scores tell nothing apart."""
    scores = alarms["score"].unique().sort()
    low, high = 0, len(scores)
    while low < high:
        middle = (low + high) // 2
        if _false_episodes(alarms.filter(pl.col("score") >= scores[middle])) <= most:
            high = middle
        else:
            low = middle + 1
    return float(scores[low]) if low < len(scores) else OFF


def _false_episodes(raised: pl.DataFrame) -> int:
    """Findings whose first alarm was false, and runs of false alarms of a host. Alarms in order of time."""
    first = raised.filter(pl.col("episode") != "").unique(["fleet", "episode"], keep="first", maintain_order=True)
    findings = first.filter(pl.col("theft") < 0).height
    others = raised.filter((pl.col("episode") == "") & (pl.col("theft") < 0)).sort("fleet", "host", "time")
    gap = pl.col("time").diff().over("fleet", "host")
    return findings + others.filter(gap.is_null() | (gap > QUIET_US)).height


def _matched(trial: Trial, alarms: pl.DataFrame) -> pl.DataFrame:
    """ALARMS with `fleet` and `theft`: the number of the one that it is about, -1 for a false one.

    An alarm that fits several thefts has a line for each.
    """
    is_late = pl.col("time") > trial.middle
    numbered = alarms.with_row_index("alarm").with_columns(fleet=pl.lit(trial.fleet), is_late=is_late)
    fits = [_fitting(numbered, theft).with_columns(theft=pl.lit(n)) for n, theft in enumerate(trial.thefts)]
    true = pl.concat([numbered.clear().with_columns(theft=pl.lit(-1)), *fits])
    false = numbered.join(true, on="alarm", how="anti").with_columns(theft=pl.lit(-1))
    return pl.concat([true, false]).drop("alarm")


def _fitting(alarms: pl.DataFrame, theft: Theft) -> pl.DataFrame:
    is_of_host = pl.col("host").is_in(theft.label.hosts)
    is_of_model = (pl.col("host") == "") & pl.col("models").list.contains(theft.label.model)
    is_then = pl.col("time").is_between(theft.began, theft.until)
    fits = alarms.filter((is_of_host | is_of_model) & is_then)
    names_place = pl.col("places").list.eval(pl.element().is_in(list(theft.places))).list.any()
    return fits.filter((pl.col("places").list.len() == 0) | names_place)


def _outcome(fleet: str, theft: Theft, alarm: dict[str, object] | None) -> Outcome:
    if alarm is None:
        return Outcome(theft, fleet, False, theft.label.bytes, None)
    time, models, places = alarm["time"], alarm["models"], alarm["places"]
    assert isinstance(time, int)
    assert isinstance(models, list)
    assert isinstance(places, list)
    return Outcome(
        theft,
        fleet,
        True,
        theft.left_by(time),
        time - theft.began,
        theft.label.model in models if models else None,
        places[0] in theft.places if places else None,
        _says_how(theft.label.kind, str(alarm["says"])),
    )


def _says_how(kind: str, says: str) -> bool | None:
    return any(word in says for word in PARTICULARS[kind]) if says and kind in PARTICULARS else None
