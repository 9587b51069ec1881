"""Sends a file as UDP datagrams: `udp_sender.py ADDRESS PORT FILE`; the kernel cuts large writes (UDP_SEGMENT)."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

UDP_SEGMENT = 103
"""linux/udp.h; Python 3.11 has no name for it."""
DATAGRAM_BYTES = 1400
WRITE_BYTES = 44 * DATAGRAM_BYTES

address, port, file = sys.argv[1:]
data = Path(file).read_bytes()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM_BYTES)
    for at in range(0, len(data), WRITE_BYTES):
        sender.sendto(data[at : at + WRITE_BYTES], (address, int(port)))
        time.sleep(0.005)
