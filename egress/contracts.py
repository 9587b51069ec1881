"""The shapes that rooms hand to each other, and the protocols of what can be plugged in.

Values know no bus, store or clock. A collector is an iterator of `Batch`; a detector has four methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from ipaddress import IPv6Network
from pathlib import Path
from typing import Protocol

import polars as pl


@dataclass(frozen=True, slots=True)
class Count:
    """Frames (or records) and their bytes, as they crossed the wire."""

    frames: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.frames + other.frames, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Skipped:
    """One example of input that was not used: `where` and `what` read as one sentence, `reason` is the counter."""

    reason: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class InputTally:
    """One input as it was read so far. `sha256` is empty until the end was reached."""

    path: str
    sha256: str
    bytes: int
    frames: int
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of everything read. `read == metered + sum(skipped)` holds exactly, in frames and in bytes."""

    read: Count = Count()
    metered: Count = Count()
    skipped: Mapping[str, Count] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    """Things an examiner should know that are no loss: names of counters to how often."""
    examples: tuple[Skipped, ...] = ()
    """The first few of each reason."""
    inputs: tuple[InputTally, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        """The sum; where both know an input, the later one's word counts."""
        skipped = dict(self.skipped)
        for reason, count in other.skipped.items():
            skipped[reason] = skipped.get(reason, Count()) + count
        notes = dict(self.notes)
        for name, number in other.notes.items():
            notes[name] = notes.get(name, 0) + number
        inputs = {tally.path: tally for tally in (*self.inputs, *other.inputs)}
        return replace(
            self,
            read=self.read + other.read,
            metered=self.metered + other.metered,
            skipped=skipped,
            notes=notes,
            examples=self.examples + other.examples,
            inputs=tuple(inputs.values()),
        )

    def summary(self) -> dict[str, object]:
        """For `--json`: `read == metered + sum(skipped)` can be checked by whoever reads it."""
        return {
            "inputs": [asdict(one) for one in self.inputs],
            "read": asdict(self.read),
            "metered": asdict(self.metered),
            "skipped": {reason: asdict(count) for reason, count in sorted(self.skipped.items())},
            "notes": dict(sorted(self.notes.items())),
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """Some flows and what reading them cost. `tally` covers this batch alone (`inputs` excepted: they are absolute)."""

    flows: pl.DataFrame
    """Columns of `schema.FLOWS`; `host` and `side` empty unless the collector itself is on the host."""
    tally: Tally
    heartbeats: pl.DataFrame | None = None
    """Columns of `heartbeats.HEARTBEATS`, where the input holds sensors' words about themselves."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How inputs are read. Every default is what an examiner gets without asking."""

    resolvers: frozenset[bytes] | None = None
    """Whose DNS answers name addresses (16 bytes each); None: everybody's, for display where nothing rests on it."""
    chunk_bytes: int = 8 << 20
    threads: int = 2
    is_hashed: bool = True
    """False: inputs keep an empty `sha256`; hashing takes a third of the time that metering does."""
    max_flows: int = 1 << 18
    """Conversations held at once; above it the smallest are merged and counted. 262,144 take 60 MB, and of ten million
    address pairs they leave a third of the rows that a million would."""
    idle_timeout_s: int = 300
    """A conversation silent for longer is over. 300 s: usual for TCP in flow exporters (RFC 5470 leaves it open)."""
    is_disjoint: bool = False
    """True: inputs that overlap in time saw different traffic and add up; False: the larger view counts."""


class Collector(Protocol):
    """Turns inputs into flows. `read` never raises for bad content: that is skipped, counted and exemplified."""

    name: str

    def claims(self, path: Path, head: bytes) -> bool:
        """True if an input that starts with `head` (the first 4 kB, decompressed) is of this kind."""
        ...

    def read(self, paths: Sequence[Path], settings: ReadSettings) -> Iterator[Batch]:
        """Flows of all inputs in event-time order. Raises `InputError` where an input cannot be opened at all."""
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that gave no rows: its place among those that were read, a counter's label, and words."""

    place: int
    reason: str
    what: str


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Rows of messages that others wrote."""

    flows: pl.DataFrame
    """Columns of `schema.FLOWS`, `host` and `side` empty."""
    places: pl.Series
    """For each row, the place of its message among those that were read."""
    refused: tuple[Refused, ...]


class RowsReader(Protocol):
    """Understands flows that others put on the bus, in one encoding."""

    name: str

    def read(self, values: Sequence[bytes]) -> RowsRead:
        """Rows of some messages, in their order. Never raises for what one holds: that is refused."""
        ...


class FlowWriter(Protocol):
    """Keeps flows in a file that a collector can read again."""

    def write(self, flows: pl.DataFrame) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Packets between `ours` and `theirs`, either way, inside or outside of a tunnel, in [start, end] (UTC us)."""

    ours: tuple[IPv6Network, ...]
    theirs: tuple[IPv6Network, ...]
    start: int
    end: int


class PacketCutter(Protocol):
    """Copies packets out of captures as they were recorded."""

    def __call__(self, paths: Sequence[Path], selection: Selection, out: Path) -> Count:
        """Frames and wire bytes written to `out` (pcapng). Raises InputError where an input is no capture."""
        ...


class Detector(Protocol):
    """Scores signals, then learns from them; deterministic, event time only, bit-equal on replay."""

    name: str

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row per strange signal, columns of `signals.SCORES`; changes nothing."""
        ...

    def learn(self, signals: pl.DataFrame) -> None: ...

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Peak:
    """The score of one episode (host, detector, destination group) so far, where nothing known explains it."""

    detector: str
    role: str
    host: str
    episode: str
    score: float


@dataclass(frozen=True, slots=True)
class Rate:
    """How often an episode scores as high without a known cause."""

    per_host_day: float
    basis: str
    """What that rests on, in words."""


class Calibrator(Protocol):
    """Tells how rare a score is, by days that are over; deterministic, event time only, bit-equal on replay."""

    def rate(self, peak: Peak) -> Rate:
        """Changes nothing."""
        ...

    def learn(self, day: int, host_days: Mapping[str, int], detectors: Iterable[str], peaks: Iterable[Peak]) -> None:
        """One whole UTC day (days since 1970): hosts watched by role, and episodes to which nothing is known.

        `detectors` are all that could have spoken. Days come in order.
        """
        ...

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


class Level(IntEnum):
    """How bad it is; the numbers are OCSF's `severity_id`."""

    INFO = 1
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def word(self) -> str:
        return self.name.lower()

    def raised(self) -> Level:
        """One level up; critical stays."""
        ladder = list(Level)
        return ladder[min(ladder.index(self) + 1, len(ladder) - 1)]


@dataclass(frozen=True, slots=True)
class ModelShare:
    """How much of one model a finding could be."""

    id: str
    bytes: int
    """What was charged to this model in the episode."""
    native_bytes: int
    is_assumed: bool = False

    @property
    def fraction(self) -> float:
        return self.bytes / self.native_bytes

    @property
    def of_4bit(self) -> float:
        """Share of a 4-bit copy, taken as .28 of native (scales and zero points included)."""
        return self.bytes / (0.28 * self.native_bytes)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where bytes went, by group, with the account that they were charged to."""

    group: str
    account: str
    bytes: int
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One episode. `uid` is the hash of (detector, subject, start), so retries overwrite instead of double."""

    uid: str
    detector: str
    subject: str
    """`host:gpu-01` or `model:llama-70b`."""
    host: str
    level: Level
    title: str
    bytes: int
    """What was charged to the first model in the episode."""
    window: str
    """Shortest window that explains the level: 1h, 1d, 7d, 30d, lifetime."""
    start: int
    """UTC microseconds, as the next three."""
    first_seen: int
    last_seen: int
    level_times: Mapping[Level, int]
    models: tuple[ModelShare, ...] = ()
    destinations: tuple[Destination, ...] = ()
    path: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    evidence: tuple[Mapping[str, object], ...] = ()
    """The largest conversations: src_ip, src_port, dst_ip, dst_port, proto, name, bytes; addresses as text."""
    is_closed: bool = False
    revision: int = 1
    suppressed_by: str = ""
    """Id of the rule that took it out of the queue; empty: it is in it."""
