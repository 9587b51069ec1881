"""Programs that move bytes in odd ways, for the recordings of `test_paths.py`; each is one command.

paths_programs.py sink ADDRESS PORT                 takes connections and forgets what they bring
paths_programs.py send ADDRESS PORT FILE...         a connection a file
paths_programs.py datagrams ADDRESS PORT SIZE FILE  UDP, SIZE bytes each: more than the MTU makes fragments
paths_programs.py echo ADDRESS FILE                 inside ICMP echo requests; the other side's kernel answers
paths_programs.py relay ADDRESS PORT NEXT PORT      hands on what it is given
paths_programs.py tunnel KIND MINE REMOTE ADDRESS   a TUN device whose packets travel in KIND (see TUNNELS)
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

PIECE_BYTES = 1 << 16
ECHO_BYTES = 1400
PAUSE_S = 0.0004
"""Between datagrams: about 3 MB/s, which neither tcpdump nor a socket buffer loses."""
TUN_MTU = 1400
CARRIER_BUFFER_BYTES = 16 << 20
"""Room for what comes faster than Python hands it on; else TCP sends a fifth again."""
SO_RCVBUFFORCE = 33
"""linux/socket.h; Python 3.11 has no name for it."""
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
UDP_PORTS = {"geneve": 6081, "gtp": 2152}
TUNNELS = {
    "ipip": (4, b""),
    "6in4": (41, b""),
    "gre": (47, bytes.fromhex("00000800")),
    "geneve": (0, bytes.fromhex("0000080000004d00")),
    "gtp": (0, bytes.fromhex("30ff00000000004d")),
}
"""IP protocol (0: UDP) and what stands before each inner packet."""


def sink(address: str, port: str) -> None:
    with _server(address, port) as listener:
        while True:
            threading.Thread(target=_drain, args=(listener.accept()[0],), daemon=True).start()


def send(address: str, port: str, *files: str) -> None:
    for file in files:
        with _connected(address, port) as connection:
            connection.sendall(Path(file).read_bytes())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(PIECE_BYTES):
                pass


def datagrams(address: str, port: str, size: str, file: str) -> None:
    data, step = Path(file).read_bytes(), int(size)
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
        for at in range(0, len(data), step):
            sender.sendto(data[at : at + step], (address, int(port)))
            time.sleep(PAUSE_S * max(1, step / 1400))


def echo(address: str, file: str) -> None:
    data = Path(file).read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        for number, at in enumerate(range(0, len(data), ECHO_BYTES)):
            body = data[at : at + ECHO_BYTES]
            header = struct.pack(">BBHHH", 8, 0, 0, 77, number & 0xFFFF)
            checksum = _checksum(header + body)
            sender.sendto(header[:2] + struct.pack(">H", checksum) + header[4:] + body, (address, 0))
            time.sleep(PAUSE_S)


def relay(address: str, port: str, following: str, following_port: str) -> None:
    with _server(address, port) as listener:
        while True:
            incoming = listener.accept()[0]
            with incoming, _connected(following, following_port) as outgoing:
                while piece := incoming.recv(PIECE_BYTES):
                    outgoing.sendall(piece)


def tunnel(kind: str, mine: str, remote: str, address: str) -> None:
    proto, before = TUNNELS[kind]
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"over", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", address, "dev", "over", *(["nodad"] if ":" in address else [])], check=True)
    subprocess.run(["ip", "link", "set", "over", "up", "mtu", str(TUN_MTU)], check=True)
    port = UDP_PORTS.get(kind, 0)
    kinds = (socket.SOCK_DGRAM, 0) if port else (socket.SOCK_RAW, proto)
    with socket.socket(socket.AF_INET, *kinds) as carrier:
        carrier.bind((mine, port))
        carrier.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, CARRIER_BUFFER_BYTES)
        while True:
            ready, _, _ = select.select([device, carrier], [], [])
            if device in ready:
                packet = os.read(device, PIECE_BYTES)
                carrier.sendto(_wrapped(kind, before, packet), (remote, port))
            if carrier in ready:
                packet = carrier.recv(PIECE_BYTES)
                skipped = len(before) + (0 if port else (packet[0] & 15) * 4)
                os.write(device, packet[skipped:])


def _wrapped(kind: str, before: bytes, packet: bytes) -> bytes:
    if kind == "gtp":
        return before[:2] + struct.pack(">H", len(packet)) + before[4:] + packet
    return before + packet


def _server(address: str, port: str) -> socket.socket:
    return socket.create_server((address, int(port)), family=_family(address), backlog=64)


def _connected(address: str, port: str) -> socket.socket:
    """Waits for a server that was started a moment ago."""
    for _ in range(100):
        try:
            return socket.create_connection((address, int(port)), timeout=20)
        except OSError:
            time.sleep(0.05)
    return socket.create_connection((address, int(port)), timeout=20)


def _drain(connection: socket.socket) -> None:
    with connection:
        while connection.recv(PIECE_BYTES):
            pass


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


if __name__ == "__main__":
    programs = {one.__name__: one for one in (sink, send, datagrams, echo, relay, tunnel)}
    programs[sys.argv[1]](*sys.argv[2:])
