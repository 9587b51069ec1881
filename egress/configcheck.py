"""What a configuration says that is allowed, and yet hardly meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address

from egress.addresses import text_of
from egress.config import Config
from egress.inventory import ROLE_PREFIX, Inventory
from egress.schema import V4_MAPPED_PREFIX
from egress.words import moment


def warnings(config: Config) -> tuple[str, ...]:
    """One sentence for each doubtful thing, in the order of the file. Judges no dates: time comes from the record."""
    if config.is_assumed:
        return ("no model is declared: every inside address is taken to hold one, and findings say so",)
    inventory = Inventory(config)
    return (
        *_fleet_warnings(config),
        *_family_warnings(inventory),
        *_model_warnings(config, inventory),
        *_approval_warnings(config, inventory),
        *_suppression_warnings(config, inventory),
        *_event_warnings(config),
        *_unused_warnings(config),
    )


def expired(config: Config, now: int) -> Iterator[str]:
    """What held once and holds no more at `now` (UTC microseconds): each is in the file for nothing."""
    for name, rules in (("approvals", config.approvals), ("suppressions", config.suppressions)):
        for rule in rules:
            if rule.expires <= now:
                yield f"{name}: {rule.id} of {rule.owner} expired on {moment(rule.expires)[:10]}; renew it or remove it"


def _fleet_warnings(config: Config) -> Iterator[str]:
    if not config.fleet.internal:
        yield "fleet.internal is empty: every address that no host lists is outside"
    networks = config.fleet.internal
    for host in config.fleet.hosts:
        for address in host.addresses:
            if networks and not any(IPv6Address(address) in network for network in networks):
                yield f"fleet.hosts: {text_of(address)} of {host.id} is not in fleet.internal; it counts as inside"
    roles = {host.role for host in config.fleet.hosts}
    for role in config.fleet.roles:
        if role.id not in roles:
            yield f"fleet.roles: no host has the role {role.id}"


def _family_warnings(inventory: Inventory) -> Iterator[str]:
    """A holder may speak IPv6 without being asked; by such an address nobody knows it, unless it is listed."""
    families = {_family(network.network_address.packed) for network in inventory.config.fleet.internal}
    for host in inventory.config.fleet.hosts:
        listed = {_family(address) for address in host.addresses}
        for family in sorted(families - listed) if listed and inventory.models_of(host.id) else ():
            yield f"fleet.hosts: {host.id} holds a model and lists no {family} address; by such a one it is a stranger"


def _family(address: bytes) -> str:
    return "IPv4" if address.startswith(V4_MAPPED_PREFIX) else "IPv6"


def _model_warnings(config: Config, inventory: Inventory) -> Iterator[str]:
    for model in config.models:
        if not model.holders:
            yield f"models: {model.id} has no holders; it is never charged"
        for pattern in _unmatched(inventory, model.holders):
            yield f"models: holder {pattern} of {model.id} matches no host"


def _approval_warnings(config: Config, inventory: Inventory) -> Iterator[str]:
    for approval in config.approvals:
        for pattern in _unmatched(inventory, approval.hosts):
            yield f"approvals: {pattern} in hosts of {approval.id} matches no host"
        if approval.names and not approval.trust_names and not config.fleet.resolvers:
            yield (
                f"approvals: {approval.id} approves by name, but fleet.resolvers is empty: no name has evidence, "
                "so it approves nothing by name"
            )
        if approval.receipts == ():
            yield f"approvals: the receipts file of {approval.id} holds no receipt for it"


def _suppression_warnings(config: Config, inventory: Inventory) -> Iterator[str]:
    for rule in config.suppressions:
        for pattern in _unmatched(inventory, rule.hosts):
            yield f"suppressions: {pattern} in hosts of {rule.id} matches no host"


def _event_warnings(config: Config) -> Iterator[str]:
    models = {model.id for model in config.models}
    for event in config.lifecycle:
        if event.model and event.model not in models:
            yield f"lifecycle: {event.event} is about {event.model}, which is not declared"


def _unused_warnings(config: Config) -> Iterator[str]:
    if config.clickhouse is not None:
        yield f"clickhouse: no command reads this section yet; give --store {config.clickhouse.url} instead"


def _unmatched(inventory: Inventory, patterns: Sequence[str]) -> Iterator[str]:
    """Patterns that match no listed host. One that looks like an address may yet match an unlisted host."""
    hosts = [host.id for host in inventory.config.fleet.hosts]
    for pattern in patterns:
        is_address_like = not pattern.startswith(ROLE_PREFIX) and not pattern.strip("0123456789abcdef.:*?")
        if not is_address_like and not any(inventory.matches((pattern,), host) for host in hosts):
            yield pattern
