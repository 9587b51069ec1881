"""How the services stand, from what is on the bus alone: lag, throughput, snapshots, dead letters, hosts.

Reading is bounded and leaves no trace: no group is joined, nothing is committed. Of the flows and heartbeats only the
newest messages are looked at, so a host that said nothing in them counts as silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from egress.messages import Partition
from egress.words import moment

SILENT_US = 120_000_000
"""A host this far behind the newest event of the fleet is silent: twelve heartbeats."""
OLD_SNAPSHOT_US = 5 * 60_000_000
"""Snapshots are a minute apart; whoever takes over has to read again what came after the last."""
AHEAD_US = 3_600_000_000
"""A clock that is further ahead of ours is wrong, and must not make everybody else look silent."""
PATIENCE_US = 6_000_000
"""The store writes at least every five seconds."""
DETECTS = ".detect"
"""How the name of the group ends that commits with its snapshots."""
SHOWN = 5
"""Names in one sentence; the rest are counted."""
RECENT_US = 86_400_000_000
"""Dead letters of the last day are something to look at."""


@dataclass(frozen=True, slots=True)
class Look:
    """Offsets at one moment."""

    at_us: int
    ends: Mapping[Partition, int]
    begins: Mapping[Partition, int]
    committed: Mapping[str, Mapping[Partition, int]]
    """By group; a partition of which it never committed anything is absent."""
    members: Mapping[str, int]
    """By group, how many processes are in it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest piece of state of one task."""

    task: str
    written_us: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be understood: where it lies and why."""

    where: str
    reason: str
    what: str
    service: str
    written_us: int


@dataclass(frozen=True, slots=True)
class Tails:
    """What the newest messages say."""

    hosts: Mapping[str, int]
    """Host to the newest event of it, UTC microseconds of event time."""
    snapshots: Sequence[Snapshot]
    letters: Sequence[DeadLetter]
    """The last few, newest first."""
    letter_count: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one group is in one partition."""

    group: str
    topic: str
    partition: int
    behind: int
    """Messages that are there and not committed."""
    read_per_s: float
    written_per_s: float
    is_stuck: bool
    """What was there at the first look is not committed at the second, and nothing else is either."""


@dataclass(frozen=True, slots=True)
class Host:
    id: str
    last_seen_us: int | None
    """Event time; None: not in the newest messages."""
    is_declared: bool
    is_silent: bool


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `egress status` shows. `problems` is empty where all is well."""

    members: Mapping[str, int]
    lags: tuple[Lag, ...]
    hosts: tuple[Host, ...]
    snapshots: tuple[Snapshot, ...]
    letters: tuple[DeadLetter, ...]
    letter_count: int
    written_per_s: Mapping[str, float]
    """Messages a second, by topic."""
    now_us: int
    problems: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """For programs: the same as JSON takes it; times are ISO 8601, ages seconds."""
        return {
            "time": moment(self.now_us),
            "healthy": not self.problems,
            "problems": list(self.problems),
            "members": dict(self.members),
            "lag": [asdict(lag) for lag in self.lags],
            "written_per_s": dict(self.written_per_s),
            "coverage": {
                "hosts": len(self.hosts),
                "declared": sum(host.is_declared for host in self.hosts),
                "silent": [host.id for host in self.hosts if host.is_silent],
            },
            "hosts": [
                {
                    "id": host.id,
                    "last_seen": None if host.last_seen_us is None else moment(host.last_seen_us),
                    "declared": host.is_declared,
                    "silent": host.is_silent,
                }
                for host in self.hosts
            ],
            "snapshots": [
                {"task": one.task, "age_s": (self.now_us - one.written_us) / 1_000_000} for one in self.snapshots
            ],
            "dead_letters": {
                "count": self.letter_count,
                "last": [_as_json(one) for one in self.letters],
            },
        }


def _as_json(letter: DeadLetter) -> dict[str, str]:
    return {
        "where": letter.where,
        "reason": letter.reason,
        "what": letter.what,
        "service": letter.service,
        "written": moment(letter.written_us),
    }


