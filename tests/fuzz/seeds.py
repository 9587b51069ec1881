"""Writes what the fuzzer starts from into `corpus/`, out of the project's own recordings: `seeds.py`."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.dns import DNS
from scapy.layers.inet import TCP
from scapy.packet import Packet
from scapy.utils import PcapNgWriter, PcapWriter, rdpcap
from targets import LINKS

from collectors import quic
from egress import companions, configfile, configkeys
from egress.segments import Parcel, framed

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
FRAMES = 12
"""Of each recording: the handshake and the name stand in the first few."""


def main() -> None:
    for target, seed in [*seeds(), *(("cut", seed) for target, seed in seeds() if target == "capture")]:
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    lines: dict[str, set[str]] = {}
    for target, word in words():
        escaped = word.replace('"', "\\x22")
        lines.setdefault(target, set()).add(f'"{escaped}"\n')
    (HERE / "words").mkdir(exist_ok=True)
    for target, found in lines.items():
        (HERE / "words" / target).write_text("".join(sorted(found)))


def words() -> Iterator[tuple[str, str]]:
    """(target, word): what a mutation would take long to spell."""
    for section in configkeys.SECTIONS:
        yield from (("config", word) for word in (section.heading, *(f"{key.name} = " for key in section.keys)) if word)
    for section in (companions.LIFECYCLE, companions.RECEIPTS):
        yield from (("lifecycle", f'"{key.name}": ') for key in section.keys)
    yield from (("lifecycle", f'"{event}"') for event in companions.NEEDED)
    yield from (("http", word) for word in ("CONNECT ", "GET http://", " HTTP/1.1\\x0a", "Host: "))


def seeds() -> Iterator[tuple[str, bytes]]:
    """(target, input)."""
    for path in sorted(DATA.glob("*/*.pcap")):
        packets = rdpcap(str(path), count=FRAMES)
        yield "capture", written(list(packets), PcapWriter)
        link = LINKS.index(276) if "any" in path.name else LINKS.index(1)
        yield "frames", bytes([link, 0]) + b"".join(map(_framed, packets))
        yield from _payloads(list(packets))
    recording = list(rdpcap(str(DATA / "demo" / "ordinary_day.pcap"), count=FRAMES))
    yield "capture", written(recording, PcapNgWriter)
    yield "capture", gzip.compress(written(recording, PcapWriter), mtime=0)
    demo = DATA / "demo"
    yield "config", (demo / "egress.toml").read_bytes()
    yield "config", configfile.template().encode()
    yield "lifecycle", (demo / "lifecycle.jsonl").read_bytes()
    beats = (DATA / "wire" / "egress.heartbeats.v1.bin").read_bytes()
    yield "wire", zstandard.ZstdDecompressor().decompress(beats)
    parcels = [Parcel("flows", b"h1", b"value", (("seq", b"0"), ("rows", b"1"))), Parcel("heartbeats", b"", b"")]
    yield "spool", b"".join(piece for number, each in enumerate(parcels) for piece in framed(number, each))
    message = (DATA / "goflow" / "netflow9.bin").read_bytes()
    yield "goflow", message[: message[0] + 1]
    yield "goflow", (DATA / "goflow" / "netflow9.json").read_bytes().splitlines()[0]


def _framed(packet: Packet) -> bytes:
    """As the target `frames` reads it."""
    raw = bytes(packet)[:200]
    return bytes([len(raw)]) + (packet.wirelen - len(raw)).to_bytes(2, "big") + b"\1" + raw


def written(packets: list[Packet], kind: type[PcapWriter] | type[PcapNgWriter]) -> bytes:
    """A capture file; scapy's writers need a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        writer = kind(str(path))
        writer.write(packets)
        writer.close()
        return path.read_bytes()


def initial(hello: bytes, connection_id: bytes = b"egressgo") -> bytes:
    """A QUIC version 1 Initial packet whose CRYPTO frame carries this handshake (RFC 9001, 5)."""
    frames = b"\x06\x00" + (0x4000 | len(hello)).to_bytes(2, "big") + hello
    frames += bytes(max(0, 1162 - len(frames)))
    size = len(frames) + 16 + 1
    header = (
        b"\xc0\0\0\0\1" + bytes([len(connection_id)]) + connection_id + b"\0\0" + (0x4000 | size).to_bytes(2, "big")
    )
    secret = quic._expand(quic.hmac.digest(quic.SALTS[1], connection_id, "sha256"), b"client in", 32)
    key, iv, mask_key = (
        quic._expand(secret, b"quic " + what, length) for what, length in ((b"key", 16), (b"iv", 12), (b"hp", 16))
    )
    sealed = AESGCM(key).encrypt(iv, frames, header + b"\0")
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(sealed[3:19])
    return bytes([header[0] ^ mask[0] & 0x0F]) + header[1:] + bytes([mask[1]]) + sealed


def _payloads(packets: list[Packet]) -> Iterator[tuple[str, bytes]]:
    for packet in packets:
        if packet.haslayer(DNS) and packet[DNS].qr:
            yield "dns", bytes(packet[DNS])
        payload = bytes(packet[TCP].payload) if packet.haslayer(TCP) else b""
        if payload[:2] == b"\x16\x03" and payload[5:6] == b"\x01":
            yield "tls", payload
            hello = payload[5:]
            yield "quic_frames", b"\x06\x00" + (0x4000 | len(hello)).to_bytes(2, "big") + hello
            datagram = initial(hello)
            yield "quic", len(datagram).to_bytes(2, "big") + datagram
            yield "quic", (600).to_bytes(2, "big") + datagram
        elif payload[:4] in (b"PUT ", b"GET ", b"POST"):
            yield "http", payload


if __name__ == "__main__":
    main()
