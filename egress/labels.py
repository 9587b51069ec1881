"""Ground truth of a labelled fleet: which thefts there were, and how much of each had left at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from egress.addresses import bytes_of
from egress.cells import DAY_US
from egress.destinations import peer_text
from egress.errors import InputError
from egress.inventory import Inventory
from egress.levels import Longs
from egress.words import EPOCH

THEFT = "theft"
"""What a labelled fleet's sensors wrote into `process` where a theft sent; no detector is shown that column."""
UNSEEN = "unseen"
"""Stands for a place where no sensor saw the bytes leave, in thefts and in alarms that say so."""
GRACE_US = 2 * DAY_US
"""So long after the last byte a finding still speaks of the theft: receipts are due within a day, and come late."""
EDGE_US = 600_000_000
"""Clocks of hosts may be ahead of the label's by a few minutes, and parts of flows reach over its ends."""


@dataclass(frozen=True, slots=True)
class Label:
    """One theft. Times are UTC microseconds."""

    id: str
    kind: str
    host: str
    role: str
    hosts: tuple[str, ...]
    """All hosts that took part, the first one first."""
    model: str
    model_bytes: int
    destinations: tuple[str, ...]
    start: int
    end: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Incident:
    """Honest days that look like a theft."""

    kind: str
    hosts: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Theft:
    """A label, with what the flows say about when its bytes left."""

    label: Label
    began: int
    """First packet of it anywhere, the way inside included."""
    starts: Longs
    """Of the parts that left, in order of their ends."""
    ends: Longs
    amounts: Longs
    """Bytes of each, scaled so that together they are the label's."""
    places: frozenset[str]
    """/24 or /48 of everything it went to or through, and the watched hosts that it passed."""
    tolerated_a_day: int = 0
    """Unapproved bytes that the site accepts of its first host."""

    @property
    def until(self) -> int:
        """When findings stop to be about it."""
        last = int(self.ends[-1]) if self.ends.size else 0
        return max(self.label.end, last) + GRACE_US

    def left_by(self, time: int) -> int:
        """Bytes that had left; those of a part that was under way count in proportion."""
        share = (time - self.starts + 1) / (self.ends - self.starts + 1)
        return int((self.amounts * share.clip(0, 1)).sum())

    def heard_at(self, time: int) -> int:
        """When a meter would have reported all that had left by `time`: at the end of the parts under way."""
        is_under_way = (self.starts <= time) & (time <= self.ends)
        return int(self.ends[is_under_way].max()) if is_under_way.any() else time


def read(path: Path) -> list[Label]:
    """Labels, one JSON object a line. Raises InputError where one is none."""
    if not path.is_file():
        raise InputError(f"{path}: not there; name a folder that `egress simulate` wrote")
    return [_label(line, f"{path}, line {number}") for number, line in enumerate(_lines(path), start=1)]


def read_incidents(path: Path) -> list[Incident]:
    """Incidents, one JSON object a line; none where nobody wrote any."""
    if not path.is_file():
        return []
    return [_incident(line, f"{path}, line {number}") for number, line in enumerate(_lines(path), start=1)]


def thefts(labels: Sequence[Label], flows: pl.DataFrame, inventory: Inventory) -> list[Theft]:
    """Each label with its transfers. `flows` are columns of FLOWS, as they were recorded."""
    stolen = inventory.attribute(flows.filter(pl.col("process") == THEFT))
    addresses = {host.id: host.addresses for host in inventory.config.fleet.hosts}
    found = [_theft(label, stolen, addresses) for label in labels]
    return [replace(theft, tolerated_a_day=inventory.tolerance_of(theft.label.host)) for theft in found]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _label(line: str, where: str) -> Label:
    try:
        known: dict[str, Any] = json.loads(line)
        return Label(
            id=known["id"],
            kind=known["kind"],
            host=known["host"],
            role=known.get("role", ""),
            hosts=tuple(known.get("hosts") or [known["host"]]),
            model=known["model"],
            model_bytes=int(known["model_bytes"]),
            destinations=tuple(known.get("destinations") or [known["destination"]]),
            start=_us(known["start"]),
            end=_us(known["end"]),
            bytes=int(known["bytes"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: {error!r} in a label; write id, kind, host, model, start, end, bytes") from error


def _incident(line: str, where: str) -> Incident:
    try:
        known: dict[str, Any] = json.loads(line)
        return Incident(known["kind"], tuple(known["hosts"]), _us(known["start"]), _us(known["end"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: {error!r} in an incident; write kind, hosts, start, end") from error


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def _theft(label: Label, stolen: pl.DataFrame, addresses: Mapping[str, Sequence[bytes]]) -> Theft:
    is_src = pl.col("side") == "src"
    rows = stolen.filter(pl.col("host").is_in(label.hosts)).select(
        pl.col("start", "end").cast(pl.Int64),
        remote=pl.when(is_src).then("dst_ip").otherwise("src_ip"),
        outer=pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip"),
        # Bytes, not payload: a sampling gateway counts none. What headers add goes out with the label's sum.
        sent=pl.when(is_src).then("src_bytes").otherwise("dst_bytes").cast(pl.Int64),
    )
    away = [bytes_of(address) for address in label.destinations]
    to_them = pl.col("remote").is_in(away) | pl.col("outer").is_in(away)
    is_then = (pl.col("end") >= label.start - EDGE_US) & (pl.col("start") <= label.end + EDGE_US)
    left = rows.filter(to_them & is_then).sort("end", "start")
    passed = {address for host in label.hosts[1:] for address in addresses.get(host, ())}
    inside = rows.filter(pl.col("remote").is_in(passed) & pl.col("start").is_between(label.start - DAY_US, label.end))
    places = {*map(peer_text, [*away, *inside["remote"]]), *label.hosts[1:]}
    if left.is_empty():
        places.add(UNSEEN)
        # Nobody saw it: while its sensor was silent it left evenly, for all that is known.
        left = pl.DataFrame({"start": [label.start], "end": [label.end], "sent": [label.bytes]})
    return Theft(
        label,
        min([label.start, *inside["start"]]),
        left["start"].to_numpy(),
        left["end"].to_numpy(),
        np.asarray(left["sent"].to_numpy() * (label.bytes / max(1, int(left["sent"].sum())))).astype(np.int64),
        frozenset(places),
    )
