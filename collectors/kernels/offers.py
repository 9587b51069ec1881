"""Payloads that can carry a server's name are copied aside: DNS answers, first client bytes over TCP, QUIC initials."""

from __future__ import annotations

from collectors.kernels import entry as e
from collectors.kernels import packet as p
from collectors.kernels.compiled import step
from collectors.kernels.entry import Output, Table, entry_at
from collectors.kernels.octets import beyond, u8
from collectors.kernels.row_types import Bytes, Words

DNS, CLIENT_BYTES, QUIC_INITIAL = 1, 2, 3
MAX_OFFER = 2048
"""Bytes copied: two full Ethernet frames hold a ClientHello with post-quantum keys."""
TCP, UDP = 6, 17
HANDSHAKE = 22
"""First byte of a TLS record that holds a ClientHello."""
FIRST_CAPITAL, LAST_CAPITAL = 65, 90
"""An HTTP method begins with one of these."""


@step
def offer_payload(table: Table, out: Output, data: Bytes, packet: Words, slot: int, side: int) -> None:
    """Copy this packet's payload aside if it is of a kind that names anything."""
    proto = packet[p.PROTO]
    words = entry_at(table, slot)
    offered = words[e.STATE] // e.OFFERED & 3
    if proto == TCP and offered >= 2:  # most packets: first, for what is asked next is as good as random
        return
    at = packet[p.PAYLOAD_AT]
    if at == 0 or at >= packet[p.END] or packet[p.FRAGMENT] == p.LATER_FRAGMENT:
        return
    if proto == UDP and packet[p.SRC_PORT] == 53:
        copy(table, out, data, packet, 0, DNS)
        return
    if offered >= 2 or (words[e.STATE] & e.INITIATOR_IS_B != 0) != (side == 1):
        return
    if proto == TCP and packet[p.TCP_IS_READ]:
        offer_segment(table, out, data, packet, words, offered)
    elif proto == UDP and is_quic_initial(data, packet):
        words[e.STATE] += e.OFFERED
        copy(table, out, data, packet, words[e.FLOW_ID], QUIC_INITIAL)


@step
def offer_segment(table: Table, out: Output, data: Bytes, packet: Words, words: Words, offered: int) -> None:
    """The first segment, and the second if it follows the first in sequence and the first is whole."""
    length = packet[p.PAYLOAD]
    if length <= 0:
        return
    is_whole = packet[p.PAYLOAD_AT] + length <= packet[p.END] and length <= MAX_OFFER
    if offered == 1:
        if packet[p.JUMP] < 0:  # the first one again
            return
        words[e.STATE] += e.OFFERED
        if packet[p.JUMP] > 0:
            return
    else:
        words[e.STATE] += e.OFFERED if is_whole else 2 * e.OFFERED
        if not may_begin_hello(u8(data, packet[p.PAYLOAD_AT])):  # most: a capture begins amid conversations
            return
    copy(table, out, data, packet, words[e.FLOW_ID], CLIENT_BYTES)


@step
def may_begin_hello(first: int) -> bool:
    """What `tls.read_sni` and `http.read_host` ask of the first byte."""
    return first == HANDSHAKE or FIRST_CAPITAL <= first <= LAST_CAPITAL


@step
def is_quic_initial(data: Bytes, packet: Words) -> bool:
    """Long header, fixed bit, version 1 (RFC 9000) or 2 (RFC 9369)."""
    at = packet[p.PAYLOAD_AT]
    if at + 5 > packet[p.END] or u8(data, at) & 0xC0 != 0xC0:
        return False
    version = u8(data, at + 1) << 24 | u8(data, at + 2) << 16 | u8(data, at + 3) << 8 | u8(data, at + 4)
    return version in (1, 0x6B3343CF)


@step
def copy(table: Table, out: Output, data: Bytes, packet: Words, flow: int, kind: int) -> None:
    state = table.state
    at = packet[p.PAYLOAD_AT]
    length = min(packet[p.END] - at, MAX_OFFER)
    start = state[e.ARENA]
    for i in range(length):
        out.arena[start + i] = data[at + i]
    offer = beyond(out.offers, state[e.OFFERS] * e.OFFER_WIDTH)
    offer[e.OFFER_FRAME] = state[e.FRAME]
    offer[e.OFFER_FLOW] = flow
    offer[e.OFFER_KIND] = kind
    offer[e.OFFER_OFFSET] = start
    offer[e.OFFER_LENGTH] = length
    for i in range(2):
        offer[e.OFFER_CLIENT + i] = packet[p.DST_HI + i]
        offer[e.OFFER_RESOLVER + i] = packet[p.SRC_HI + i]
    state[e.OFFERS] += 1
    state[e.ARENA] = start + length
