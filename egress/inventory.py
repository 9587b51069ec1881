"""Who is who: which host an address belongs to, which models a host holds, what a site accepts of it.

Pure and built once from a `Config`. A host is not an address: several addresses may be one host, and an unlisted
address inside the perimeter is a host of its own, named by the address, which holds what its listed neighbours hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase, translate
from socket import AF_INET, AF_INET6, inet_pton

import polars as pl

from egress.addresses import (
    NEVER_LEAVING,
    PRIVATE,
    lies_in,
    lies_near,
    neighbourhood,
    text_of,
)
from egress.config import Config, Host, Model
from egress.errors import ConfigError
from egress.grouping import at, coded, paired
from egress.schema import NO_ADDRESS, V4_MAPPED_PREFIX

ASSUMED_MODEL = "assumed"
ROLE_PREFIX = "role:"
WHO = ("host", "side", "src_ip", "dst_ip", "outer_src_ip", "outer_dst_ip")
"""Columns of FLOWS that say whose rows they are."""


def assumed_model(size: int) -> Model:
    """What every host is taken to hold where no model is declared."""
    return Model(ASSUMED_MODEL, size, holders=("*",), is_assumed=True)


class Inventory:
    """Answers about hosts, addresses and models; the same answers however flows are cut into batches."""

    def __init__(self, config: Config) -> None:
        if config.is_assumed and not config.models:
            config = replace(config, models=(assumed_model(config.detect.assumed_model_bytes),))
        self.config = config
        self._internal = config.fleet.internal or (PRIVATE if config.is_assumed else ())
        self._hosts = {host.id: host for host in config.fleet.hosts}
        self._roles = {role.id: role for role in config.fleet.roles}
        self._models = {model.id: model for model in config.models}
        self._owners = _owners(config.fleet.hosts)
        self._listed = pl.Series(list(self._owners), dtype=pl.Binary).implode()
        self._is_host = pl.col("address").is_in(self._listed) | (
            self.is_inside("address") & ~self.never_leaves("address")
        )
        self._globs = {model.id: _one_pattern(model.holders) for model in config.models}
        self._held = {host: self._matching_models(host) for host in self._hosts}
        self._held_nearby = self._models_by_neighbourhood()

    def attribute(self, flows: pl.DataFrame) -> pl.DataFrame:
        """FLOWS with `host` and `side` filled, in the order of `flows`.

        A conversation between two watched hosts becomes two rows, about `src` before about `dst`; one between
        strangers stays one row with both columns empty. Rows whose host is set keep it, and miss at most their side.
        """
        codes, ends = coded(flows, WHO)
        sides = self.sides(ends)
        if sides.height == ends.height:
            return attributed(flows, codes, sides)
        places, which = paired(codes.to_numpy(), sides["row"].to_numpy())
        return at(flows, places).with_columns(at(sides.select("host", "side"), which))

    def sides(self, ends: pl.DataFrame) -> pl.DataFrame:
        """row (in `ends`, which has columns of FLOWS), side, host: one line for each row that `attribute` gives for
        flows between these ends, in its order."""
        # Few batches hold tunnels, and asking about outer addresses costs as much as all the rest.
        end = self._end if ends.select(_is_tunnel().any()).item() else _inner_end
        told = ends.select("host", "side", src=end("src"), dst=end("dst"))
        owners = self._owner_frame(pl.concat([told["src"], told["dst"].alias("src")]))
        owner = pl.col("src", "dst").replace_strict(*owners, default="", return_dtype=pl.String)
        told = told.select(pl.row_index("row"), "host", "side", owner.name.suffix("_host"))
        one = told.select("row", *_FIRST)
        other = told.lazy().filter(_IS_SECOND).select("row", host="dst_host", side=pl.lit("dst")).collect()
        return pl.concat([one, other]).sort("row", maintain_order=True) if other.height else one

    def is_inside(self, column: str) -> pl.Expr:
        """Whether the addresses of `column` lie inside the perimeter: in `fleet.internal`, or listed by a host."""
        address = pl.col(column)
        return lies_in(address, self._internal) | address.is_in(self._listed)

    def never_leaves(self, column: str) -> pl.Expr:
        """Whether the addresses of `column` are such that no router passes them on."""
        return lies_in(pl.col(column), NEVER_LEAVING)

    def owner_of(self, address: bytes) -> str:
        """Host that an address belongs to; empty outside."""
        found = self._owner_frame(pl.Series("address", [address], pl.Binary))
        return "" if found.is_empty() else str(found["owner"][0])

    def models_of(self, host: str) -> tuple[str, ...]:
        """Ids of what a host holds, in declared order; empty for a host that holds nothing."""
        if host in self._held:
            return self._held[host]
        if not host:
            return ()
        nearby = self._held_nearby.get(_neighbourhood_of(host), frozenset())
        return tuple(model for model in self._models if model in nearby or self._globs[model].match(host))

    def model(self, model_id: str) -> Model:
        """Raises KeyError where no such model is declared."""
        return self._models[model_id]

    def holders_of(self, model_id: str, hosts: Iterable[str]) -> tuple[str, ...]:
        """Those of `hosts` that hold the model, sorted."""
        return tuple(sorted(host for host in set(hosts) if host and self._holds(host, model_id)))

    def strangers_near(self, host: str, hosts: Iterable[str]) -> tuple[str, ...]:
        """Those of `hosts` that nobody lists and that share a /24 or /64 with a listed host: it may be behind them."""
        places = {neighbourhood(address) for address in self._hosts[host].addresses} if host in self._hosts else set()
        unlisted = (name for name in set(hosts) if name not in self._hosts)
        return tuple(sorted(name for name in unlisted if _neighbourhood_of(name) in places))

    def role_of(self, host: str) -> str:
        return self._hosts[host].role if host in self._hosts else ""

    def tolerance_of(self, host: str) -> int:
        """Unapproved bytes a UTC day that the site accepts: the host's own, else its role's, else none."""
        declared = self._hosts.get(host)
        if declared is None:
            return 0
        if declared.tolerated_bytes_per_day is not None:
            return declared.tolerated_bytes_per_day
        role = self._roles.get(declared.role)
        return 0 if role is None else role.tolerated_bytes_per_day

    def is_transit(self, host: str) -> bool:
        return host in self._hosts and self._hosts[host].transit

    def matches(self, patterns: Sequence[str], host: str) -> bool:
        """Whether any pattern names the host: an id, a glob over ids, or `role:` and a role."""
        return any(self._match(pattern, host) for pattern in patterns)

    def _match(self, pattern: str, host: str) -> bool:
        if pattern.startswith(ROLE_PREFIX):
            role = self.role_of(host)
            return role != "" and fnmatchcase(role, pattern.removeprefix(ROLE_PREFIX))
        return host != "" and fnmatchcase(host, pattern)

    def _holds(self, host: str, model_id: str) -> bool:
        """`models_of` asked about one model; there may be a million hosts that nobody listed."""
        if host in self._held:
            return model_id in self._held[host]
        is_named = self._globs[model_id].match(host) is not None
        return is_named or model_id in self._held_nearby.get(_neighbourhood_of(host), frozenset())

    def _matching_models(self, host: str) -> tuple[str, ...]:
        return tuple(model.id for model in self.config.models if self.matches(model.holders, host))

    def _models_by_neighbourhood(self) -> Mapping[bytes, frozenset[str]]:
        nearby: dict[bytes, frozenset[str]] = {}
        for address, host in self._owners.items():
            place = neighbourhood(address)
            nearby[place] = nearby.get(place, frozenset()).union(self._held[host])
        return nearby

    def _end(self, side: str) -> pl.Expr:
        """The address that says who stands on this side of a row.

        Whoever sends chooses the inner addresses, and a remote site's private range may be the same as ours. So the
        outer addresses speak wherever one end of the tunnel is ours; only a tunnel that merely passes by is judged by
        its inner ones. An outer address of a bare underlay (inside, no listed host near it) leaves the word to an
        inner one that is listed.
        """
        inner, outer = pl.col(f"{side}_ip"), pl.col(f"outer_{side}_ip")
        is_ours = _is_tunnel() & (self.is_inside("outer_src_ip") | self.is_inside("outer_dst_ip"))
        is_underlay = (
            self.is_inside(f"outer_{side}_ip") & ~lies_near(outer, list(self._held_nearby)) & inner.is_in(self._listed)
        )
        return pl.when(is_ours & ~is_underlay).then(outer).otherwise(inner)

    def _owner_frame(self, addresses: pl.Series) -> pl.DataFrame:
        """address, owner: each of the addresses that belongs to a host, once."""
        inside = addresses.unique().alias("address").to_frame().filter(self._is_host)["address"]
        owners = [self._owners.get(address) or text_of(address) for address in inside]
        return pl.DataFrame([inside, pl.Series("owner", owners, pl.String)])


def attributed(flows: pl.DataFrame, codes: pl.Series, sides: pl.DataFrame) -> pl.DataFrame:
    """What `attribute` gives, by the `sides` of the ends that `codes` says: rows about `dst` of conversations between
    two watched hosts come after all others."""
    is_first = sides["row"].is_first_distinct()
    first, second = sides.filter(is_first), sides.filter(~is_first)
    told = flows.with_columns(at(first.select("host", "side"), codes.to_numpy()))
    if second.is_empty():
        return told
    # Few rows are told twice: to put them in between would cost a copy of all.
    places, which = paired(codes.to_numpy(), second["row"].to_numpy())
    return pl.concat([told, at(flows, places).with_columns(at(second.select("host", "side"), which))])


def _owners(hosts: Sequence[Host]) -> dict[bytes, str]:
    owners: dict[bytes, str] = {}
    for host in hosts:
        for address in host.addresses:
            if owners.setdefault(address, host.id) != host.id:
                raise ConfigError(
                    f"fleet.hosts: address {text_of(address)} belongs to {owners[address]} and to {host.id}; "
                    "give it to one of them"
                )
    return owners


def _one_pattern(patterns: Sequence[str]) -> re.Pattern[str]:
    """Matches what any of the globs names. Roles name listed hosts only, whose models are known beforehand."""
    globs = [translate(pattern) for pattern in patterns if not pattern.startswith(ROLE_PREFIX)]
    return re.compile("|".join(globs) or r"(?!)")


def _neighbourhood_of(host: str) -> bytes:
    """Where an unlisted host, named by its address, lives; empty for a name that is no address."""
    # A tenth of what `ipaddress` takes, and a replay may meet a million addresses.
    try:
        if ":" in host:
            return neighbourhood(inet_pton(AF_INET6, host))
        return neighbourhood(V4_MAPPED_PREFIX + inet_pton(AF_INET, host))
    except (OSError, ValueError):
        return b""


def _is_tunnel() -> pl.Expr:
    return (pl.col("outer_src_ip") != NO_ADDRESS) | (pl.col("outer_dst_ip") != NO_ADDRESS)


def _inner_end(side: str) -> pl.Expr:
    return pl.col(f"{side}_ip")


def _side_of_known() -> pl.Expr:
    is_dst = (pl.col("host") == pl.col("dst_host")) & (pl.col("host") != pl.col("src_host"))
    inferred = pl.when(is_dst).then(pl.lit("dst")).otherwise(pl.lit("src"))
    return pl.when(pl.col("side") != "").then(pl.col("side")).otherwise(inferred)


_IS_KNOWN, _ABOUT_SRC, _ABOUT_DST = (pl.col(name) != "" for name in ("host", "src_host", "dst_host"))
_FIRST = (
    pl.when(_IS_KNOWN).then("host").when(_ABOUT_SRC).then("src_host").otherwise("dst_host").alias("host"),
    pl.when(_IS_KNOWN)
    .then(_side_of_known())
    .when(_ABOUT_SRC)
    .then(pl.lit("src"))
    .when(_ABOUT_DST)
    .then(pl.lit("dst"))
    .otherwise(pl.lit(""))
    .alias("side"),
)
"""Whom a row is about, of the hosts that its ends belong to."""
_IS_SECOND = ~_IS_KNOWN & _ABOUT_SRC & _ABOUT_DST
"""... and about the other one, too."""
