"""What a store holds at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from egress import cells, ocsf
from egress.contracts import Finding
from egress.findings import in_order
from egress.heartbeats import HEARTBEATS
from egress.schema import conform
from egress.store import open_store

ID = "host, flow_id, part, side"
SHED = "SELECT host, sum(shed_rows) AS shed FROM heartbeats WHERE shed_rows > 0 GROUP BY host"


@dataclass(frozen=True)
class Kept:
    """What a store holds."""

    ids: list[tuple[object, ...]]
    """Of flows, each as often as it is there."""
    written: int
    """Rows of flows before ClickHouse merged what came twice."""
    cells: pl.DataFrame
    found: list[Finding]
    shed: Counter[str]
    """Rows that collectors say they gave up, by host."""

    @property
    def findings(self) -> list[str]:
        return lines_of(self.found)


def lines_of(found: list[Finding]) -> list[str]:
    return [ocsf.line(ocsf.event(finding)) for finding in found]


def kept_in(folder: Path) -> Kept:
    with open_store(str(folder)) as store:
        return Kept(
            store.query(f"SELECT {ID} FROM flows ORDER BY {ID}").rows(),
            int(store.query("SELECT count() AS n FROM flows_parts")["n"][0]),
            store.cells().sort(cells.KEY),
            in_order(store.findings(limit=100_000)),
            Counter(dict(store.query(SHED).rows())),
        )


def as_files(kept: Path, folder: Path) -> tuple[Path, Path]:
    """Flows and heartbeats of a store, as files that can be replayed."""
    flows, beats = folder / "flows.parquet", folder / "heartbeats.parquet"
    with open_store(str(kept)) as store:
        store.flows().write_parquet(flows)
        conform(store.query(f"SELECT {', '.join(HEARTBEATS.names)} FROM heartbeats"), HEARTBEATS).write_parquet(beats)
    return flows, beats
