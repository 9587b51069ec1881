"""What a site declares in `egress.toml` and its companion files, as values.

Addresses are 16 bytes (IPv4 as v4-mapped), times are UTC microseconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Host:
    """A watched machine: however it is addressed, it is one host."""

    id: str
    addresses: tuple[bytes, ...] = ()
    role: str = ""
    tolerated_bytes_per_day: int | None = None
    """None: what its role tolerates."""
    transit: bool = False
    """A proxy, balancer or NAT: passes taint on, is not itself charged for what it relays."""


@dataclass(frozen=True, slots=True)
class Role:
    id: str
    tolerated_bytes_per_day: int = 0


@dataclass(frozen=True, slots=True)
class Fleet:
    internal: tuple[IPv6Network, ...] = ()
    """Inside the perimeter; IPv4 networks as v4-mapped. Everything else is outside."""
    resolvers: frozenset[bytes] = frozenset()
    hosts: tuple[Host, ...] = ()
    roles: tuple[Role, ...] = ()
    disjoint: tuple[str, ...] = ()
    """Sensors (`collector/sensor`, globs) that never see the same packet: their sums add up."""


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    bytes: int
    holders: tuple[str, ...] = ()
    """Host ids, globs allowed, `role:NAME` for a role."""
    shards: tuple[int, ...] = ()
    delta_of: str = ""
    status: str = "active"
    tolerated_bytes_per_day: int | None = None
    """Cap on what all holders together may use of their tolerance; None: no cap."""
    is_assumed: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's word that it holds `bytes` of `object`, sent by `host` under an approval."""

    time: int
    approval: str
    host: str
    object: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Approval:
    id: str
    hosts: tuple[str, ...]
    bytes_per_day: int
    expires: int
    owner: str
    ticket: str
    networks: tuple[IPv6Network, ...] = ()
    """From `to`: addresses and networks."""
    names: tuple[str, ...] = ()
    """From `to`: server names, globs."""
    serve: tuple[int, ...] = ()
    bytes_per_peer_per_day: int | None = None
    trust_names: bool = False
    receipts: tuple[Receipt, ...] | None = None
    """None: the approval has no receipts, so its bytes stay unproven within the caps."""
    receipt_deadline: int = DAY_US


@dataclass(frozen=True, slots=True)
class Suppression:
    """Findings of detectors that somebody does not want in the queue, until when, and why."""

    id: str
    detectors: tuple[str, ...]
    hosts: tuple[str, ...]
    expires: int
    owner: str
    reason: str
    to: tuple[IPv6Network, ...] = ()
    """Empty: wherever it went."""
    max_level: str = "medium"


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """One line of `lifecycle.jsonl`."""

    time: int
    event: str
    model: str = ""
    host: str = ""
    job: str = ""
    to: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    """(path, bytes) of a manifest."""
    destinations: tuple[str, ...] = ()
    until: int | None = None
    by: str = ""
    ticket: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Detect:
    """Each default stands beside its meaning in `docs/configuration.md`, generated from here."""

    assumed_model_bytes: int = 100_000_000
    """Size of the model that every private address is taken to hold where no model is declared."""
    budget: float = 0.01
    """False alarms per host and day that detectors may add to the queue."""
    late_after: int = 2 * 3_600_000_000
    """Microseconds behind the time of its stream from which on a row is late."""
    snapshot_every: int = 60_000_000


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """A server instead of the embedded store. Secrets are named here, never held."""

    url: str
    database: str = "egress"
    user: str = "default"
    password_env: str = ""
    """Environment variable that holds the password."""
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Kafka:
    """The bus between collectors, detectors and the store. Secrets are named here, never held."""

    servers: tuple[str, ...]
    prefix: str = "egress"
    partitions: int = 12
    """Of flows, heartbeats and state: so many detectors can share the work."""
    replication: int | None = None
    """None: 3, or 1 where there are fewer brokers than that."""
    retention: int = 7 * DAY_US
    tls: bool = False
    ca: Path | None = None
    """None: the authorities that the system trusts."""
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    mechanism: str = "SCRAM-SHA-512"
    password_env: str = ""
    password_file: Path | None = None
    in_flight_bytes: int = 32 << 20
    """What a producer may hold that no broker has acknowledged yet."""
    fetch_bytes: int = 16 << 20
    """What a consumer asks of one broker at a time."""

    def topic(self, name: str) -> str:
        """The topic's full name: `flows` is `egress.flows.v1`; without a prefix, the name itself."""
        return f"{self.prefix}.{name}.v1" if self.prefix else name


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a site declared. Without a file, `is_assumed`: private addresses are hosts with an assumed model."""

    fleet: Fleet = field(default_factory=Fleet)
    models: tuple[Model, ...] = ()
    approvals: tuple[Approval, ...] = ()
    lifecycle: tuple[LifecycleEvent, ...] = ()
    detect: Detect = field(default_factory=Detect)
    is_assumed: bool = False
    clickhouse: ClickHouse | None = None
    kafka: Kafka | None = None
    suppressions: tuple[Suppression, ...] = ()
