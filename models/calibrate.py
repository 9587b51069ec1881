"""What a score is worth: how often one as high comes without a known cause, per host and day.

Peaks over threshold with a generalised Pareto tail, as SPOT has it (A. Siffer, P.-A. Fouque, A. Termier, C. Largouët,
Anomaly detection in streams with extreme value theory, KDD 2017), on the maxima of episodes, pooled by detector and by
role of the host. The tail is fitted by probability-weighted moments (J. R. M. Hosking and J. R. Wallis, Parameter and
quantile estimation for the generalized Pareto distribution, Technometrics 29, 1987): in closed form, and better than
maximum likelihood for the few peaks that there are. Cannot see: whether a peak had a cause that nobody knew.

State of a pool: 90 days, and the maxima of 4,096 episodes; 300 kB at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, log
from typing import Any

from egress.contracts import Peak, Rate
from models.state import pack, unpack

NAME, VERSION = "calibrate", "1"
KEPT_DAYS = 90
"""A quarter: what a role does changes within one."""
LEAST_PEAKS = 16
"""Of a tail: Hosking and Wallis tried their moments from 15 on. With fewer the rank speaks."""
TAIL_SHARE = 8
"""The highest eighth of all episodes is the tail, as soon as that is `LEAST_PEAKS`; until then the highest 16."""
BEYOND = 10
"""A tail says nothing about what is rarer than once in ten times the host-days that it rests on."""
LEAST_HOST_DAYS = 600
"""A role speaks for itself from then on, before that all roles together do: at the default budget, shared by six
detectors, one false alarm of a detector is due in 600 host-days."""
REACH = log(2.0)
"""Winsorised: an episode teaches at most twice the odds of the highest known, so a day moves a tail by little."""
MOST_OF_HOST = 4
"""Episodes that one host teaches a day, the highest: one that scans a thousand networks is not what others are like."""
MAX_PEAKS = 4_096
"""Episodes remembered of a pool; beyond, the oldest are forgotten."""
MAX_POOLS = 1_024
"""Roles and detectors; further ones are judged by all roles together."""
LEAST_CHANCE = 1e-9
ALL_ROLES = ""
"""The pool of a detector over hosts of every role."""

Key = tuple[str, str]
"""Detector and role."""
Height = float
"""A score as the logarithm of its odds: unbounded, as scores are x / (x + 1) of something that is."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What episodes of one detector, on hosts of one role, have come to."""

    days: Mapping[int, int] = field(default_factory=dict)
    """Host-days watched, by UTC day."""
    peaks: Mapping[str, tuple[int, Height]] = field(default_factory=dict)
    """By episode: the last day that it was seen on, and its maximum."""

    @property
    def host_days(self) -> int:
        return sum(self.days.values())

    def with_day(self, day: int, host_days: int, heights: Mapping[str, Height]) -> Pool:
        """The same a day later; what is older than `KEPT_DAYS` is forgotten."""
        days = {known: count for known, count in self.days.items() if known > day - KEPT_DAYS}
        peaks = {name: peak for name, peak in self.peaks.items() if peak[0] > day - KEPT_DAYS}
        highest = max((height for _, height in peaks.values()), default=inf)
        most = highest + REACH if len(peaks) >= LEAST_PEAKS else inf
        for name, height in heights.items():
            peaks[name] = day, max(min(height, most), peaks[name][1] if name in peaks else -inf)
        if len(peaks) > MAX_PEAKS:
            latest = sorted(peaks, key=lambda name: (peaks[name][0], name))[-MAX_PEAKS:]
            peaks = {name: peaks[name] for name in latest}
        return Pool(days | {day: days.get(day, 0) + host_days}, peaks)

    def rate(self, episode: str, height: Height) -> tuple[float, str]:
        """How often an episode of others comes that high, per host-day, and what that rests on."""
        others = sorted((each for name, (_, each) in self.peaks.items() if name != episode), reverse=True)
        days = self.host_days
        tail = others[: max(LEAST_PEAKS, len(others) // TAIL_SHARE)]
        if len(tail) < LEAST_PEAKS or height <= tail[-1]:
            above = sum(each >= height for each in others)
            few = f"too few of {len(others)} episodes for a tail" if len(tail) < LEAST_PEAKS else "by rank"
            return min(1.0, (above + 1) / (days + 1)), f"{few}: {above} as high in {days:,} host-days"
        chance = len(tail) / days * exceedance(height - tail[-1], [each - tail[-1] for each in tail[:-1]])
        return max(chance, 1 / (BEYOND * (days + 1))), f"by the tail of {len(tail)} in {days:,} host-days"


class Calibration:
    """A pool for each detector and role, and one for each detector over all roles. Days come in order of time."""

    def __init__(self) -> None:
        self._pools: dict[Key, Pool] = {}

    def rate(self, peak: Peak) -> Rate:
        """How rare a score is, by all days learned. Changes nothing."""
        own = self._pools.get((peak.detector, peak.role))
        speaks = own is not None and own.host_days >= LEAST_HOST_DAYS
        pool = own if own is not None and speaks else self._pools.get((peak.detector, ALL_ROLES), Pool())
        rate, basis = pool.rate(peak.episode, height_of(peak.score))
        return Rate(rate, f"{basis} of {f'role {peak.role}' if speaks and peak.role else 'all roles'}")

    def learn(self, day: int, host_days: Mapping[str, int], detectors: Iterable[str], peaks: Iterable[Peak]) -> None:
        """One whole UTC day (days since 1970): how many hosts of each role were watched, and episodes without a cause.

        An episode may come again on later days; its maximum counts, once.
        """
        heights: dict[Key, dict[str, Height]] = {}
        for peak in _few_of_each_host(peaks):
            for role in {peak.role, ALL_ROLES}:
                heights.setdefault((peak.detector, role), {})[peak.episode] = height_of(peak.score)
        watched = {**host_days, ALL_ROLES: sum(host_days.values())}
        for key in sorted({(detector, role) for detector in detectors for role in watched}):
            if key in self._pools or len(self._pools) < MAX_POOLS:
                pool = self._pools.get(key, Pool())
                self._pools[key] = pool.with_day(day, watched[key[1]], heights.get(key, {}))

    def snapshot(self) -> bytes:
        pools = [
            [*key, sorted(pool.days.items()), sorted((name, *peak) for name, peak in pool.peaks.items())]
            for key, pool in sorted(self._pools.items())
        ]
        return pack(NAME, VERSION, pools)

    def restore(self, state: bytes) -> None:
        """Raises UsageError for any other state than `snapshot` gives."""
        pools: list[list[Any]] = unpack(NAME, VERSION, state)
        self._pools = {
            (detector, role): Pool(dict(map(tuple, days)), {name: (day, height) for name, day, height in peaks})
            for detector, role, days, peaks in pools
        }


def height_of(score: float) -> Height:
    chance = min(max(score, LEAST_CHANCE), 1 - LEAST_CHANCE)
    return log(chance / (1 - chance))


def exceedance(excess: float, excesses: Sequence[float]) -> float:
    """Chance that an excess over a threshold is larger than `excess`, by a generalised Pareto fit to `excesses`.

    Its shape is taken from 0 to 1/2: with a negative one scores beyond some end would be impossible, which no sample
    can show, and above 1/2 the moments say nothing.
    """
    ordered = sorted(excesses)
    count = len(ordered)
    mean = sum(ordered) / count
    if mean <= 0:
        return 0.0 if excess > 0 else 1.0
    weighted = sum(value * (count - 1 - place) for place, value in enumerate(ordered)) / (count * (count - 1))
    # Hosking and Wallis write k = -shape; a_0 = mean, a_1 = E[x (1 - F(x))].
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape, 0.0), 0.5)
    scale = mean * (1 - shape)
    if shape < 1e-6:
        return exp(-excess / scale)
    return float((1 + shape * excess / scale) ** (-1 / shape))


def _few_of_each_host(peaks: Iterable[Peak]) -> list[Peak]:
    """Of each host and detector the highest `MOST_OF_HOST` episodes."""
    highest: dict[tuple[str, str], dict[str, Peak]] = {}
    for peak in peaks:
        own = highest.setdefault((peak.detector, peak.host), {})
        if peak.episode not in own or peak.score > own[peak.episode].score:
            own[peak.episode] = peak
    return [
        peak
        for _, own in sorted(highest.items())
        for peak in sorted(own.values(), key=lambda each: (-each.score, each.episode))[:MOST_OF_HOST]
    ]
