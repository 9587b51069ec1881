"""Ways out of an AI host that the recordings try: each is played in a network of namespaces, and says what left.

Addresses: INSIDE and OUTSIDE of `network.py`; the fan-out has twenty of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.record.network import INSIDE, OUTSIDE, Network

PROGRAMS = str(Path(__file__).with_name("paths_programs.py"))
GPU, GPU6 = INSIDE["gpu"]
AGENT = INSIDE["agent"][0]
DROP, DROP6 = OUTSIDE["drop"], OUTSIDE["drop6"]
TWENTY = tuple(f"192.0.2.{number}" for number in range(1, 21))
PORT = "9999"
BIG_TCP_BYTES = "180000"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a way out is played, and the file that takes it."""

    network: Network
    folder: Path
    model: Path

    @property
    def size(self) -> int:
        return self.model.stat().st_size

    def start(self, where: str, *arguments: str) -> None:
        log = self.folder / f"{where}-{arguments[0]}.log"
        self.network.start(where, sys.executable, PROGRAMS, *arguments, log=log)

    def run(self, where: str, *arguments: str) -> None:
        self.network.run(where, sys.executable, PROGRAMS, *arguments)

    def link(self, where: str, *arguments: str) -> None:
        self.network.run(where, "ip", *arguments)


@dataclass(frozen=True, slots=True)
class Left:
    """What should be charged: to which host, to which addresses, how many bytes of the model's file."""

    host: str
    to: frozenset[str]
    bytes: int
    inner: str = ""
    """Where the packets inside a tunnel go; only the tunnel's end is a place outside."""


@dataclass(frozen=True, slots=True)
class WayOut:
    play: Callable[[Stage], Left]
    where: str = "gpu"
    interface: str = "eth0"
    views: int = 1
    """How often the capture holds each packet."""


def tcp_over_ipv6(stage: Stage) -> Left:
    stage.start("outside", "sink", DROP6, PORT)
    stage.run("gpu", "send", DROP6, PORT, str(stage.model))
    return Left("gpu-01", frozenset({DROP6}), stage.size)


def big_tcp(stage: Stage) -> Left:
    """Frames beyond 64 KiB: IPv6 with payload length 0 or a jumbogram header."""
    stage.link("gpu", "link", "set", "eth0", "gso_max_size", BIG_TCP_BYTES)
    return tcp_over_ipv6(stage)


def udp_datagrams(stage: Stage) -> Left:
    stage.run("gpu", "datagrams", DROP, PORT, "1400", str(stage.model))
    return Left("gpu-01", frozenset({DROP}), stage.size)


def udp_fragments(stage: Stage) -> Left:
    """Datagrams of 8 kB over an MTU of 1500: five of six packets have no ports."""
    stage.run("gpu", "datagrams", DROP, PORT, "8000", str(stage.model))
    return Left("gpu-01", frozenset({DROP}), stage.size)


def udp_fragments_over_ipv6(stage: Stage) -> Left:
    stage.run("gpu", "datagrams", DROP6, PORT, "8000", str(stage.model))
    return Left("gpu-01", frozenset({DROP6}), stage.size)


def icmp_echo(stage: Stage) -> Left:
    stage.run("gpu", "echo", DROP, str(stage.model))
    return Left("gpu-01", frozenset({DROP}), stage.size)


def fan_out(stage: Stage) -> Left:
    """A twentieth to each of twenty addresses in one /24."""
    for address in TWENTY:
        stage.link("outside", "address", "add", address, "dev", "lo")
    stage.start("outside", "sink", "0.0.0.0", PORT)
    data, share = stage.model.read_bytes(), -(-stage.size // len(TWENTY))
    for number, address in enumerate(TWENTY):
        part = stage.folder / "part"
        part.write_bytes(data[number * share : (number + 1) * share])
        stage.run("gpu", "send", address, PORT, str(part))
    return Left("gpu-01", frozenset(TWENTY), stage.size)


def relay(stage: Stage) -> Left:
    """The neighbour, which holds nothing, hands the model on; seen at the neighbour."""
    stage.start("outside", "sink", DROP, PORT)
    stage.start("agent", "relay", AGENT, PORT, DROP, PORT)
    stage.run("gpu", "send", AGENT, PORT, str(stage.model))
    time.sleep(0.5)  # until the relay has sent the rest
    return Left("agent-02", frozenset({DROP}), stage.size)


def seen_on_every_port(stage: Stage) -> Left:
    """`-i any` on the switch: each packet shows up on two ports and on the bridge itself."""
    stage.start("outside", "sink", DROP, PORT)
    stage.run("gpu", "send", DROP, PORT, str(stage.model))
    return Left("gpu-01", frozenset({DROP}), stage.size)


def through(kind: str) -> Callable[[Stage], Left]:
    """Inside a tunnel between private addresses: only the outer destination says where to."""
    mine, remote = ("fd99::1", "fd99::2") if kind == "6in4" else ("10.99.0.1", "10.99.0.2")
    bits = "/64" if kind == "6in4" else "/24"

    def play(stage: Stage) -> Left:
        stage.start("gpu", "tunnel", kind, GPU, DROP, mine + bits)
        stage.start("outside", "tunnel", kind, DROP, GPU, remote + bits)
        time.sleep(0.5)  # until both devices are up
        stage.start("outside", "sink", remote, PORT)
        stage.run("gpu", "send", remote, PORT, str(stage.model))
        return Left("gpu-01", frozenset({DROP}), stage.size, remote)

    return play


WAYS_OUT = {
    "tcp_over_ipv6": WayOut(tcp_over_ipv6),
    "big_tcp": WayOut(big_tcp),
    "udp_datagrams": WayOut(udp_datagrams),
    "udp_fragments": WayOut(udp_fragments),
    "udp_fragments_over_ipv6": WayOut(udp_fragments_over_ipv6),
    "icmp_echo": WayOut(icmp_echo),
    "fan_out": WayOut(fan_out),
    "relay": WayOut(relay, where="agent"),
    "seen_on_every_port": WayOut(seen_on_every_port, where="switch", interface="any", views=2),
    **{f"through_{kind}": WayOut(through(kind)) for kind in ("gre", "ipip", "6in4", "geneve", "gtp")},
}
