"""Honest traffic of an AI fleet, family by family, and which approval the site gave to each.

Each family draws from a chance of its own, so that adding one, or an attack, leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from egress import machinetraffic, peopletraffic
from egress.fleetplan import Plan

APPROVED = {
    "telemetry": "telemetry",
    "logs": "logs",
    "replies": "serving",
    "api-calls": "model-api",
    "git": "git",
    "offsite": "checkpoints",
    "backups": "backups",
    "replicas": "region-2",
    "runs": "tracking",
    "people": "partner",
    "publishing": "registry",
    "recovery": "recovery",
    "retries": "checkpoints",
}
"""Which approval the site gave a family; all others leave without one."""

Family = Callable[[Plan, np.random.Generator], pl.DataFrame]

FAMILIES: dict[str, Family] = {
    "telemetry": machinetraffic.telemetry,
    "names": machinetraffic.names,
    "logs": machinetraffic.logs,
    "packages": peopletraffic.packages,
    "containers": machinetraffic.containers,
    "model-pulls": machinetraffic.model_pulls,
    "deployments": machinetraffic.deployments,
    "replies": machinetraffic.replies,
    "key-values": machinetraffic.key_values,
    "collectives": machinetraffic.collectives,
    "checkpoints": machinetraffic.checkpoints,
    "offsite": machinetraffic.offsite,
    "data-reads": machinetraffic.data_reads,
    "data-sets": machinetraffic.data_sets,
    "runs": machinetraffic.runs,
    "api-calls": peopletraffic.api_calls,
    "inside-calls": peopletraffic.inside_calls,
    "browsing": peopletraffic.browsing,
    "attachments": peopletraffic.attachments,
    "git": peopletraffic.git,
    "people": peopletraffic.people,
    "errands": peopletraffic.errands,
    "reports": peopletraffic.reports,
    "publishing": peopletraffic.publishing,
    "backups": machinetraffic.backups,
    "replicas": machinetraffic.replicas,
}


def honest(plan: Plan) -> Iterator[pl.DataFrame]:
    """The families' transfers, in a fixed order."""
    for name, family in FAMILIES.items():
        yield family(plan, plan.random(name))
