"""A whole site as processes of its own: collector, two detectors and a store around a cluster of three brokers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from egress.config import Kafka
from tests.bench import rows
from tests.services.broker import Brokers

MAIN = "from egress.cli import main; raise SystemExit(main())"
DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
RECORDED = DEMO.parent / "recorded"
PATIENCE_S = 120.0
IDLE_S = 3.0
SITE = """\
[fleet]
internal = ["10.20.0.0/16", "10.1.0.0/16", "fd20::/16"]
resolvers = ["10.20.0.53"]
{hosts}
[[models]]
id = "atlas-12m"
bytes = 24_000_416
holders = ["gpu-07", "agent-03"]

[[models]]
id = "large"
bytes = {large}
holders = ["host-*"]

[detect]
snapshot_every = "2s"

[kafka]
servers = [{servers}]
prefix = "{prefix}"
partitions = {partitions}
"""
HOST = '[[fleet.hosts]]\nid = "{id}"\naddresses = {addresses}\nrole = "{role}"\n'


def slowness() -> float:
    """How many times longer than on an idle machine things may take here and now."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2)


@dataclass
class Piece:
    """One process of the site: ended and begun again under the same name."""

    name: str
    words: tuple[str, ...]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self, *more: str) -> None:
        with self.log.open("ab") as log, self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, *self.words, *more],
                env={**os.environ, "POLARS_MAX_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
        self.starts += 1

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def out(self) -> Path:
        """What it printed since it was started last."""
        return self.folder / f"{self.name}.out"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, what: signal.Signals) -> None:
        assert self.process is not None
        if self.is_running:
            self.process.send_signal(what)

    def kill(self) -> None:
        """kill -9, awake or frozen."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def end(self) -> int:
        """Asks it to stop, and waits for that."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(PATIENCE_S * slowness())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end: {self.last_words()}") from None

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


@dataclass(frozen=True)
class Input:
    """What is collected: in portions, one after the other, each by a process of `egress collect file`."""

    portions: tuple[tuple[Path, ...], ...]
    hosts: tuple[tuple[str, tuple[str, ...], str], ...]
    """id, addresses, role"""
    large_bytes: int

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for portion in self.portions for path in portion)


