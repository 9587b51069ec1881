"""Thefts under the cover of something approved: jobs, receipts, buckets, checkpoints, replies, retirements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from egress.addresses import text_of
from egress.fleetplan import DAY_US, HOUR_US, MINUTE_US, MODELS, SECOND_US
from egress.rhythm import lasting
from egress.sitepolicy import accepted_while_retiring
from egress.theftscene import COARSE_S, FAMILY, FOUR_BIT, GB, Scene, Theft, one, sent
from egress.transfers import transfers


def piggyback(scene: Scene) -> Theft:
    """A 4-bit copy inside an approved job whose manifest lists other files; receipts come for those alone."""
    theft, listed = _migration("piggyback", scene)
    event = {
        "time": theft.left["start"][0] - 600 * SECOND_US,
        "event": "manifest",
        "job": f"migrate-{theft.left['peer'][0]}",
        "host": theft.host,
        "to": [text_of(scene.plan.endpoints[theft.left["peer"][0]].address)],
        "files": [{"path": f"part-{number:03}.tar", "bytes": size} for number, size in enumerate(listed)],
    }
    return replace(theft, events=(event,), receipts=_receipts(theft, listed, scene))


def piggyback_receipted(scene: Scene) -> Theft:
    """The same without a manifest, and the receipts list the smuggled file too: only caps can object."""
    theft, listed = _migration("piggyback-receipted", scene)
    return replace(theft, receipts=_receipts(theft, [*listed, theft.stolen or 0], scene))


def _migration(kind: str, scene: Scene) -> tuple[Theft, list[int]]:
    host = scene.victim("training", "storage")
    model = scene.model(host)
    stolen = int(MODELS[model] * FOUR_BIT)
    listed = [4 * GB] * 12
    place = int(scene.plan.places["recovery"][-1 - scene.jobs % 40])
    scene.jobs += 1
    frame = sent(host, scene.when(0.45, 0.7), int((sum(listed) + stolen) * 1.012), place, 2.5e8)
    return Theft(kind, scene.id(host), model, frame, frame, stolen=stolen), listed


def _receipts(theft: Theft, sizes: Sequence[int], scene: Scene) -> tuple[Mapping[str, object], ...]:
    end = int((theft.left["start"] + theft.left["length"]).to_numpy().max())
    return tuple(
        {
            "time": end + (n + 5) * SECOND_US,
            "approval": "recovery",
            "host": theft.host,
            "object": f"{theft.kind}/{n}",
            "bytes": size,
        }
        for n, size in enumerate(sizes)
    )


def own_bucket(scene: Scene) -> Theft:
    """Into a bucket of the thief's own at the approved cloud: no receipt will come."""
    host = scene.victim("training")
    model = scene.model(host)
    frame = sent(host, scene.when(0.45, 0.7), int(MODELS[model] * FOUR_BIT), int(scene.plan.places["bucket"][0]), 2.5e8)
    return one("own-bucket", scene, host, model, frame)


def mimic_checkpoint(scene: Scene) -> Theft:
    """Looks like the usual upload of a checkpoint in everything but the receipt."""
    host = scene.victim("training")
    model = scene.model(host)
    amount = 40 * GB if MODELS[model] * FOUR_BIT > 40 * GB else int(MODELS[model] * FOUR_BIT)
    size = np.full(8, amount // 8, dtype=np.int64)
    peer = scene.rng.choice(scene.plan.places["cloud"], 8)
    start = scene.when(0.45, 0.7)
    frame = transfers(
        FAMILY,
        host=host,
        start=start + np.arange(8),
        length=lasting(size * 8, 2.5e8),
        peer=peer,
        sent=size,
        received=size // 375,
        part_s=COARSE_S,
    )
    return one("mimic-checkpoint", scene, host, model, frame)


def serving(scene: Scene) -> Theft:
    """A 4-bit copy in replies on the served port, to many clients, within the caps of peers and days."""
    host = scene.victim("inference")
    model = scene.model(host)
    caps = scene.policy
    clients = scene.rng.choice(scene.plan.places["clients"], 40, replace=False)
    daily = min(caps.peer_caps["serving"] // 3, caps.caps["serving"] // 3 // clients.size)
    days = min(scene.plan.days - 2, 1 + int(MODELS[model] * FOUR_BIT) // (daily * clients.size))
    midnight = scene.plan.start + DAY_US + np.repeat(np.arange(max(1, days)) * DAY_US, clients.size)
    size = np.full(midnight.size, daily, dtype=np.int64)
    frame = transfers(
        FAMILY,
        host=host,
        start=midnight + scene.rng.integers(0, 22 * HOUR_US, size.size),
        length=lasting(size, 1e6),
        peer=np.tile(clients, max(1, days)),
        sent=size,
        received=size // 8,
        opens=False,
        part_s=COARSE_S,
    )
    return one("serving", scene, host, model, frame)


def inside_copy(scene: Scene) -> Theft:
    """A model that is told to retire is copied to a host that was never meant to hold it: nothing leaves the site."""
    host, to = scene.victim("inference"), scene.victim("dev")
    strange = [each for each in scene.plan.machines[host].models if each not in scene.plan.machines[to].models]
    model = str(scene.rng.choice(strange or scene.plan.machines[host].models))
    start = scene.when(0.5, 0.7)
    frame = sent(host, start, MODELS[model], to, 2e8, port=8443, part_s=COARSE_S)
    return replace(one("inside-copy", scene, host, model, frame), via=(scene.id(to),), events=_retirement(model, start))


def last_minute(scene: Scene) -> Theft:
    """Between the request to retire a model and its execution, a 4-bit copy leaves."""
    host = scene.victim("inference", "training")
    model = scene.model(host)
    start = scene.when(0.5, 0.7)
    frame = sent(host, start, int(MODELS[model] * FOUR_BIT), scene.taker(), 3e7, part_s=COARSE_S)
    return replace(one("last-minute", scene, host, model, frame), events=_retirement(model, start))


def _retirement(model: str, theft: int) -> tuple[Mapping[str, object], ...]:
    """Asked for three hours before the theft, over nine hours later."""
    steps = {"retire_requested": -3, "retire_approved": -1, "retire_executed": 6, "retire_verified": 9}
    theft = theft // MINUTE_US * MINUTE_US
    asked, over = (theft + steps[step] * HOUR_US for step in ("retire_requested", "retire_verified"))
    return (
        *(
            {"time": theft + after * HOUR_US, "event": step, "model": model, "by": "alice", "ticket": "OPS-401"}
            for step, after in steps.items()
        ),
        accepted_while_retiring(model, asked, over),
    )