def judged(
    first: Look, second: Look, tails: Tails, readers: Mapping[str, Sequence[str]], declared: Iterable[str]
) -> Status:
    """What two looks some seconds apart and the newest messages come to; `readers` is each group with its topics."""
    fresh = {one.task for one in tails.snapshots if second.at_us - one.written_us <= OLD_SNAPSHOT_US}
    lags = tuple(_lags(first, second, readers, fresh))
    hosts = _hosts(tails.hosts, frozenset(declared), second.at_us)
    rates: dict[str, float] = {}
    for at, end in sorted(second.ends.items()):
        rates[at[0]] = round(rates.get(at[0], 0.0) + _rate(first.ends.get(at, end), end, first, second), 1)
    problems = (
        *_group_problems(lags, second.members),
        *_host_problems(hosts),
        *_snapshot_problems(tails.snapshots, lags, second.at_us),
        *_letter_problems(tails, second.at_us),
    )
    shown = tuple(tails.snapshots), tuple(tails.letters), tails.letter_count
    return Status(second.members, lags, hosts, *shown, rates, second.at_us, problems)


def _lags(first: Look, second: Look, readers: Mapping[str, Sequence[str]], fresh: Set[str]) -> Iterator[Lag]:
    """`fresh` tasks of detectors commit with their snapshots, a minute apart: nothing need move in between."""
    is_long = second.at_us - first.at_us >= PATIENCE_US
    for group, topics in readers.items():
        for at, end in sorted(second.ends.items()):
            if at[0] not in topics:
                continue
            before, now = (max(look.committed.get(group, {}).get(at, 0), look.begins[at]) for look in (first, second))
            read, written = _rate(before, now, first, second), _rate(first.ends.get(at, 0), end, first, second)
            is_between = group.endswith(DETECTS) and task_of(*at) in fresh
            is_stuck = is_long and first.ends.get(at, 0) > now and now == before and not is_between
            yield Lag(group, *at, max(end - now, 0), read, written, is_stuck)


def task_of(topic: str, partition: int) -> str:
    """The task of `egress detect` that reads a partition, as its snapshots are called."""
    return f"flows-{partition}" if topic == "flows" else "judge"


def _rate(before: int, after: int, first: Look, second: Look) -> float:
    seconds = max(second.at_us - first.at_us, 1) / 1_000_000
    return round(max(after - before, 0) / seconds, 1)


def _hosts(seen: Mapping[str, int], declared: Set[str], now_us: int) -> tuple[Host, ...]:
    newest = max((last for last in seen.values() if last <= now_us + AHEAD_US), default=0)
    found = []
    for host in sorted(declared | seen.keys()):
        last = seen.get(host)
        is_silent = last is None or newest - last > SILENT_US
        found.append(Host(host, last, host in declared, is_silent))
    return tuple(found)


def _group_problems(lags: Sequence[Lag], members: Mapping[str, int]) -> Iterator[str]:
    for group in members:
        waiting = [lag for lag in lags if lag.group == group and (lag.is_stuck or (lag.behind and not members[group]))]
        if waiting:
            places = _some(f"{lag.topic}/{lag.partition}" for lag in waiting)
            why = "does not move" if members[group] else "has no member: does it run?"
            yield f"{group} {why}: {sum(lag.behind for lag in waiting):,} messages behind in {places}"


def _some(names: Iterable[str]) -> str:
    every = [*names]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _host_problems(hosts: Sequence[Host]) -> Iterator[str]:
    silent = [host.id for host in hosts if host.is_silent and host.is_declared]
    if silent:
        yield f"silent: {_some(silent)}; does the collector run there?"


def _snapshot_problems(snapshots: Sequence[Snapshot], lags: Sequence[Lag], now_us: int) -> Iterator[str]:
    moving = any(lag.written_per_s for lag in lags)
    for one in snapshots:
        if moving and now_us - one.written_us > OLD_SNAPSHOT_US:
            minutes = (now_us - one.written_us) // 60_000_000
            yield f"snapshot of {one.task} is {minutes:,} min old; does egress detect run?"


def _letter_problems(tails: Tails, now_us: int) -> Iterator[str]:
    recent = [letter for letter in tails.letters if now_us - letter.written_us < RECENT_US]
    if recent:
        yield f"dead letters since a day ago: {len(recent)} or more; the newest: {recent[0].reason}, {recent[0].where}"
