"""Conversations as every tool can count them: unordered pairs of endpoints, sums each way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import polars as pl

from tests.corpus.oracle_decoder import ICMP, ICMP6, V4_MAPPED, Decoder, Packet
from tests.corpus.oracle_reader import frames

End = tuple[bytes, int]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A conversation without a direction: `low` <= `high`. ICMP has no ports here: tools disagree on what they are."""

    low: End
    high: End
    proto: int

    def __str__(self) -> str:
        return f"{self.proto} {_text(self.low)} {_text(self.high)}"


@dataclass(slots=True)
class Way:
    """What one side sent."""

    packets: int = 0
    ip_bytes: int = 0
    payload: int = 0
    frame_bytes: int = 0
    seen_bytes: int = 0
    """Frames as they were captured; IP bytes for what was inside a tunnel."""


Sums = dict[Key, tuple[Way, Way]]
"""(sent by `low`, sent by `high`)."""


def new_sums() -> Sums:
    return defaultdict(lambda: (Way(), Way()))


def key_of(src: End, dst: End, proto: int) -> tuple[Key, int]:
    """The conversation, and which of its two ways `src` sends."""
    if proto in (ICMP, ICMP6):
        src, dst = (src[0], 0), (dst[0], 0)
    way = int(src > dst)
    return Key(*sorted((src, dst)), proto), way


def address(text: str) -> bytes:
    """16 bytes, IPv4 as v4-mapped."""
    parsed = ip_address(text)
    return parsed.packed if isinstance(parsed, IPv6Address) else V4_MAPPED + parsed.packed


def of_capture(path: Path) -> tuple[Sums, Sums]:
    """What the independent reader and decoder make of a capture: its conversations, and those that carried others."""
    decoder, own, carriers = Decoder(), new_sums(), new_sums()
    for frame in frames(path):
        packet = decoder.packet(frame)
        if packet is None:
            continue
        whole = len(frame.data)
        _add(own, packet, frame.wire, packet.ip_bytes if packet.tunnel else whole)
        for place, carrier in enumerate(reversed(decoder.carriers)):
            _add(carriers, carrier, frame.wire, carrier.ip_bytes if place else whole)
    return own, carriers


def _add(sums: Sums, packet: Packet, frame_bytes: int, seen_bytes: int) -> None:
    key, way = key_of((packet.src, packet.src_port), (packet.dst, packet.dst_port), packet.proto)
    sent = sums[key][way]
    sent.packets += 1
    sent.ip_bytes += packet.ip_bytes
    sent.payload += packet.payload
    sent.frame_bytes += frame_bytes
    sent.seen_bytes += seen_bytes


def of_flows(batches: Iterable[pl.DataFrame]) -> Sums:
    """Our rows, summed over parts, flow ids and vantage points."""
    sums = new_sums()
    for flows in batches:
        for row in flows.iter_rows(named=True):
            src, dst = (row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])
            key, way = key_of(src, dst, row["proto"])
            back = 1 - way if key.low != key.high else way  # a host that talks to itself has one way only
            for side, sent in (("src", sums[key][way]), ("dst", sums[key][back])):
                sent.packets += row[f"{side}_packets"]
                sent.ip_bytes += row[f"{side}_bytes"]
                sent.payload += row[f"{side}_payload"]
    return sums


def _text(end: End) -> str:
    address = IPv6Address(end[0])
    return f"{address.ipv4_mapped or address}:{end[1]}" if address.ipv4_mapped else f"[{address}]:{end[1]}"
