"""Kinds of theft by name, and a fleet's thefts of some kinds.

A theft takes a host that fewest thefts took before, and never changes honest traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from egress import coveredattacks, openattacks, patientattacks
from egress.fleetplan import Plan
from egress.sitepolicy import Policy
from egress.theftscene import Scene, Theft

HOSTS_A_REPEAT = 50
"""One more theft of every kind for so many hosts."""

KINDS: Mapping[str, Callable[[Scene], Theft]] = {
    "burst": openattacks.burst,
    "parallel": openattacks.parallel,
    "drip-days": patientattacks.drip_days,
    "drip-weeks": patientattacks.drip_weeks,
    "fan-out": openattacks.fan_out,
    "fan-out-holders": openattacks.fan_out_holders,
    "relay": openattacks.relay,
    "reverse-pull": openattacks.reverse_pull,
    "piggyback": coveredattacks.piggyback,
    "piggyback-receipted": coveredattacks.piggyback_receipted,
    "own-bucket": coveredattacks.own_bucket,
    "mimic-checkpoint": coveredattacks.mimic_checkpoint,
    "quantised": openattacks.quantised,
    "compressed": openattacks.compressed,
    "delta": openattacks.delta,
    "dns-tunnel": openattacks.dns_tunnel,
    "icmp-tunnel": openattacks.icmp_tunnel,
    "overlay": openattacks.overlay,
    "ipv6": openattacks.ipv6,
    "serving": coveredattacks.serving,
    "inside-copy": coveredattacks.inside_copy,
    "last-minute": coveredattacks.last_minute,
    "peaks": patientattacks.peaks,
    "ramp": patientattacks.ramp,
    "tolerated": patientattacks.tolerated,
    "gap": patientattacks.gap,
}


def thefts(plan: Plan, policy: Policy, kinds: Sequence[str], sampled: Sequence[int]) -> list[Theft]:
    """Thefts of these kinds, more of each the larger the fleet."""
    repeats = max(1, len(plan.machines) // HOSTS_A_REPEAT)
    scene = Scene(plan, plan.random("victims"), policy, sampled)
    found = []
    for kind in kinds:
        scene.rng = plan.random(f"theft {kind}")
        found += [KINDS[kind](scene) for _ in range(repeats)]
    return found
