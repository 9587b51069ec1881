"""A made-up fleet: its hosts by role, the models that they hold, and the services outside that they talk to.

Nothing in it can belong to anybody: addresses are those of RFC 1918, 2544, 3849, 4193 and 5737, names end in
`home.arpa` (RFC 8375), whose children count as registrable domains of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import numpy as np
import numpy.typing as npt

from egress.addresses import bytes_of

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

Longs = npt.NDArray[np.int64]

INTERNAL = ("10.0.0.0/8", "fd00::/8", "2001:db8:77::/48")
RESOLVER = "10.0.0.53"

ROLES = ("inference", "training", "agent", "dev", "storage")
SHARES = (0.40, 0.24, 0.16, 0.12, 0.08)
"""Of all hosts, by role; every role has at least one."""

MODELS = {"frontier-128b": 256_000_000_000, "chat-70b": 141_000_000_000, "coder-32b": 65_500_000_000}
MODELS |= {"coder-32b-tuned": 65_500_000_000, "assist-8b": 16_100_000_000, "embed-1b": 2_400_000_000}
"""Two bytes a parameter, as such weights are published."""
DELTAS = {"coder-32b-tuned": "coder-32b"}
SHARD_BYTES = 4_960_000_000
"""Files of published checkpoints are cut just below 5 GB."""

HELD = {
    "inference": (("frontier-128b",), ("chat-70b",), ("coder-32b", "coder-32b-tuned")),
    "training": (("chat-70b",), ("frontier-128b", "chat-70b")),
    "agent": (("coder-32b",),),
    "dev": (("assist-8b",), ("assist-8b", "embed-1b")),
    "storage": (("frontier-128b",), ("chat-70b",), ("coder-32b", "coder-32b-tuned")),
}
"""What hosts of a role hold; the pools of a role take turns. A storage host that serves weights of every kind would
taint everybody with all of them, so a site keeps them apart where it has the hosts. Small models come from the hub."""

SERVICES = {
    "hub": ("198.18.0", 4, "cdn.model-hub.home.arpa"),
    "registry": ("198.18.1", 4, "layers.registry.home.arpa"),
    "git": ("198.18.2", 3, "git.forge.home.arpa"),
    "packages": ("198.18.3", 8, "mirror.packages.home.arpa"),
    "monitoring": ("198.18.4", 2, "scrape.monitoring.home.arpa"),
    "logs": ("198.18.5", 4, "intake.logs.home.arpa"),
    "api": ("198.18.6", 16, "api.model-api.home.arpa"),
    "cloud": ("198.18.7", 32, "checkpoints.buckets.home.arpa"),
    "backup": ("198.18.8", 8, "vault.backup.home.arpa"),
    "region": ("198.18.9", 8, "vault.region-2.home.arpa"),
    "recovery": ("198.18.10", 64, "site.recovery.home.arpa"),
    "partner": ("198.18.11", 12, "files.partner.home.arpa"),
    "tracking": ("198.18.12", 4, "runs.tracking.home.arpa"),
    "datasets": ("198.18.13", 6, "files.datasets.home.arpa"),
}
"""Where they are (a /24), on how many addresses, under which name."""

CROWDS = {"web": ("198.18", 64, 192), "homes": ("198.18", 32, 32), "clients": ("198.19", 0, 250)}
"""Many networks, one of a kind: first two octets, first /24, how many."""
PER_NETWORK = {"web": 24, "homes": 2, "clients": 3}
"""Addresses of each of those networks."""

TAKERS = ("192.0.2", "198.51.100", "203.0.113")
"""Where attackers wait."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A host of the fleet. `number` is its place in the plan, and that of its address among the endpoints."""

    number: int
    id: str
    role: str
    addresses: tuple[str, ...]
    """Its IPv4 address, one that it may move to, its IPv6 address."""
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that something may talk to, by the name that the site's resolver gave for it."""

    address: bytes
    name: str = ""
    name_from: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The fleet, everybody it talks to, and when. Times are UTC microseconds."""

    seed: int
    start: int
    days: int
    machines: tuple[Machine, ...]
    endpoints: tuple[Endpoint, ...]
    """First the machines by their IPv4 address, then again by IPv6, then everybody else."""
    places: Mapping[str, Longs]
    """Numbers of endpoints by service, crowd or `takers`, `takers6`, `resolver`."""

    @property
    def end(self) -> int:
        return self.start + self.days * DAY_US

    def random(self, what: str) -> np.random.Generator:
        """Chance for one purpose: what others draw does not change it."""
        return np.random.default_rng([self.seed, crc32(what.encode())])

    def of_role(self, *roles: str) -> Longs:
        return np.array([each.number for each in self.machines if each.role in roles], dtype=np.int64)

    def holders(self, model: str) -> Longs:
        return np.array([each.number for each in self.machines if model in each.models], dtype=np.int64)


def plan(hosts: int, days: int, seed: int, start: int) -> Plan:
    """A fleet of so many hosts, at least 5, over so many days."""
    machines = tuple(_machines(hosts))
    endpoints = [Endpoint(bytes_of(each.addresses[0])) for each in machines]
    endpoints += [Endpoint(bytes_of(each.addresses[2])) for each in machines]
    places: dict[str, Longs] = {}
    for place, found in _places():
        places[place] = np.arange(len(endpoints), len(endpoints) + len(found), dtype=np.int64)
        endpoints += found
    return Plan(seed, start, days, machines, tuple(endpoints), places)


def shards(model: str) -> tuple[int, ...]:
    """Sizes of a model's files."""
    whole, rest = divmod(MODELS[model], SHARD_BYTES)
    return (SHARD_BYTES,) * whole + ((rest,) if rest else ())


