"""The server name in the Initial packets that a QUIC client sends (RFC 9000, 17.2.2; RFC 9001, 5; v2: RFC 9369).

Initial packets are encrypted with keys that follow from the connection id in them, so everybody can read them. A packet
that was captured whole must carry a good tag; of one that was cut short the part that is there is decrypted unverified.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collectors.kernels.tls import ABSENT, FOUND, read_hello

TAG_BYTES = 16
MAX_CONNECTION_ID = 20
MAX_STREAM = 8192
"""A ClientHello longer than this is not put together; with two post-quantum key shares it takes about 3,000 bytes."""
MAX_FRAMES = 256

_V1 = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_V2 = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
_DRAFT_29 = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
_DRAFT_23 = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")

SALTS = {
    0x00000001: _V1,
    0x6B3343CF: _V2,
    **{0xFF000000 | draft: _V1 for draft in (33, 34)},
    **{0xFF000000 | draft: _DRAFT_29 for draft in range(29, 33)},
    **{0xFF000000 | draft: _DRAFT_23 for draft in range(23, 29)},
}
"""Initial salts by version: RFC 9001, 5.2; RFC 9369, 3.3.1; the drafts' own section 5.2."""


@dataclass(frozen=True, slots=True)
class Initial:
    """Where the parts of a protected Initial packet are."""

    version: int
    connection_id: bytes
    number_at: int
    end: int
    """Where the packet ends; past the datagram's end if the capture cut it."""


def server_name(datagrams: Sequence[bytes]) -> tuple[int, bytes]:
    """(`tls.ABSENT | FOUND | CUT`, name as sent) from the first datagrams that a client sent on one connection."""
    pieces: list[tuple[int, bytes]] = []
    first_id: bytes | None = None
    is_open = False
    for datagram in datagrams:
        packet = _initial(datagram)
        if packet is None:
            continue
        first_id = first_id or packet.connection_id
        plain = _open(datagram, packet, first_id)
        if plain is None and packet.connection_id != first_id:
            # After a Retry the keys follow from the new connection id (RFC 9001, 5.2).
            plain = _open(datagram, packet, packet.connection_id)
        if plain is None:
            continue
        is_open = True
        pieces.extend(_crypto_frames(plain))
    stream = np.frombuffer(_joined(pieces), np.uint8).copy()
    state, start, end = read_hello(stream, 0, stream.size)
    if state == FOUND:
        return FOUND, stream[start:end].tobytes()
    return (state if is_open else ABSENT), b""


def client_keys(version: int, connection_id: bytes) -> tuple[bytes, bytes, bytes]:
    """Key, IV and header protection key of the Initial packets that a client sends (RFC 9001, 5.2)."""
    salt = SALTS[version]
    prefix = b"quicv2 " if salt is _V2 else b"quic "
    secret = _expand(hmac.digest(salt, connection_id, "sha256"), b"client in", 32)
    return (
        _expand(secret, prefix + b"key", 16),
        _expand(secret, prefix + b"iv", 12),
        _expand(secret, prefix + b"hp", 16),
    )


def _initial(datagram: bytes) -> Initial | None:
    if len(datagram) < 7 or datagram[0] & 0xC0 != 0xC0:
        return None
    version = int.from_bytes(datagram[1:5], "big")
    kind = datagram[0] >> 4 & 3
    if version not in SALTS or kind != (1 if SALTS[version] is _V2 else 0):
        return None
    size = datagram[5]
    connection_id = datagram[6 : 6 + size]
    at = 6 + size
    if size > MAX_CONNECTION_ID or at >= len(datagram):
        return None
    at += 1 + datagram[at]
    token, at = _varint(datagram, at)
    length, at = _varint(datagram, at + token)
    if at + 4 + TAG_BYTES > len(datagram) or length < 4 + TAG_BYTES:
        return None
    return Initial(version, connection_id, at, at + length)


def _open(datagram: bytes, packet: Initial, connection_id: bytes) -> bytes | None:
    """The packet's frames; None where the tag says that these are not its keys."""
    key, iv, mask_key = client_keys(packet.version, connection_id)
    at = packet.number_at
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(datagram[at + 4 : at + 20])
    first = datagram[0] ^ mask[0] & 0x0F
    number_size = (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[at : at + number_size], mask[1:], strict=False))
    nonce = (int.from_bytes(iv, "big") ^ int.from_bytes(number, "big")).to_bytes(12, "big")
    body = datagram[at + number_size : packet.end]
    if packet.end > len(datagram):
        return Cipher(algorithms.AES(key), modes.CTR(nonce + b"\0\0\0\2")).decryptor().update(body)
    header = bytes([first]) + datagram[1:at] + number
    try:
        return AESGCM(key).decrypt(nonce, body, header)
    except InvalidTag:
        return None


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with an empty context, one block (RFC 8446, 7.1; RFC 5869, 2.3)."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0" + b"\1"
    return hmac.digest(secret, info, "sha256")[:size]


def _crypto_frames(plain: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of each CRYPTO frame; stops at the first frame that no Initial may carry (RFC 9000, 12.4)."""
    at = 0
    for _ in range(MAX_FRAMES):
        at = len(plain) - len(plain[at:].lstrip(b"\0"))
        if at >= len(plain):
            return
        kind, at = plain[at], at + 1
        if kind in (2, 3):
            at = _skip_ack(plain, at, kind)
        elif kind == 6:
            offset, at = _varint(plain, at)
            size, at = _varint(plain, at)
            yield offset, plain[at : at + size]
            at += size
        elif kind != 1:
            return


def _skip_ack(plain: bytes, at: int, kind: int) -> int:
    _, at = _varint(plain, at)
    _, at = _varint(plain, at)
    ranges, at = _varint(plain, at)
    fields = 1 + 2 * min(ranges, MAX_FRAMES) + (3 if kind == 3 else 0)
    for _ in range(fields):
        _, at = _varint(plain, at)
    return at


def _joined(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    """The stream from offset 0 as far as it is without a gap."""
    stream = b""
    for offset, piece in sorted(pieces):
        if offset > len(stream) or len(stream) >= MAX_STREAM:
            break
        stream += piece[len(stream) - offset :]
    return stream[:MAX_STREAM]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of a variable-length integer (RFC 9000, 16); past the end it reads as 0."""
    if at >= len(data):
        return 0, len(data)
    size = 1 << (data[at] >> 6)
    value = int.from_bytes(data[at : at + size], "big")
    return value & ((1 << 8 * size - 2) - 1), at + size
