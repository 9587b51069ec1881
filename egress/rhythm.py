"""When things happen: by chance with the hour and the weekday, or regularly."""

from __future__ import annotations

import numpy as np

from egress.fleetplan import DAY_US, HOUR_US, SECOND_US, Longs, Plan

STEADY = (1.0,) * 24
OFFICE = (0.05,) * 7 + (0.3, 0.8, 1.0, 1.0, 0.9, 0.7, 0.9, 1.0, 1.0, 0.9, 0.6, 0.3, 0.15, 0.1, 0.1, 0.05, 0.05)
"""People of one time zone."""
USERS = (0.5, 0.4, 0.35, 0.3, 0.3, 0.35, 0.5, 0.7, 0.9, *(1.0,) * 8, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
"""Customers of most time zones: nights are quieter, never quiet."""
WEEKEND: dict[tuple[float, ...], float] = {STEADY: 1.0, USERS: 0.7, OFFICE: 0.15}


def by_chance(
    plan: Plan, rng: np.random.Generator, hosts: Longs, a_day: float, hours: tuple[float, ...] = STEADY
) -> tuple[Longs, Longs]:
    """(host, start) of independent events, `a_day` on average over a week, in no particular order."""
    days = np.arange(plan.days)
    is_weekend = ((plan.start // DAY_US + days + 3) % 7) >= 5  # 1970-01-01 was a Thursday
    weight = np.where(is_weekend, WEEKEND[hours], 1.0) * 7 / (5 + 2 * WEEKEND[hours])
    counts = rng.poisson(a_day * np.broadcast_to(weight, (hosts.size, plan.days)))
    host = np.repeat(np.repeat(hosts, plan.days), counts.ravel())
    day = np.repeat(np.tile(days, hosts.size), counts.ravel())
    hour = rng.choice(24, host.size, p=np.array(hours) / sum(hours))
    within = rng.integers(0, HOUR_US, host.size)
    return host, plan.start + day * DAY_US + hour * HOUR_US + within


def regularly(plan: Plan, rng: np.random.Generator, hosts: Longs, every_us: int) -> tuple[Longs, Longs]:
    """(host, start) once an interval, each host at an offset of its own."""
    slots = np.arange(plan.days * DAY_US // every_us) * every_us
    offset = rng.integers(0, every_us, hosts.size)
    start = plan.start + (offset[:, None] + slots[None, :])
    host = np.broadcast_to(hosts[:, None], start.shape)
    return host.ravel().astype(np.int64), start.ravel().astype(np.int64)


def around(rng: np.random.Generator, median: float, spread: float, count: int) -> Longs:
    """Log-normal sizes: half of them are within a factor of exp(.67 spread) of the median."""
    return np.maximum(1, rng.lognormal(np.log(median), spread, count)).astype(np.int64)


def lasting(amount: Longs, rate: float) -> Longs:
    """Microseconds that so many bytes take at `rate` bytes a second."""
    return np.maximum(1000, amount / rate * SECOND_US).astype(np.int64)
