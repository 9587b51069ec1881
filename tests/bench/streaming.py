"""Everything at once on one machine: broker, collector, detector and store as processes, and the CPU each took."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from egress import wire
from egress.config import Kafka
from egress.kafka import Producer, make_topics, read_all
from egress.wire import FLOWS_V1, Header
from tests.services import broker

EGRESS = [sys.executable, "-c", "from egress.cli import main; raise SystemExit(main())"]
PARTITIONS = 4
IDLE_S = 20
"""The services end after so long without work, which is not counted."""
SETTLED_S = 2.0
SETTLED_SHARE = 0.05
"""Whoever takes less of a core for so long has nothing left to do."""
START_S = 5
"""Imports and joining a group happen once in months."""
TICKS = os.sysconf("SC_CLK_TCK")
POLL_S = 0.2
DONE_S = 900.0


@dataclass(frozen=True)
class Share:
    """What one piece took of the machine while the rows went through."""

    piece: str
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Run:
    """One stream from the first message sent to the last row stored and judged."""

    rows: int
    seconds: float
    shares: tuple[Share, ...]

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds

    @property
    def us_per_row(self) -> float:
        return sum(share.cpu_s for share in self.shares) / self.rows * 1e6


@contextmanager
def bus(folder: Path) -> Iterator[tuple[Kafka, int]]:
    """A broker of one node with topics of its own, and its process id."""
    with broker.cluster(folder) as brokers:
        settings = Kafka(tuple(brokers.servers.split(",")), partitions=PARTITIONS, replication=1)
        make_topics(settings)
        process = brokers.nodes[1].process
        assert process is not None
        yield settings, process.pid


def stream(folder: Path, fleet: Path, settings: Kafka, broker_pid: int) -> Run:
    """Sends the fleet's flows by `collect file` while `detect` and `store` run; ends when both have dealt with all.

    `before.parquet`, if it is there, is sent first and not counted: broker and services compile and import what they
    need once in months.
    """
    rows = pl.scan_parquet(fleet / "flows.parquet").select(pl.len()).collect().item()
    config = _configured(fleet, folder, settings)
    pieces = {
        "detect": _start(folder, "detect", "--config", config, "--until-idle", IDLE_S),
        "store": _start(folder, "store", "--config", config, "--store", folder / "store", "--until-idle", IDLE_S),
    }
    time.sleep(START_S)
    if (fleet / "before.parquet").exists():
        first = ["file", fleet / "before.parquet", "--config", config, "--spool", folder / "first", "--quiet"]
        _wait({"collect": _start(folder, "collect", *first)})
        _settle([broker_pid, *(process.pid for process in pieces.values())])
    before = {name: _cpu_s(process.pid) for name, process in pieces.items()}
    broker_before, began = _cpu_s(broker_pid), time.monotonic()
    flows = ["file", fleet / "flows.parquet", "--config", config, "--spool", folder / "spool", "--quiet"]
    pieces["collect"] = _start(folder, "collect", *flows)
    ended = _wait(pieces)
    shares = [
        Share(name, usage.ru_utime + usage.ru_stime - before.get(name, 0), usage.ru_maxrss / 1024)
        for name, (_, usage) in sorted(ended.items())
    ]
    shares.append(Share("broker", _cpu_s(broker_pid) - broker_before, _peak_mb(broker_pid)))
    return Run(rows, max(at for at, _ in ended.values()) - began - IDLE_S, tuple(shares))


def us_a_row(settings: Kafka, flows: pl.DataFrame, most: int) -> float:
    """CPU of sending and reading rows in messages of up to `most` rows of one host, without the broker's share."""
    mine = replace(settings, prefix=f"bench-{most}", partitions=1)
    make_topics(mine)
    began = time.process_time()
    sent = 0
    with closing(Producer(mine)) as producer:
        for (host,), rows in flows.group_by("host", maintain_order=True):
            for seq, part in enumerate(rows.iter_slices(most)):
                value, headers = wire.encode(part, Header(FLOWS_V1, str(host), "bench", "", "0", seq, part.height))
                producer.send("flows", str(host).encode(), value, headers)
                sent += 1
        assert producer.flush(60)
    rows_read = sum(wire.decode(message.value or b"", message.headers)[1].height for message in read_all(mine, "flows"))
    assert rows_read == flows.height
    return (time.process_time() - began) / flows.height * 1e6


def _configured(fleet: Path, folder: Path, settings: Kafka) -> Path:
    """The fleet's own egress.toml, with the bus in it; what it names stands beside it."""
    servers = ", ".join(f'"{server}"' for server in settings.servers)
    kafka = f"\n[kafka]\nservers = [{servers}]\npartitions = {settings.partitions}\nreplication = 1\n"
    for companion in fleet.glob("*.jsonl"):
        shutil.copy(companion, folder)
    path = folder / "egress.toml"
    path.write_text((fleet / "egress.toml").read_text() + kafka)
    return path


def _start(folder: Path, *words: object) -> subprocess.Popen[bytes]:
    with (folder / f"{words[0]}.log").open("wb") as log:
        environment = os.environ | {"POLARS_MAX_THREADS": "1"}
        return subprocess.Popen([*EGRESS, *map(str, words)], stdout=log, stderr=subprocess.STDOUT, env=environment)


def _wait(pieces: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, tuple[float, resource.struct_rusage]]:
    """When each ended and what it took; raises where one fails or none ends."""
    ended: dict[str, tuple[float, resource.struct_rusage]] = {}
    limit = time.monotonic() + DONE_S
    while len(ended) < len(pieces):
        for name, process in pieces.items():
            if name not in ended:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    assert os.waitstatus_to_exitcode(status) == 0, name
                    ended[name] = time.monotonic(), usage
        assert time.monotonic() < limit, f"not within {DONE_S:.0f} s: {sorted(pieces.keys() - ended.keys())}"
        time.sleep(POLL_S)
    return ended


def _settle(pids: Sequence[int]) -> None:
    limit = time.monotonic() + IDLE_S / 2
    while time.monotonic() < limit:
        taken = sum(map(_cpu_s, pids))
        time.sleep(SETTLED_S)
        if sum(map(_cpu_s, pids)) - taken < SETTLED_SHARE * SETTLED_S:
            return


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
