"""Everything at once on one machine: broker, collector, detector and store as processes, and the CPU each took."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import polars as pl

from egress import wire
from egress.config import Kafka
from egress.kafka import Producer, make_topics, read_all
from egress.wire import FLOWS_V1, Header
from tests.services import broker

EGRESS = [sys.executable, "-c", "from egress.cli import main; raise SystemExit(main())"]
PARTITIONS = 4
READ, SENT = "egress_read_rows_total", 'egress_sent_rows_total{topic="flows"}'
SUMMED, STORED = "egress_summed_rows_total", 'egress_stored_rows_total{table="flows"}'
PARTITIONS_OF_FLOWS = 'egress_partitions{topic="flows"}'
LOOK_S, FIRST_LOOK_S = 0.25, 0.05
SETTLED_S = 3.0
SETTLED_SHARE = 0.15
"""Whoever takes less of a core for so long has nothing left to do; sums are published each two seconds."""
SETTLES_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
DONE_S = 300.0


@dataclass(frozen=True)
class Share:
    """What one piece took of the machine while the rows went through."""

    piece: str
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Run:
    """One stream. `seconds` go from the first row read to the last one stored; `rates` are of pieces while all worked.

    CPU is counted until nothing is left to do: sums published, judged and stored too.
    """

    rows: int
    seconds: float
    rates: Mapping[str, float]
    """Rows a second that `collect` had acknowledged, `detect` summed and `store` wrote, while all three worked."""
    shares: tuple[Share, ...]

    @property
    def rows_per_s(self) -> float:
        """Of the slowest."""
        return min(self.rates.values())

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
    """Sends the fleet's flows by `collect file` while `detect` and `store` run.

    `before.parquet`, if it is there, is sent first and not counted: broker and services compile and import what they
    need once in months. Nor is what `collect` takes until it reads its first row.
    """
    rows = _rows_of(fleet / "flows.parquet")
    config = _configured(fleet, folder, settings)
    with ExitStack() as stack:
        detect = stack.enter_context(_piece(folder, "detect", "--config", config))
        store = stack.enter_context(_piece(folder, "store", "--config", config, "--store", folder / "store"))
        _until(lambda: detect.count(PARTITIONS_OF_FLOWS) == store.count(PARTITIONS_OF_FLOWS) == PARTITIONS)
        standing = [broker_pid, detect.pid, store.pid]
        earlier = 0
        if (fleet / "before.parquet").exists():
            earlier = _rows_of(fleet / "before.parquet")
            with _piece(folder, "collect", *_file(fleet / "before.parquet", config, folder / "first")) as first:
                _until(lambda: first.is_over() and store.count(STORED) >= earlier)
            _settle(standing)
        begun = {pid: _cpu_s(pid) for pid in standing}
        with _piece(folder, "collect", *_file(fleet / "flows.parquet", config, folder / "spool")) as collect:
            looks = _watched(collect, detect, store, earlier, rows)
            _settle(standing)
            shares = [Share("collect", collect.ended_cpu_s - looks[0].cpu_s, collect.ended_peak_mb)]
        for name, pid in zip(("broker", "detect", "store"), standing, strict=True):
            shares.append(Share(name, _cpu_s(pid) - begun[pid], _peak_mb(pid)))
    return Run(rows, looks[-1].at - looks[0].at, _rates(looks), tuple(shares))


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


def _rows_of(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _file(path: Path, config: Path, spool: Path) -> tuple[object, ...]:
    return "file", path, "--config", config, "--spool", spool, "--quiet"


@dataclass
class _Piece:
    """A service as a process, and what it says of itself."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    ended_cpu_s: float = 0.0
    ended_peak_mb: float = 0.0
    _last: dict[str, float] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    def count(self, series: str) -> float:
        """A number of its `/metrics`; the last one known where it does not answer (any more)."""
        try:
            with urlopen(self.url, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return self._last.get(series, 0.0)
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        self._last = {name: float(value) for name, _, value in pairs}
        return self._last.get(series, 0.0)

    def is_over(self) -> bool:
        """Whether it ended, well; what it took is known then."""
        if self.process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.ended_cpu_s = usage.ru_utime + usage.ru_stime
            else:
                self.ended_peak_mb = _peak_mb(self.pid) or self.ended_peak_mb  # `usage` has that of whoever forked it
        assert not self.process.returncode, self.name
        return self.process.returncode is not None


@contextmanager
def _piece(folder: Path, *words: object) -> Iterator[_Piece]:
    (port,) = broker.free_ports(1)
    with (folder / f"{words[0]}.log").open("ab") as log:
        environment = os.environ | {"POLARS_MAX_THREADS": "1"}
        command = [*EGRESS, *map(str, words), "--metrics", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield _Piece(str(words[0]), process, f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class _Look:
    """How far each piece was, and the collector's CPU by then."""

    at: float
    cpu_s: float
    rows: Mapping[str, float]


def _watched(collect: _Piece, detect: _Piece, store: _Piece, earlier: int, rows: int) -> list[_Look]:
    """From the last look before the first row was read to the first one when all rows were stored and summed."""
    looks: list[_Look] = []
    limit = time.monotonic() + DONE_S
    while not looks or looks[-1].rows["stored"] < rows or looks[-1].rows["summed"] < rows or not collect.is_over():
        assert not detect.is_over()
        assert not store.is_over()
        assert time.monotonic() < limit, f"not within {DONE_S:.0f} s: {looks[-1:]}"
        cpu_s = 0.0 if collect.is_over() else _cpu_s(collect.pid)
        has_begun = collect.count(READ) > 0
        if not has_begun:
            looks.clear()
        sent, summed, stored = collect.count(SENT), detect.count(SUMMED) - earlier, store.count(STORED) - earlier
        looks.append(_Look(time.monotonic(), cpu_s, {"sent": sent, "summed": summed, "stored": stored}))
        time.sleep(LOOK_S if has_begun else FIRST_LOOK_S)
    return looks


def _rates(looks: Sequence[_Look]) -> dict[str, float]:
    """Rows a second of each piece, between the first batch stored and the last row sent."""
    begin = next(number for number, look in enumerate(looks) if look.rows["stored"])
    sent = max(look.rows["sent"] for look in looks)
    end = next(number for number, look in enumerate(looks) if look.rows["sent"] == sent)
    return {name: _rate([(look.at, look.rows[name]) for look in looks[begin : end + 1]]) for name in looks[0].rows}


def _rate(seen: Sequence[tuple[float, float]]) -> float:
    """From one change to another: batches are stored whole, and a look in between would see what was done before."""
    changes = [after for before, after in pairwise(seen) if after[1] != before[1]]
    if len(changes) < 2:
        return 0.0
    (begin, first), (end, last) = changes[0], changes[-1]
    return (last - first) / (end - begin)


def _until(claim: Callable[[], bool]) -> None:
    limit = time.monotonic() + DONE_S
    while not claim():
        assert time.monotonic() < limit, f"not within {DONE_S:.0f} s"
        time.sleep(FIRST_LOOK_S)


def _settle(pids: Sequence[int]) -> None:
    limit = time.monotonic() + SETTLES_S
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
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
