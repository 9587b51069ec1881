"""Rules that take findings of detectors out of the queue, and keep them: marked, counted, until a date.

What the ledger says is never touched, and no more is what it took in of detectors (`findings.fuse`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from egress.addresses import network_of
from egress.config import Suppression
from egress.contracts import Finding, Level
from egress.inventory import Inventory
from egress.suppressionkeys import COUNTING
from egress.words import moment


def suppress(findings: Iterable[Finding], inventory: Inventory) -> Iterator[Finding]:
    """The same findings in the same order; those that a rule covers name the first one that does."""
    for finding in findings:
        rule = next((rule for rule in inventory.config.suppressions if _covers(rule, finding, inventory)), None)
        yield finding if rule is None else _marked(finding, rule)


def _covers(rule: Suppression, finding: Finding, inventory: Inventory) -> bool:
    """A finding that grew after the rule had expired is not covered any more."""
    if finding.detector in COUNTING or finding.detector not in rule.detectors:
        return False
    if finding.level > Level[rule.max_level.upper()] or finding.last_seen >= rule.expires:
        return False
    return inventory.matches(rule.hosts, finding.host) and _is_there(rule, finding)


def _is_there(rule: Suppression, finding: Finding) -> bool:
    """Whether all that it went to lies in the rule's networks; several destinations without a name do so in none."""
    if not rule.to:
        return True
    places = [network_of(place.group) for place in finding.destinations]
    return bool(places) and all(any(place.subnet_of(network) for network in rule.to) for place in places)


def _marked(finding: Finding, rule: Suppression) -> Finding:
    reason = f"suppressed by rule {rule.id} of {rule.owner} until {moment(rule.expires)}: {rule.reason}"
    return replace(finding, suppressed_by=rule.id, reasons=(*finding.reasons, reason))