def _machines(hosts: int) -> Iterator[Machine]:
    counts = _counts(hosts)
    number = 0
    for net, (role, count) in enumerate(zip(ROLES, counts, strict=True)):
        pools = HELD[role] if count >= len(HELD[role]) else (tuple(dict.fromkeys(chain(*HELD[role]))),)
        for index in range(count):
            low, high = index % 200 + 10, index // 200
            addresses = (
                f"10.{70 + net}.{high}.{low}",
                f"10.{170 + net}.{high}.{low}",
                f"2001:db8:77:{net:x}::{number + 16:x}",
            )
            yield Machine(number, f"{role}-{index + 1:02}", role, addresses, pools[index % len(pools)])
            number += 1


def _counts(hosts: int) -> Sequence[int]:
    others = [max(1, round(hosts * share)) for share in SHARES[1:]]
    return (max(1, hosts - sum(others)), *others)


def _places() -> Iterator[tuple[str, list[Endpoint]]]:
    yield "resolver", [Endpoint(bytes_of(RESOLVER))]
    for service, (network, count, name) in SERVICES.items():
        yield service, [_named(f"{network}.{10 + index}", name) for index in range(count)]
    for crowd, (half, first, count) in CROWDS.items():
        yield crowd, list(_crowd(crowd, half, first, count))
    yield "takers", [Endpoint(bytes_of(f"{network}.{7 + index}")) for network in TAKERS for index in range(40)]
    yield "takers6", [Endpoint(bytes_of(f"2001:db8:bad:{index:x}::7")) for index in range(16)]
    yield "release", [_named("198.18.1.40", SERVICES["registry"][2])]
    yield "lake", [Endpoint(bytes_of(f"10.8.0.{10 + index}")) for index in range(8)]
    yield "overlay", [Endpoint(bytes_of("10.250.3.9"))]
    yield "bucket", [_named("198.18.7.12", "scratch-4411.buckets.home.arpa")]


def _crowd(crowd: str, half: str, first: int, count: int) -> Iterator[Endpoint]:
    for index in range(count * PER_NETWORK[crowd]):
        address = f"{half}.{first + index % count}.{5 + index // count}"
        yield _named(address, f"www.site-{index:05}.home.arpa") if crowd == "web" else Endpoint(bytes_of(address))


def _named(address: str, name: str) -> Endpoint:
    return Endpoint(bytes_of(address), name, "dns")
