"""A small network of namespaces: a switch, two AI hosts, a resolver inside, and everybody outside behind a gateway.

Everything is named after this process, so that two runs never meet, and taken down again on leaving the `with` block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

INSIDE = {"gpu": ("10.20.1.7", "fd20::1:7"), "agent": ("10.20.2.3", "fd20::2:3"), "inside": ("10.20.0.53", "fd20::53")}
GATEWAY = ("10.20.0.1", "fd20::1")
OUTSIDE = {
    "backup": "203.0.113.80",
    "api": "203.0.113.44",
    "hub": "198.51.100.60",
    "outsider": "198.51.100.23",
    "drop": "198.51.100.99",
    "backup6": "2001:db8:80::80",
    "drop6": "2001:db8:99::99",
}
"""Addresses reserved for documentation (RFC 5737, RFC 3849)."""


class Network:
    """Namespaces `gpu`, `agent`, `inside` and `outside` on one switch. Needs root and iproute2."""

    def __init__(self) -> None:
        self._names = {name: f"egress-{name}-{os.getpid()}" for name in ("switch", *INSIDE, "outside")}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def run(self, where: str, *command: str, timeout_s: float = 120) -> str:
        """What `command` prints in a namespace; raises CalledProcessError where it fails."""
        done = subprocess.run(
            self._inside(where, command), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s
        )
        return done.stdout.decode()

    def start(self, where: str, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """A program that runs in a namespace until it is stopped or the network goes."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._inside(where, command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(timeout=10)
        self._running.remove(process)

    def _inside(self, where: str, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self._names[where], *command]

    def _build(self) -> None:
        for name in self._names.values():
            _ip("netns", "add", name)
        self.run("switch", "ip", "link", "add", "lan", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        self.run("switch", "ip", "link", "set", "lan", "up")
        for name, addresses in (*INSIDE.items(), ("outside", GATEWAY)):
            self._plug_in(name, addresses)
        for address in OUTSIDE.values():
            self.run("outside", "ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        for name in INSIDE:
            self.run(name, "ip", "route", "add", "default", "via", GATEWAY[0])
            self.run(name, "ip", "-6", "route", "add", "default", "via", GATEWAY[1])
            self._use_resolver(name)

    def _plug_in(self, name: str, addresses: tuple[str, str]) -> None:
        port = f"to-{name}"
        self.run("switch", "ip", "link", "add", port, "type", "veth", "peer", "eth0", "netns", self._names[name])
        self.run("switch", "ip", "link", "set", port, "master", "lan", "up")
        self.run(name, "ip", "link", "set", "lo", "up")
        self.run(name, "ip", "address", "add", f"{addresses[0]}/16", "dev", "eth0")
        self.run(name, "ip", "address", "add", f"{addresses[1]}/64", "dev", "eth0", "nodad")
        self.run(name, "ip", "link", "set", "eth0", "up")

    def _use_resolver(self, name: str) -> None:
        """`ip netns exec` puts this file in place of /etc/resolv.conf."""
        folder = Path("/etc/netns") / self._names[name]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(f"nameserver {INSIDE['inside'][0]}\n")

    def _remove(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(timeout=10)
        self._running.clear()
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
