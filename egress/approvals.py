"""Which approval a transfer falls under, and how much of it the approval's caps cover."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from ipaddress import IPv6Network

import polars as pl

from egress.addresses import lies_in, network_of
from egress.cells import DAY_US
from egress.config import Approval
from egress.inventory import Inventory
from egress.schema import NO_ADDRESS, V4_MAPPED_PREFIX

NONE = -1
"""Index of no approval."""

SERVING_PROTOCOLS = (6, 17)
"""TCP and UDP, which have ports to serve on."""

UNCAPPED = 2**100


def is_outside(inventory: Inventory, column: str) -> pl.Expr:
    """Whether the addresses of `column` are beyond the perimeter; `::`, which stands for none, is not."""
    return ~inventory.is_inside(column) & ~inventory.never_leaves(column)


def peer_of(address: pl.Expr) -> pl.Expr:
    """The bytes that an address shares with its peer network: its /24 if it is v4-mapped, else its /48."""
    return pl.when(address.bin.starts_with(V4_MAPPED_PREFIX)).then(address.bin.head(15)).otherwise(address.bin.head(6))


def approve(entries: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Adds `approval`, index of the first approval that covers the transfer, and `expired`, of one that did once.

    Needs `inner_is_outside` and `outer_is_outside`. An approval covers a transfer when it names the host, has not
    expired, and covers every address outside that is involved: whoever sends chooses the inner addresses of a tunnel,
    so one approved address does not speak for the other.
    """
    hosts = entries["host"].unique().to_list()
    approval, expired = pl.lit(NONE, pl.Int32), pl.lit(NONE, pl.Int32)
    for index, each in reversed(list(enumerate(inventory.config.approvals))):
        covers = pl.col("host").is_in([host for host in hosts if inventory.matches(each.hosts, host)])
        covers &= _covers_destination(each, entries["name"], inventory)
        is_valid = pl.col("minute") < each.expires
        approval = pl.when(covers & is_valid).then(pl.lit(index, pl.Int32)).otherwise(approval)
        expired = pl.when(covers & ~is_valid).then(pl.lit(index, pl.Int32)).otherwise(expired)
    return entries.with_columns(approval=approval, expired=expired)


def _covers_destination(approval: Approval, names: pl.Series, inventory: Inventory) -> pl.Expr:
    destinations = Destinations(approval.networks, approval.names)
    to_destination = destinations.covers(names, inventory, pl.lit(approval.trust_names))
    if not approval.serve:
        return to_destination
    serves = pl.col("served_port").is_in(approval.serve) & pl.col("proto").is_in(SERVING_PROTOCOLS)
    is_bare = pl.col("outer_ip") == NO_ADDRESS
    return serves & (to_destination if approval.networks or approval.names else is_bare)


@dataclass(frozen=True, slots=True)
class Destinations:
    """Networks and name patterns, as people write them in `to`."""

    networks: tuple[IPv6Network, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Destinations:
        """Every text that is an address or a network is one; the others are name patterns."""
        networks = {text: _network(text) for text in texts}
        return cls(
            tuple(network for network in networks.values() if network),
            tuple(text for text, network in networks.items() if not network),
        )

    def covers(self, names: pl.Series, inventory: Inventory, trusts_names: pl.Expr) -> pl.Expr:
        """Whether these destinations cover every address outside that an entry involves.

        Networks speak for any address, names for the innermost one only. Needs `inner_is_outside` and
        `outer_is_outside`; an entry that stayed inside is judged by its inner address.
        """
        inner = lies_in(pl.col("remote_ip"), self.networks) | self._is_named(names, inventory, trusts_names)
        outer = lies_in(pl.col("outer_ip"), self.networks)
        is_internal = ~pl.col("inner_is_outside") & ~pl.col("outer_is_outside")
        is_covered = (inner | ~pl.col("inner_is_outside")) & (outer | ~pl.col("outer_is_outside"))
        return pl.when(is_internal).then(inner).otherwise(is_covered)

    def _is_named(self, names: pl.Series, inventory: Inventory, trusts_names: pl.Expr) -> pl.Expr:
        """Whether the name matches, and rests on evidence that the sender cannot make."""
        is_match = _one_pattern(self.names).match
        matching = [name for name in names.unique() if name and is_match(_plain(name))]
        # Without declared resolvers anybody's DNS answers were read, for display; the sender can run a resolver too.
        is_evident = (pl.col("name_from") == "dns") & pl.lit(bool(inventory.config.fleet.resolvers))
        return pl.col("name").is_in(matching) & (is_evident | trusts_names)


def name_matches(name: str, pattern: str) -> bool:
    return _one_pattern([pattern]).match(_plain(name)) is not None


def _one_pattern(globs: Sequence[str]) -> re.Pattern[str]:
    """Matches plain names that any of the globs names."""
    return re.compile("|".join(translate(_plain(glob)) for glob in globs) or r"(?!)")


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _network(text: str) -> IPv6Network | None:
    try:
        return network_of(text)
    except ValueError:
        return None


def cap(entries: pl.DataFrame, approvals: Sequence[Approval]) -> pl.DataFrame:
    """Adds `covered`, the bytes of each entry inside the caps of its approval, and `cap`, what was exceeded.

    Entries must be in time order. A cap holds for each host and UTC day; of what one peer is allowed, nothing beyond
    counts against the cap of the day.
    """
    if (entries["approval"] == NONE).all():
        return entries.with_columns(covered=pl.lit(0, pl.Int64), cap=pl.lit(""))
    caps = pl.DataFrame(
        {
            "approval": range(len(approvals)),
            "day_cap": [approval.bytes_per_day for approval in approvals],
            "peer_cap": [approval.bytes_per_peer_per_day for approval in approvals],
        },
        schema={"approval": pl.Int32, "day_cap": pl.Int128, "peer_cap": pl.Int128},
    )
    capped = entries.join(caps, on="approval", how="left", maintain_order="left")
    capped = capped.with_columns(
        day=pl.col("minute") // DAY_US,
        peer=peer_of(pl.when("inner_is_outside").then("remote_ip").otherwise("outer_ip")),
        day_cap=pl.col("day_cap").fill_null(0),
        peer_cap=pl.when(pl.col("approval") == NONE).then(0).otherwise(pl.col("peer_cap").fill_null(UNCAPPED)),
    )
    capped = capped.with_columns(of_peer=_within("bytes", "peer_cap", ("approval", "host", "peer", "day")))
    capped = capped.with_columns(covered=_within("of_peer", "day_cap", ("approval", "host", "day")))
    exceeded = (
        pl.when(pl.col("covered") < pl.col("of_peer"))
        .then(pl.lit("day"))
        .when(pl.col("of_peer") < pl.col("bytes"))
        .then(pl.lit("peer"))
        .otherwise(pl.lit(""))
    )
    has_approval = pl.col("approval") != NONE
    exceeded = pl.when(has_approval).then(exceeded).otherwise(pl.lit(""))
    return capped.with_columns(cap=exceeded).drop("day", "peer", "day_cap", "peer_cap", "of_peer")


def _within(amount: str, limit: str, over: Sequence[str]) -> pl.Expr:
    """How much of each amount still fits under the limit, in order."""
    after = pl.col(amount).cast(pl.Int128).cum_sum().over(over)
    before = after - pl.col(amount)
    return (pl.min_horizontal(after, limit) - pl.min_horizontal(before, limit)).cast(pl.Int64)
