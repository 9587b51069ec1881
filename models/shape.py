"""A host that sends unlike the others of its role: outside, inside, as responder, over UDP, to many, in many pieces.

Half-space trees (S. C. Tan, K. M. Ting, F. T. Liu, Fast anomaly detection for streaming data, IJCAI 2011), as River has
them, for each role: hours of hosts as logarithms within fixed limits, scored when the hour is over. The reason names
what makes the hour strange: the features that lower the score most when they are made typical (ablation). Cannot find:
what is ordinary for the role, or at another hour of its day; an hour that the data does not reach the end of.

State: 0.3 kB a host for the hour under way, 140 kB a role; 128 roles at most, further ones share one pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import polars as pl

from egress.cells import HOUR_US
from egress.words import at, moment
from models.guards import could_hold
from models.hours import Hour, begun, told
from models.outside import Leader, Row, Window, bulk, located
from models.pool import Pool
from models.reading import Once, Reader, scores
from models.state import pack, unpack

VERSION = f"2 river {version('river')}"
STRANGE = 1.1
"""Times as far from the usual as the strangest hour that the pool remembers."""
WEIGHT = 0.8
"""An odd hour is a hint, however odd."""
SENDING = ("sent outside", "answered outside", "sent over UDP", "networks at once")
"""Features of loss: an hour is told only where more of one of them is among its reasons."""
LEARNED_AN_HOUR = 8
"""Hosts of a role that teach in one hour, chosen by hash: 256 hours of hosts reach back over a day of any role, and no
host can teach often."""
REASONS = 3
MAX_POOL = 256
"""Hours of hosts before a role is judged, and in what its trees compare with."""
MAX_ROLES = 128
MAX_HOSTS = 65_536
"""Counted in one hour; beyond, further hosts are not."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One window: the hour that it is in with it added, and what the hour before has come to if that is over."""

    hour: int
    hosts: dict[str, Hour]
    lessons: list[tuple[str, list[float]]]
    """Role and features, in order."""
    rows: list[Row]


class Shape:
    """A pool of trees for each role. A frame holds one window, windows come in order of time."""

    name = "shape"

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._hour = 0
        self._hosts: dict[str, Hour] = {}
        self._pools: dict[str, Pool] = {}
        self._judged = Once(self._judge)

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row for each host whose last hour was strange, in the first window after it."""
        rows = self._judged(signals).rows if signals.height else []
        return scores(rows)

    def learn(self, signals: pl.DataFrame) -> None:
        if signals.is_empty():
            return
        judged = self._judged(signals)
        self._hour, self._hosts = judged.hour, judged.hosts
        for role, features in judged.lessons:
            self._pools.setdefault(self._pooled(role), Pool(MAX_POOL)).learn(features)
        self._judged.forget()

    def snapshot(self) -> bytes:
        hosts = {host: [*hour[:-1], _listed(hour.leader)] for host, hour in self._hosts.items()}
        pools = {role: pool.dump() for role, pool in self._pools.items()}
        return pack(self.name, VERSION, {"hour": self._hour, "hosts": hosts, "pools": pools})

    def restore(self, state: bytes) -> None:
        body: dict[str, Any] = unpack(self.name, VERSION, state)
        self._hour = body["hour"]
        self._hosts = {host: _hour(*values) for host, values in body["hosts"].items()}
        self._pools = {role: Pool.load(values) for role, values in body["pools"].items()}
        self._judged.forget()

    def _pooled(self, role: str) -> str:
        return role if role in self._pools or len(self._pools) < MAX_ROLES else ""

    def _judge(self, signals: pl.DataFrame) -> Judged:
        window = self._reader.everywhere(signals)
        hour = window.start // HOUR_US
        is_over = hour > self._hour
        hosts = {} if is_over else dict(self._hosts)
        for traffic in window.hosts:
            if traffic.host in hosts or len(hosts) < MAX_HOSTS:
                hosts[traffic.host] = hosts.get(traffic.host, begun(traffic)).with_window(traffic)
        lessons, rows = self._closed() if is_over else ([], [])
        return Judged(max(hour, self._hour), hosts, lessons, rows)

    def _closed(self) -> tuple[list[tuple[str, list[float]]], list[Row]]:
        """What to learn and what to tell of the hour that is over."""
        rows: list[Row] = []
        lessons: list[tuple[str, list[float]]] = []
        for role in sorted({hour.role for hour in self._hosts.values()}):
            pool = self._pools.get(self._pooled(role), Pool(MAX_POOL))
            mates = {host: hour for host, hour in self._hosts.items() if hour.role == role}
            taught = 0
            for host in sorted(mates, key=self._turn):
                features = mates[host].features()
                strangeness = pool.strangeness(features)
                is_strange = strangeness >= STRANGE
                if is_strange and mates[host].sent >= bulk(mates[host].model_bytes):
                    rows += self._told(host, mates[host], pool, strangeness)
                is_gated = is_strange and could_hold(mates[host].sent, mates[host].model_bytes)
                if taught < LEARNED_AN_HOUR and not (is_gated or mates[host].is_tied):
                    lessons.append((role, features))
                    taught += 1
        return lessons, sorted(rows, key=lambda row: str(row["host"]))

    def _turn(self, host: str) -> bytes:
        """Another order of hosts every hour, that nobody can foresee to be last in and that every replay repeats."""
        return blake2b(f"{self._hour} {host}".encode(), digest_size=8).digest()

    def _told(self, host: str, hour: Hour, pool: Pool, strangeness: float) -> list[Row]:
        """A row, or none where the hour is strange for other reasons than what was sent."""
        shares = pool.shares(hour.features())[:REASONS]
        if not any(name in SENDING and value > usual for name, value, usual in shares):
            return []
        whole = Window(self._hour * HOUR_US, HOUR_US // 1_000_000, ())
        named = ", ".join(f"{name} {told(name, value)} (typical {told(name, usual)})" for name, value, usual in shares)
        role = f"hosts of role {hour.role}" if hour.role else "hosts without a role"
        row = located(self.name, "unlike its role to", whole, hour.leader.of(hour.sent)) | {
            "host": host,
            "score": WEIGHT * strangeness**2 / (strangeness**2 + 1),
            "bytes": hour.sent,
            "first": at(hour.first),
            "last": at(hour.last),
            "reason": f"the hour from {moment(self._hour * HOUR_US)} was {strangeness:.1f} times as far from the usual "
            f"as any lately of {role}: {named}",
        }
        return [row]


def _listed(leader: Leader) -> list[Any]:
    return [leader.group, leader.low, leader.high, leader.lead]


def _hour(
    role: str, model_bytes: int, first: int, last: int, sums: list[int], is_tied: bool, leader: list[Any]
) -> Hour:
    return Hour(role, model_bytes, first, last, tuple(sums), is_tied, Leader(*leader))