def make_input(folder: Path, portions: int, busy: rows.Busy) -> Input:
    """Recorded transfers, and so many portions of a busy fleet, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = rows.rows_of(busy)
    span = busy.ticks * rows.TICK_US
    # Apart: files are read in no order of time, and rows behind others are not paced.
    made = [(*sorted(DEMO.glob("*.pcap")), *sorted(RECORDED.glob("*.pcap")))]
    for number in range(portions):
        path = folder / f"busy-{number}.parquet"
        shift = pl.duration(microseconds=number * span)
        later = frame.with_columns(
            pl.col("start", "end") + shift, pl.col("flow_id") + number * busy.hosts * busy.conversations
        )
        later.write_parquet(path)
        made.append((path,))
    hosts: list[tuple[str, tuple[str, ...], str]] = [
        (f"host-{n:03}", (f"10.1.{n // 200}.{n % 200 + 1}",), "training") for n in range(busy.hosts)
    ]
    hosts += [("gpu-07", ("10.20.1.7", "fd20::1:7"), "training"), ("agent-03", ("10.20.2.3", "fd20::2:3"), "agent")]
    left = frame.select(pl.col("src_payload").filter(pl.col("dst_ip").bin.starts_with(b"\0" * 10 + b"\xff\xff\xcb")))
    # All holders together lose an eighth of it, none of them much: only a sum over partitions can tell.
    return Input(tuple(made), tuple(hosts), int(left["src_payload"].sum()) * portions * 8)


@dataclass
class Site:
    """Everything but the brokers; `collect`, `detect-a`, `detect-b` and `store` by name."""

    brokers: Brokers
    settings: Kafka
    folder: Path
    given: Input
    pace: float
    spool: Path
    pieces: dict[str, Piece] = field(default_factory=dict)
    portion: int = 0
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """What the collector said at the end of each portion."""

    @property
    def config(self) -> Path:
        return self.folder / "egress.toml"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        hosts = "".join(
            HOST.format(id=id_, addresses=json.dumps(addresses), role=role) for id_, addresses, role in self.given.hosts
        )
        servers = ", ".join(f'"{server}"' for server in self.settings.servers)
        made = self.settings
        self.config.write_text(
            SITE.format(
                hosts=hosts,
                servers=servers,
                prefix=made.prefix,
                partitions=made.partitions,
                large=self.given.large_bytes,
            )
        )
        for member in ("a", "b"):
            self._add(f"detect-{member}", "detect", "--config", str(self.config), "--member", member)
        words = ("store", "--config", str(self.config), "--store", str(self.store), "--member", "s")
        self._add("store", *words)
        self._add("collect")

    def begin(self) -> None:
        for name in ("detect-a", "detect-b", "store"):
            self.pieces[name].start()
        self.collect(self.pace)

    def collect(self, pace: float) -> None:
        """(Re)starts the collector with the portion it is at."""
        self.pieces["collect"].words = self.words_to_collect(pace)
        self.pieces["collect"].start()

    def words_to_collect(self, pace: float) -> tuple[str, ...]:
        paths = map(str, self.given.portions[self.portion])
        words = ("collect", "file", *paths, "--config", str(self.config), "--spool", str(self.spool))
        return (*words, "--pace", str(pace), "--json")

    def go_on_collecting(self) -> None:
        """If the collector came to the end of its portion, starts it with the next one."""
        piece = self.pieces["collect"]
        if piece.process is None or piece.process.poll() != 0 or self.is_collected:
            return
        self.outcomes.append(json.loads(piece.out.read_text()))
        self.portion += not self.outcomes[-1]["waiting"]["messages"]
        if not self.is_collected:
            self.collect(self.pace)

    @property
    def is_collected(self) -> bool:
        return self.portion == len(self.given.portions)

    def calm_down(self) -> None:
        """Nothing is disturbed any more: what is left is collected, judged and stored, and everybody ends."""
        while not self.is_collected:
            piece = self.pieces["collect"]
            if not piece.is_running and piece.process is not None and piece.process.returncode != 0:
                self.collect(self.pace)
            assert piece.wait() == 0, piece.last_words()
            self.go_on_collecting()
        for name in ("detect-a", "detect-b", "store"):
            self.pieces[name].end()
        self.finish("detect-a", "detect-b")
        self.finish("store")

    def kill(self) -> None:
        for piece in self.pieces.values():
            piece.kill()

    def logs(self) -> str:
        return "".join(piece.log.read_text(errors="replace") for piece in self.pieces.values() if piece.log.exists())

    def _add(self, name: str, *words: str) -> None:
        self.pieces[name] = Piece(name, words, self.folder)

    def finish(self, *names: str) -> None:
        """Starts pieces once more, until there is nothing left to do."""
        for name in names:
            self.pieces[name].start("--until-idle", str(IDLE_S * slowness()))
        for name in names:
            assert self.pieces[name].wait() == 0, self.pieces[name].last_words()


@contextmanager
def site(
    brokers: Brokers, settings: Kafka, folder: Path, given: Input, pace: float, spool: Path | None = None
) -> Iterator[Site]:
    made = Site(brokers, settings, folder, given, pace, spool or folder / "spool")
    made.prepare()
    try:
        yield made
    finally:
        made.kill()


def until(is_so: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds * slowness()
    while not is_so():
        assert time.monotonic() < end, f"{what}: not in time"
        time.sleep(0.2)


def replay(made: Site, paths: Sequence[Path], name: str = "replayed") -> tuple[Path, list[str]]:
    """`egress replay` of these under the same egress.toml: its store, and its findings."""
    findings, kept = made.folder / f"{name}.jsonl", made.folder / name
    words = ["--config", str(made.config), "--store", str(kept), "--findings", str(findings), "--json"]
    piece = Piece(name, ("replay", *map(str, paths), *words), made.folder)
    piece.start()
    code = piece.wait()
    assert code == 0, piece.last_words()
    return kept, findings.read_text().splitlines()
