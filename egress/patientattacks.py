"""Thefts that take their time, or wait until nobody looks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from egress.fleetplan import DAY_US, HOUR_US, MODELS, SECOND_US
from egress.rhythm import lasting
from egress.sensors import Outage
from egress.theftscene import COARSE_S, FAMILY, FOUR_BIT, GB, Scene, Theft, dripped, one, sent
from egress.transfers import transfers

DRIP_BYTES = 40 * GB


def drip_weeks(scene: Scene) -> Theft:
    """40 GB, or all of a smaller model, over four weeks, around the clock."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    start, span = scene.plan.start + DAY_US, int(min(28, scene.plan.days - 1.5) * DAY_US)
    return one("drip-weeks", scene, host, model, dripped(scene, host, min(DRIP_BYTES, MODELS[model]), start, span))


def drip_days(scene: Scene) -> Theft:
    """A 4-bit copy within three days."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    span = int(min(3, scene.plan.days / 2) * DAY_US)
    frame = dripped(scene, host, int(MODELS[model] * FOUR_BIT), scene.when(0.2, 0.45), span)
    return one("drip-days", scene, host, model, frame)


def tolerated(scene: Scene) -> Theft:
    """Every day a third of what the role may send unapproved, for as long as it takes or the time lasts."""
    host = scene.victim("agent", "dev")
    model = scene.model(host)
    daily = scene.policy.tolerated[scene.plan.machines[host].role] // 3
    span = (scene.plan.days - 1) * DAY_US - HOUR_US
    amount = min(int(MODELS[model] * FOUR_BIT), daily * scene.plan.days)
    return one("tolerated", scene, host, model, dripped(scene, host, amount, scene.plan.start + DAY_US // 2, span))


def peaks(scene: Scene) -> Theft:
    """A 4-bit copy in five working days' busiest hours, beside everybody's traffic."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    days = max(1, min(5, scene.plan.days // 2))
    hours = np.tile(np.arange(9, 17), days)
    midnight = scene.when(0.3, 0.45) // DAY_US * DAY_US
    start = midnight + np.repeat(np.arange(days) * DAY_US, 8) + hours * HOUR_US
    start = start + scene.rng.integers(0, HOUR_US // 2, start.size)
    size = np.full(start.size, int(MODELS[model] * FOUR_BIT) // start.size, dtype=np.int64)
    frame = transfers(
        FAMILY,
        host=host,
        start=start,
        length=lasting(size, 5e6),
        peer=scene.taker(),
        sent=size,
        received=size // 900,
        part_s=COARSE_S,
    )
    return one("peaks", scene, host, model, frame)


def ramp(scene: Scene) -> Theft:
    """Each day a fifth more than the day before, so that every baseline gets used to it; 4-bit copy in the end."""
    host = scene.victim("inference", "training", "agent")
    model = scene.model(host)
    days = max(2, int(scene.plan.days * 0.75))
    weight = np.repeat(1.2 ** np.arange(days), 12)
    size = (MODELS[model] * FOUR_BIT * weight / weight.sum()).astype(np.int64)
    start = scene.plan.start + DAY_US // 2 + np.arange(size.size) * 2 * HOUR_US
    start = start + scene.rng.integers(0, HOUR_US // 2, start.size)
    frame = transfers(
        FAMILY,
        host=host,
        start=start,
        length=lasting(size, 5e6),
        peer=scene.taker(),
        sent=size,
        received=size // 900,
        part_s=COARSE_S,
    )
    return one("ramp", scene, host, model, frame)


def gap(scene: Scene) -> Theft:
    """The sensor is stopped, a 4-bit copy leaves, the sensor starts again: only the card's counter knows."""
    watched = np.setdiff1d(scene.plan.of_role("inference", "training"), np.array(scene.sampled, dtype=np.int64))
    host = scene.victim(among=watched)
    model = scene.model(host)
    start = scene.when()
    theft = one("gap", scene, host, model, sent(host, start, int(MODELS[model] * FOUR_BIT), scene.taker(), 1e8))
    end = int((theft.left["start"] + theft.left["length"]).to_numpy().max())
    return replace(theft, outages=(Outage(host, start - 90 * SECOND_US, end + 90 * SECOND_US),))
