"""`egress detect` as processes of its own on a real bus, fed with what collectors would send."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from egress import findingjson, inputs, ocsf, wire
from egress.config import Config, Kafka
from egress.contracts import ReadSettings
from egress.findings import in_order
from egress.inventory import Inventory
from egress.kafka import Producer, read_all
from egress.replay import Request, replay
from egress.wire import FLOWS_V1, Header

PATIENCE_S = 90.0
MAIN = "from egress.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Message:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def messages_of(paths: Sequence[Path], config: Config, rng: random.Random) -> list[Message]:
    """All rows of the inputs, host by host, cut anywhere but between two rows of one conversation."""
    inventory = Inventory(config)
    frames = [
        inventory.attribute(batch.flows)
        for collector, claimed in inputs.sort(inputs.expand(paths)).claimed
        for batch in collector.read(claimed, ReadSettings())
        if batch.flows.height
    ]
    rows = pl.concat(frames)
    return [
        message for (host,), part in rows.group_by("host", maintain_order=True) for message in _cut(host, part, rng)
    ]


def _cut(host: object, rows: pl.DataFrame, rng: random.Random) -> Iterator[Message]:
    flow_ids, start, seq = rows["flow_id"].to_list(), 0, 0
    while start < rows.height:
        end = min(rows.height, start + rng.choice([1, 2, 5, 20, 100]))
        while end < rows.height and flow_ids[end] == flow_ids[end - 1]:
            end += 1
        value, headers = wire.encode(
            rows[start:end], Header(FLOWS_V1, str(host), "replay", "", "file", seq, end - start)
        )
        yield Message(str(host).encode(), value, headers)
        start, seq = end, seq + 1


def send(settings: Kafka, messages: Sequence[Message], topic: str = "flows") -> None:
    with closing(Producer(settings)) as producer:
        for message in messages:
            producer.send(topic, message.key, message.value, message.headers)
        assert producer.flush(30)


def replayed(paths: Sequence[Path], config: Config) -> list[str]:
    return [ocsf.line(ocsf.event(finding)) for finding in replay(Request(tuple(paths), config)).findings]


def found_on(settings: Kafka) -> list[str]:
    """The findings that hold on the bus, as replay writes them."""
    held: dict[bytes, bytes | None] = {}
    for message in read_all(settings, "findings"):
        held[message.key or b""] = message.value
    found = [findingjson.decode(value.decode()) for value in held.values() if value is not None]
    return [ocsf.line(ocsf.event(finding)) for finding in in_order(found)]


def letters(settings: Kafka) -> list[str]:
    return [(message.value or b"").decode() for message in read_all(settings, "dlq")]


def written(settings: Kafka, topic: str) -> int:
    return sum(1 for _ in read_all(settings, topic))


def until(is_so: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.2)


@dataclass
class Fleet:
    """Processes of `egress detect`, each with a log file; those that are left are killed at the end."""

    settings: Kafka
    folder: Path
    toml: str
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        config = self.folder / "egress.toml"
        config.write_text(self.toml)
        out = (self.folder / f"detect-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "detect", "--config", str(config), *more],
            env={**os.environ, "POLARS_MAX_THREADS": "1", **self.environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        out.close()
        self.processes.append(process)
        return process

    def finish(self, *more: str) -> int:
        """Runs one more until there is nothing left to do."""
        return self.start("--until-idle", "2", *more).wait(PATIENCE_S)

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"detect-{self.processes.index(process)}.log").read_text()

    def log(self) -> str:
        return "".join(map(self.log_of, self.processes))


@contextmanager
def fleet(settings: Kafka, folder: Path, site: str = "", **environment: str) -> Iterator[Fleet]:
    """`site`: what stands in egress.toml beside the bus."""
    servers = ", ".join(f'"{server}"' for server in settings.servers)
    kafka = f'[kafka]\nservers = [{servers}]\nprefix = "{settings.prefix}"\npartitions = {settings.partitions}\n'
    made = Fleet(settings, folder, f"{site}\n{kafka}", environment)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
