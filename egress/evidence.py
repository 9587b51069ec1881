"""The packets of a finding: which conversations they belong to, and cutting them out of the captures they came in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Network, collapse_addresses
from pathlib import Path

import polars as pl

from egress import registry
from egress.addresses import bytes_of, network_of
from egress.contracts import Count, Finding, Selection
from egress.errors import UsageError
from egress.schema import NO_ADDRESS

MARGIN_US = 10_000_000
"""Before and after: one reporting part, so that the handshake and the last acknowledgements are there."""


def cut(finding: Finding, captures: Sequence[Path], out: Path, conversations: pl.DataFrame | None = None) -> Count:
    """Write the finding's packets to `out` (pcapng) with times and lengths as captured; frames and wire bytes.

    `conversations` are those of the store (`Store.conversations`): with them every address is known, without them those
    that the finding names. Raises UsageError where it names none, InputError where a capture is none.
    """
    return registry.packet_cutter()(captures, selection(finding, conversations), out)


def selection(finding: Finding, conversations: pl.DataFrame | None = None) -> Selection:
    """Everything between the finding's hosts and its destinations while it lasted, both ways."""
    theirs = {*_destinations(finding), *(_remote(seen) for seen in finding.evidence)}
    ours = {*_hosts(finding), *(_own(seen) for seen in finding.evidence)}
    start, end = finding.first_seen, finding.last_seen
    if conversations is not None and not conversations.is_empty():
        rows = list(_ends(conversations, _names(finding), theirs))
        ours.update(network for row in rows for network in row[0])
        theirs.update(network for row in rows for network in row[1])
        start = min([start, *(row[2] for row in rows)])
        end = max([end, *(row[3] for row in rows)])
    if not ours - {None} or not theirs - {None}:
        raise UsageError(f"finding {finding.uid[:8]}: names no address to cut by; replay its captures into a new store")
    return Selection(_least(ours), _least(theirs), start - MARGIN_US, end + MARGIN_US)


def _least(networks: Iterable[IPv6Network | None]) -> tuple[IPv6Network, ...]:
    """The same addresses in the fewest networks, sorted."""
    return tuple(collapse_addresses(network for network in networks if network is not None))


def _destinations(finding: Finding) -> Iterator[IPv6Network | None]:
    """Addresses, and the network where a group is one: a finding lists only the largest of its addresses."""
    for place in finding.destinations:
        yield _network(place.group)
        yield from map(_network, place.addresses)


def _hosts(finding: Finding) -> Iterator[IPv6Network | None]:
    """Hosts that are named by their address."""
    yield from map(_network, (finding.host, *(finding.path[:1])))


def _own(seen: Mapping[str, object]) -> IPv6Network | None:
    """The host's address in a conversation of the evidence."""
    return _network(str(seen["src_ip" if seen.get("initiator") == seen.get("host") else "dst_ip"]))


def _remote(seen: Mapping[str, object]) -> IPv6Network | None:
    return _network(str(seen["dst_ip" if seen.get("initiator") == seen.get("host") else "src_ip"]))


def _names(finding: Finding) -> frozenset[str]:
    """Server names and registrable domains that the finding is about."""
    return frozenset(name for place in finding.destinations for name in (place.group, *place.names) if name)


_Row = tuple[list[IPv6Network], list[IPv6Network], int, int]


def _ends(conversations: pl.DataFrame, names: frozenset[str], theirs: set[IPv6Network | None]) -> Iterator[_Row]:
    """Own and remote addresses, first and last time, of stored conversations with the finding's destinations."""
    networks = [network for network in theirs if network is not None]
    for row in conversations.iter_rows(named=True):
        source = [row["src_ip"], row["outer_src_ip"]]
        target = [row["dst_ip"], row["outer_dst_ip"]]
        own, remote = (target, source) if row["side"] == "dst" else (source, target)
        remotes = _single(remote)
        is_meant = any(_is_within(row["name"], name) for name in names)
        if is_meant or any(one.subnet_of(network) for one in remotes for network in networks):
            yield _single(own), remotes, row["first"], row["last"]


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


def _single(addresses: Sequence[bytes]) -> list[IPv6Network]:
    return [IPv6Network((address, 128)) for address in addresses if address != NO_ADDRESS]


def _network(text: str) -> IPv6Network | None:
    """The address or network that a text is; None for names, approval ids and nothing."""
    for read in (network_of, lambda each: IPv6Network((bytes_of(each), 128))):
        try:
            return read(text)
        except ValueError:
            continue
    return None
