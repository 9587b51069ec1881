"""Why frames were not metered: from the kernel's verdicts to counts and examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from collectors.kernels import packet as p
from collectors.kernels.entry import Frames
from collectors.kernels.row_types import Words
from egress.contracts import Count, Skipped

MAX_EXAMPLES = 5
MAX_REASONS = 64
"""Distinct reasons; further ethertypes and link types are pooled, for whoever sends chooses them."""


REASONS = {
    p.TRUNCATED_LINK: ("truncated_before_ip", "the link header needs {} bytes, fewer were captured"),
    p.TRUNCATED_IP: ("truncated_before_ip", "{} bytes of the IP header were captured, 20 (IPv6: 40) needed"),
    p.LINK_TYPE: ("link_type_{}", "link type {} is not decoded"),
    p.ETHERTYPE: ("ethertype_0x{:04x}", "ethertype 0x{:04x} is not IP"),
    p.ARP: ("arp", "ARP is not IP"),
    p.LLC: ("llc", "802.2 with access points 0x{:04x} is not IP"),
    p.PPP: ("ppp_control", "PPP protocol 0x{:04x} is not IP"),
    p.MPLS: ("mpls_unknown", "what follows the labels starts with {}, which is not IP"),
    p.NULL_FAMILY: ("loopback_family", "address family {} is not IP"),
    p.IP_VERSION: ("ip_version", "IP version {} where 4 or 6 was announced"),
    p.IPV4_HEADER: ("ipv4_header_malformed", "IPv4 header length {}, at least 20 and no more than the packet needed"),
    p.IPV6_HEADER: ("ipv6_header_malformed", "IPv6 payload length {} is impossible here"),
    p.UNKNOWN_INTERFACE: ("unknown_interface", "its interface was never described"),
    p.EMPTY: ("empty_frame", "no byte of it was captured"),
}
"""Verdict -> (counter, what was wrong); both may show the value that the verdict is about."""


class SkipCounter:
    """Counts of the reading so far, by reason, with the first examples of each."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def count(
        self, verdicts: Words, frames: Frames, locate: Callable[[int], str]
    ) -> tuple[dict[str, Count], list[Skipped]]:
        """What of these frames was skipped; `locate` says where frame i is."""
        skipped = np.flatnonzero(verdicts)
        if not skipped.size:
            return {}, []
        words, first, which = np.unique(verdicts[skipped], return_index=True, return_inverse=True)
        reason_of = np.empty(len(words), np.int64)
        reasons: dict[str, int] = {}
        for k in np.argsort(first, kind="stable"):
            reason_of[k] = reasons.setdefault(self._name(int(words[k])), len(reasons))
        by_reason = reason_of[which]
        number = np.bincount(by_reason, minlength=len(reasons))
        wire = np.zeros(len(reasons), np.int64)
        np.add.at(wire, by_reason, frames.wire[skipped])
        examples: list[Skipped] = []
        for reason, k in reasons.items():
            room = MAX_EXAMPLES - self._known[reason]
            for i in skipped[by_reason == k][:room] if room > 0 else ():
                examples.append(Skipped(reason, locate(int(i)), f"{_what(int(verdicts[i]))}; frame skipped"))
            self._known[reason] += int(number[k])
        counts = {reason: Count(int(number[k]), int(wire[k])) for reason, k in reasons.items()}
        return counts, examples

    def _name(self, verdict: int) -> str:
        """The counter of a verdict, pooled where there are too many already."""
        template = REASONS[verdict & 0xFF][0]
        reason = template.format(verdict >> 8)
        if reason not in self._known and len(self._known) >= MAX_REASONS:
            reason = "other_" + template.partition("_{")[0].partition("_0x")[0]
        self._known.setdefault(reason, 0)
        return reason


def _what(verdict: int) -> str:
    return REASONS[verdict & 0xFF][1].format(verdict >> 8)
