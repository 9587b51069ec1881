"""Bursts and fan-out on the graph of hosts and destinations, in constant memory.

MIDAS-R (S. Bhatia et al., MIDAS: Microcluster-based detector of anomalies in edge streams, AAAI 2020) over edges
weighted by bytes: what an edge, its host and its destination carry of late, against their mean, as a chi-squared
statistic; what is strange teaches only the mean (MIDAS-F, Bhatia et al., TKDD 2022). MIDAS counts edges, but bytes come
in lumps: so a unit is what is bulk for the host, and a burst also has to be twice the largest one learned there.
Cannot find: a theft no larger than a job that has run over the same edge; anything in a host's first week.

State: a sketch of 590 kB for all hosts together, and two numbers a host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from egress.config import DAY_US
from egress.windows import WINDOW_S, WINDOW_US
from egress.words import at, size
from models.byhost import MAX_HOSTS, forget
from models.outside import Exchange, Row, Traffic, Window, bulk, located
from models.reading import Once, Reader, scores
from models.sketch import Known, Longs, Sketch, cells_of
from models.state import pack, unpack
from models.typical import DAYS_BEFORE_SPEAKING

VERSION = "1"
TICKS_A_DAY = DAY_US // WINDOW_US
TICKS_BEFORE_SPEAKING = DAYS_BEFORE_SPEAKING * TICKS_A_DAY
"""A week: before, every job is a burst."""
STRANGE = 4_000.0
"""Chi-squared in units of bulk: where nothing was ever carried, 8 times bulk within one window is strange after a week,
twice bulk after a month."""
OVER_PEAK = 2
"""Jobs that come back vary less than twofold in what they carry at their height."""
PEAK_GROWTH = 4
"""A strange tick lifts the peak by a quarter, so a new nightly job is told for one night."""
INSIDE_UNITS = 16
"""Inside, a unit is sixteen times bulk, a quarter of a model: what makes a new holder."""
INSIDE_WEIGHT = 0.8
"""What stays inside is a hint, however large."""
FAN_STRANGE = 100.0
"""Ten standard deviations, if networks came by chance (Poisson)."""
FAN_LEAST = 8
FAN_BYTES = 1_000_000
"""Networks that get at least a megabyte each within one window; fewer than eight are no fan."""
LEAST_BYTES = 16_000
"""Edges that carry less in a window are no part of the graph: acknowledgements, requests, beats."""
BELIEVED = 1 << 52
"""4 PB: of what claims more within one window, a thousand keys that share a cell would exceed 64 bits."""
FORGET_TICKS = 30 * TICKS_A_DAY

Age = tuple[int, int]
"""Since when something is known, and until when, in windows since 1970."""


class Counted(NamedTuple):
    """What got an amount in this window: an edge, all edges of a host, all edges to a group, or networks at once."""

    key: str
    amount: int
    """Bytes; networks, in units of 1."""
    unit: int
    ticks: int
    """Windows since it could first have been seen, this one included."""
    threshold: float = STRANGE
    least: int = 0
    """Less of it is no burst."""
    is_tied: bool = False
    """Belongs to a finding, and teaches nothing but that it was."""


@dataclass(frozen=True, slots=True)
class Strange:
    """By how much something exceeds its threshold, and what it was compared with."""

    times: float
    amount: int
    mean: int
    """A window."""
    ticks: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One window: what to learn of it, and what to tell."""

    fleet: Age
    hosts: dict[str, Age]
    ticks: int
    """Since the window before."""
    cells: Longs
    amounts: Longs
    learned: Known
    rows: list[Row]


