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


def _reason(code: int, value: int) -> tuple[str, str]:
    """(counter, what was wrong)."""
    match code:
        case p.TRUNCATED_LINK:
            return "truncated_before_ip", f"link header needs {value} bytes, fewer were captured"
        case p.TRUNCATED_IP:
            return "truncated_before_ip", f"{value} bytes of the IP header were captured, at least 20 (IPv6: 40) needed"
        case p.LINK_TYPE:
            return f"link_type_{value}", f"link type {value} is not decoded"
        case p.ETHERTYPE:
            return f"ethertype_0x{value:04x}", f"ethertype 0x{value:04x} is not IP"
        case p.ARP:
            return "arp", "ARP is not IP"
        case p.LLC:
            return "llc", f"802.2 LLC with SAPs 0x{value:04x} is not IP"
        case p.PPP:
            return "ppp_control", f"PPP protocol 0x{value:04x} is not IP"
        case p.MPLS:
            return "mpls_unknown", f"what follows the labels starts with {value}, which is not IP"
        case p.NULL_FAMILY:
            return "loopback_family", f"address family {value} is not IP"
        case p.IP_VERSION:
            return "ip_version", f"IP version {value} where 4 or 6 was announced"
        case p.IPV4_HEADER:
            return "ipv4_header_malformed", f"IPv4 header length {value}, at least 20 and at most the packet needed"
        case p.IPV6_HEADER:
            return "ipv6_header_malformed", f"IPv6 payload length {value} is impossible here"
        case p.UNKNOWN_INTERFACE:
            return "unknown_interface", "its interface was never described"
        case _:
            return "empty_frame", "no byte of it was captured"


class SkipCounter:
    """Counts of the reading so far, by reason, with the first examples of each."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def count(
        self, verdicts: Words, frames: Frames, locate: Callable[[int], str]
    ) -> tuple[dict[str, Count], list[Skipped]]:
        """What of these frames was skipped; `locate` says where frame i is."""
        skipped = np.flatnonzero(verdicts)
        counts: dict[str, Count] = {}
        examples: list[Skipped] = []
        words, first, which = np.unique(verdicts[skipped], return_index=True, return_inverse=True)
        wire = np.zeros(len(words), np.int64)
        np.add.at(wire, which, frames.wire[skipped])
        number = np.bincount(which, minlength=len(words))
        for k in np.argsort(first, kind="stable"):
            reason, what = _reason(int(words[k]) & 0xFF, int(words[k]) >> 8)
            if reason not in self._known and len(self._known) >= MAX_REASONS:
                reason = "other_" + reason.rstrip("0123456789abcdefx").rstrip("_")
            seen = self._known.get(reason, 0)
            for i in skipped[which == k][: max(0, MAX_EXAMPLES - seen)]:
                examples.append(Skipped(reason, locate(int(i)), f"{what}; frame skipped"))
            self._known[reason] = seen + int(number[k])
            counts[reason] = counts.get(reason, Count()) + Count(int(number[k]), int(wire[k]))
        return counts, examples
