"""A site with a model to steal, and thefts of it. Levels are 1/64, 1/32, 1/16 and 1/4 of the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from egress import configfile, ledger
from egress.contracts import Finding, Level
from egress.inventory import Inventory
from tests.egress.strategies import MODEL_BYTES, Transfer, flows_of

GPU, SECOND_GPU, RELAY, AGENT = "10.0.1.10", "10.0.2.20", "10.0.3.30", "10.0.4.40"
GPU_V6 = "fd00:1::10"
DROP, OTHER_DROP, BACKUP = "198.51.100.10", "192.0.2.77", "203.0.113.5"
QUARTER = MODEL_BYTES // 4

FLEET = f"""
lifecycle = "lifecycle.jsonl"
[fleet]
internal = ["10.0.0.0/8", "fd00::/8"]
resolvers = ["10.0.0.53"]
[[fleet.hosts]]
id = "gpu"
addresses = ["{GPU}", "{GPU_V6}"]
role = "training"
[[fleet.hosts]]
id = "gpu-2"
addresses = ["{SECOND_GPU}"]
role = "training"
[[fleet.hosts]]
id = "relay"
addresses = ["{RELAY}"]
[[fleet.hosts]]
id = "agent"
addresses = ["{AGENT}"]
role = "agent"
[[models]]
id = "m"
bytes = {MODEL_BYTES}
holders = ["gpu", "gpu-2"]
"""
APPROVAL = """
[[approvals]]
id = "backup"
hosts = ["role:training"]
to = ["203.0.113.0/24", "*.backup.example.org"]
bytes_per_day = 100_000_000
expires = 2027-01-01
owner = "platform@example.org"
ticket = "OPS-1"
"""
Judge = Callable[..., list[Finding]]
Line = dict[str, object]


def judged(
    folder: Path,
    flows: pl.DataFrame | Sequence[Transfer],
    site: str = FLEET,
    lifecycle: Sequence[Line] = (),
    receipts: Sequence[Line] = (),
) -> list[Finding]:
    """Findings of flows, or of transfers, at a site that wrote these files into the folder."""
    for name, lines in (("lifecycle", lifecycle), ("receipts", receipts)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = folder / "egress.toml"
    path.write_text(site, encoding="utf-8")
    inventory = Inventory(configfile.load(path))
    frame = flows if isinstance(flows, pl.DataFrame) else flows_of(flows)
    return ledger.evaluate(ledger.cells_of(inventory.attribute(frame)), inventory)


def worst(findings: Sequence[Finding]) -> Level | None:
    return max((finding.level for finding in findings), default=None)


def theft(**changes: object) -> Transfer:
    """The whole model from the holder to a drop outside."""
    return replace(Transfer(GPU, DROP, sent=MODEL_BYTES, seconds=40), **changes)  # type: ignore[arg-type]


def assert_critical(findings: Sequence[Finding], host: str = "gpu", size: int = MODEL_BYTES) -> None:
    """One finding about the host, for all the bytes."""
    assert [(finding.host, finding.level, finding.bytes) for finding in findings] == [(host, Level.CRITICAL, size)]
