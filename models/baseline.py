"""What one host usually sends in an hour: a forecast on the log scale, and how far reality strays from it."""

from __future__ import annotations

from math import inf
from typing import Any

from models.guards import winsorised

HOURS_A_DAY = 24
HOURS_BEFORE_SPEAKING = 6
"""Fewer hours say nothing about what is usual."""
ALPHA, BETA, GAMMA = 0.2, 0.01, 0.3
"""Level: half of it from the last three hours. Trend: nearly none, as traffic has no growth worth extrapolating over a
day. Season: a new daily habit is half learned in two days."""
CLIP = 3.0
"""Winsorised: an hour teaches at most three times the usual spread, so a habit is learned in days, not in an hour."""
SPREAD_FLOOR = 1.0
"""One natural unit, a factor of 2.7: hours differ by that much on any host."""
SPREAD_ALPHA = 0.05
MEAN_TO_DEVIATION = 1.25
"""Standard deviation over mean absolute deviation of a normal distribution."""
HOURS_BEFORE_FREEZING = 7 * HOURS_A_DAY
"""A week has seen every weekday."""
DRIFT = 0.2
"""By so much a day the reference of each hour follows: a new nightly job of any size is expected within a month."""


class Baseline:
    """River's Holt-Winters on log1p of bytes an hour: level alone on the first day, with a daily season from then on.

    Every hour must be learned, silent ones as zero: position in the day is counted, not told. After a week
    the season is frozen as a reference, hour by hour, from which forecasts stray no further than one hour may teach.
    """

    def __init__(self) -> None:
        self.hours = 0
        self._first_day: list[float] = []
        self._model: Any = None
        self._deviation = 0.0
        self._reference: list[float] = []
        self._told: list[float] = []
        """The reference of each hour when it was last told."""

    @property
    def speaks(self) -> bool:
        return self.hours >= HOURS_BEFORE_SPEAKING

    @property
    def usual(self) -> float:
        """What the next hour should bring, never below zero; 0 before it `speaks`, where River would raise."""
        if not self.speaks:
            return 0.0
        forecast = max(0.0, float(self._model.forecast(1)[0]))
        if self.hours < HOURS_BEFORE_FREEZING:
            return forecast
        return min(forecast, self._reference[self.hours % HOURS_A_DAY] + CLIP * self.spread)

    @property
    def move(self) -> tuple[float, float]:
        """The reference of the coming hour of the day when it was last told, and now, on the log scale."""
        at = self.hours % HOURS_A_DAY
        return (self._told[at], self._reference[at]) if self._told else (0.0, 0.0)

    def as_told(self) -> Baseline:
        other = self.copy()
        other._told = [*other._reference]
        return other

    @property
    def spread(self) -> float:
        return max(SPREAD_FLOOR, MEAN_TO_DEVIATION * self._deviation)

    def strangeness(self, value: float) -> float:
        """How many spreads above the forecast; 0 below it."""
        return max(0.0, (value - self.usual) / self.spread)

    def learn(self, value: float) -> None:
        if self.speaks:
            expected, reach = self.usual, CLIP * self.spread
            value = winsorised(value, expected, reach)
            if self._reference:
                at, most = self.hours % HOURS_A_DAY, DRIFT if self.hours >= HOURS_BEFORE_FREEZING else inf
                self._reference[at] = winsorised(expected, self._reference[at], most)
            self._deviation += SPREAD_ALPHA * (abs(value - expected) - self._deviation)
        self.hours += 1
        if self.hours <= HOURS_A_DAY:
            self._first_day.append(value)
        if self._model is not None:
            self._model.learn_one(value)
        elif self.speaks:
            self._model = _level_only()
            for each in self._first_day:
                self._model.learn_one(each)
        if self.hours == HOURS_A_DAY:
            self._model = _seasonal(self._first_day)
            self._reference, self._first_day = self._first_day, []
        if self.hours == HOURS_BEFORE_FREEZING:
            self._told = [*self._reference]

    def copy(self) -> Baseline:
        return Baseline.load(self.dump())

    def dump(self) -> list[Any]:
        """JSON values that `load` makes an equal baseline of."""
        if not self.hours:
            return []
        first_values: list[float] = []
        components: list[list[float] | None] = []
        if self._model is not None:
            parts = [self._model.level, self._model.trend, self._model.season]
            components = [None if part is None else list(part) for part in parts]
            first_values = [*self._model._first_values]
        guards = [[*self._reference], [*self._told]]
        return [self.hours, [*self._first_day], self._deviation, first_values, components, *guards]

    @classmethod
    def load(cls, values: list[Any]) -> Baseline:
        baseline = cls()
        if not values:
            return baseline
        baseline.hours, baseline._first_day, baseline._deviation, first_values, components, *guards = values
        baseline._reference, baseline._told = map(list, guards)
        if not baseline.speaks:
            return baseline
        is_seasonal = baseline.hours >= HOURS_A_DAY
        baseline._model = _seasonal([0.0] * HOURS_A_DAY) if is_seasonal else _level_only()
        model = baseline._model
        model._first_values = first_values
        model._initialized = len(components[0]) > 0
        for part, kept in zip((model.level, model.trend, model.season), components, strict=True):
            if part is not None:
                part.clear()
                part.extend(kept)
        return baseline


def _level_only() -> Any:
    # Imported late: River brings SciPy along (0.7 s), and a capture of few hours never asks for a forecast.
    from river.time_series import HoltWinters

    return HoltWinters(alpha=ALPHA)  # type: ignore[no-untyped-call]  # River annotates no forecaster


def _seasonal(first_day: list[float]) -> Any:
    """Holt-Winters that starts from one day of hours.

    River 0.26.1 starts an additive season from y / level, which is right for a multiplicative one only, and a trend
    from the day's ends; so both are set here: season y - level, no trend.
    """
    from river.time_series import HoltWinters

    model: Any = HoltWinters(  # type: ignore[no-untyped-call]  # River annotates no forecaster
        alpha=ALPHA, beta=BETA, gamma=GAMMA, seasonality=HOURS_A_DAY
    )
    level = sum(first_day) / HOURS_A_DAY
    model.level.extend([level, level])
    model.trend.extend([0.0, 0.0])
    model.season.extend(value - level for value in first_day)
    model._first_values = []
    model._initialized = True
    return model