class Edges:
    """One sketch for all hosts. A frame holds one window, windows come in order of time."""

    name = "edges"

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._fleet: Age = (0, 0)
        self._hosts: dict[str, Age] = {}
        self._sketch = Sketch()
        self._judged = Once(self._judge)

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row for each edge with a burst, else one for a burst of the host as a whole; and one for a fan-out."""
        rows = self._judged(signals).rows if signals.height else []
        return scores(rows)

    def learn(self, signals: pl.DataFrame) -> None:
        if signals.is_empty():
            return
        judged = self._judged(signals)
        self._sketch.learn(judged.cells, judged.ticks, judged.amounts, judged.learned)
        self._fleet = judged.fleet
        self._hosts |= judged.hosts
        self._judged.forget()
        forget(self._hosts, MAX_HOSTS, lambda age: age[1])

    def snapshot(self) -> bytes:
        return pack(self.name, VERSION, {"fleet": self._fleet, "hosts": self._hosts, "sketch": self._sketch.dump()})

    def restore(self, state: bytes) -> None:
        body: dict[str, Any] = unpack(self.name, VERSION, state)
        self._fleet = _age(*body["fleet"])
        self._hosts = {host: _age(*age) for host, age in body["hosts"].items()}
        self._sketch.load(body["sketch"])
        self._judged.forget()

    def _judge(self, signals: pl.DataFrame) -> Judged:
        window = self._reader.everywhere(signals)
        tick = window.start // WINDOW_US
        fleet = _seen(self._fleet, tick)
        hosts = {each.host: _seen(self._hosts.get(each.host), tick) for each in window.hosts}
        counted = list(_counted(window, tick, fleet, hosts))
        ticks = max(0, tick - self._fleet[1])
        cells = cells_of([each.key for each in counted])
        amounts = np.array([min(each.amount, BELIEVED) for each in counted], dtype=np.int64)
        strange, learned = _weighed(counted, amounts, self._sketch.known(cells, ticks))
        return Judged(fleet, hosts, ticks, cells, amounts, learned, list(_rows(window, strange)))


def _age(since: int, last: int) -> Age:
    return since, last


def _seen(known: Age | None, tick: int) -> Age:
    """Whoever was silent for long is met anew, so that a broken clock makes nobody old."""
    if known is None or tick - known[1] > FORGET_TICKS:
        return tick, tick
    return known[0], max(known[1], tick)


def _counted(window: Window, tick: int, fleet: Age, hosts: Mapping[str, Age]) -> Iterator[Counted]:
    """Every key of the window once: edges and hosts, then groups."""
    into: dict[str, int] = {}
    tied: set[str] = set()
    for traffic in window.hosts:
        host, unit = traffic.host, bulk(traffic.model_bytes)
        age = tick - hosts[host][0] + 1
        carried = [each for each in traffic.exchanges if each.sent >= LEAST_BYTES]
        for each in carried:
            edge_unit = unit if each.is_outside else INSIDE_UNITS * unit
            yield Counted(_edge(host, each.group), each.sent, edge_unit, age, least=edge_unit, is_tied=traffic.is_tied)
        left = [each for each in carried if each.is_outside]
        if left:
            yield Counted(_host(host), sum(each.sent for each in left), unit, age, least=unit, is_tied=traffic.is_tied)
            at_once = sum(each.sent >= FAN_BYTES for each in left)
            yield Counted(_fan(host), at_once, 1, age, FAN_STRANGE, FAN_LEAST, traffic.is_tied)
        for each in left:
            into[each.group] = into.get(each.group, 0) + each.sent
        tied |= {each.group for each in left if traffic.is_tied}
    unit = bulk(min((each.model_bytes for each in window.hosts if each.model_bytes), default=0))
    for group, sent in sorted(into.items()):
        yield Counted(_group(group), sent, unit, tick - fleet[0] + 1, least=unit, is_tied=group in tied)


def _edge(host: str, group: str) -> str:
    return f"edge {host} {group}"


def _host(host: str) -> str:
    return f"host {host}"


def _fan(host: str) -> str:
    return f"fan {host}"


def _group(group: str) -> str:
    return f"group {group}"


def _weighed(counted: list[Counted], amounts: Longs, known: Known) -> tuple[dict[str, Strange], Known]:
    """What is strange, by key, and what to learn of all."""
    units = np.array([each.unit for each in counted], dtype=np.int64)
    ticks = np.array([each.ticks for each in counted], dtype=np.int64)
    least = np.array([each.least for each in counted], dtype=np.int64)
    ever = known.ever + amounts
    # MIDAS-R compares the decayed sum, which is twice the mean where nothing changes; half of it compares like to like.
    late = (known.late + amounts) // 2
    mean = np.maximum(ever // ticks, 1)  # for networks: at least one is granted to any host
    chi = np.maximum(late - mean, 0).astype(np.float64) ** 2 / mean / units * ticks / np.maximum(ticks - 1, 1)
    times = chi / np.array([each.threshold for each in counted])
    is_new = (ticks > TICKS_BEFORE_SPEAKING) & (amounts >= least) & (late >= OVER_PEAK * known.peak)
    is_strange = is_new & (times >= 1.0)
    lifted = np.minimum(late, known.peak + np.maximum(units, known.peak // PEAK_GROWTH))
    is_tied = np.array([each.is_tied for each in counted], dtype=np.bool_)
    peak = np.where(is_tied, known.peak, np.where(is_strange, lifted, late))
    learned = Known(amounts, np.where(is_strange | is_tied, np.minimum(mean, amounts), amounts), peak)
    strange = {
        counted[at].key: Strange(float(times[at]), counted[at].amount, int(mean[at]), counted[at].ticks)
        for at in np.flatnonzero(is_strange)
    }
    return strange, learned


def _rows(window: Window, strange: Mapping[str, Strange]) -> Iterator[Row]:
    if not strange:
        return
    for traffic in window.hosts:
        carried = [each for each in traffic.exchanges if each.sent >= LEAST_BYTES]
        is_told = False
        for each in carried:
            found = strange.get(_edge(traffic.host, each.group))
            together = strange.get(_group(each.group)) if each.is_outside and not found else None
            if found:
                yield _row("burst to", window, traffic, found, each)
            elif together and together.amount > each.sent:
                yield _row("part of a burst to", window, traffic, together, each)
            is_told = is_told or bool(found or together)
        fan, whole = strange.get(_fan(traffic.host)), strange.get(_host(traffic.host))
        if fan:
            yield _row("fan-out to", window, traffic, fan, None)
        elif whole and not is_told:
            yield _row("burst to", window, traffic, whole, None)


def _row(what: str, window: Window, traffic: Traffic, found: Strange, place: Exchange | None) -> Row:
    deviations = found.times**0.5
    left = [place] if place else [each for each in traffic.exchanges if each.is_outside]
    return located(Edges.name, what, window, place) | {
        "host": traffic.host,
        "score": (1.0 if place is None or place.is_outside else INSIDE_WEIGHT) * deviations / (deviations + 1),
        "bytes": sum(each.sent for each in left),
        "first": at(min(each.first for each in left)),
        "last": at(max(each.last for each in left)),
        "reason": _reason(what, traffic, found, place),
    }


def _reason(what: str, traffic: Traffic, found: Strange, place: Exchange | None) -> str:
    minutes, days = WINDOW_S // 60, found.ticks // TICKS_A_DAY
    past = f"over {days} days; {found.times:,.1f} times the chi-squared from which it is told"
    if what.startswith("fan-out"):
        many = f"{found.amount} networks got {size(FAN_BYTES)} or more within {minutes} min"
        return f"{many}, usually {found.mean} or fewer {past}"
    group = place.group if place else "several destinations"
    who = "all hosts together" if what.startswith("part") else traffic.host
    return f"{size(found.amount)} from {who} to {group} within {minutes} min, mean {size(found.mean)} {past}"
