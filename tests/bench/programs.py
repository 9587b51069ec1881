"""Meters as programs: what each takes for one capture, in seconds and memory."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ONE_CORE = frozenset({0})


@dataclass(frozen=True, slots=True)
class Run:
    """One program run to its end."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    said: str = ""


def run(command: Sequence[str], cores: frozenset[int] | None = None) -> Run:
    """Runs a program, on these cores only if any are named; a failure is an error with what it said."""
    cores = cores or frozenset(os.sched_getaffinity(0))
    begin = time.monotonic()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {said[-2000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def metering(capture: Path) -> Run:
    """Egress' collector alone, on one core, kernels warm; seconds of the pass itself."""
    program = run([sys.executable, "-m", "tests.bench.metering", str(capture)], ONE_CORE)
    measured = json.loads(program.said.splitlines()[-1])
    return Run(measured["seconds"], measured["cpu_seconds"], program.peak_mb)


def replay(capture: Path, folder: Path) -> Run:
    """The whole command in a new process, to findings and a store that did not exist."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    egress = Path(sys.executable).with_name("egress")
    command = [str(egress), "replay", str(capture), "--store", str(folder / "store")]
    return run([*command, "--findings", str(folder / "findings.jsonl"), "--quiet"])


def nfpcapd(capture: Path, folder: Path, cores: frozenset[int] | None = None) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return run(["nfpcapd", "-r", str(capture), "-w", str(folder)], cores)


def has_nfstream() -> bool:
    return importlib.util.find_spec("nfstream") is not None


def nfstream(capture: Path) -> Run:
    """Flows only: no dissection, no statistics, one meter, one core."""
    streamer = f"NFStreamer(source={str(capture)!r}, n_dissections=0, statistical_analysis=False, n_meters=1)"
    program = f"from nfstream import NFStreamer\nprint(sum(1 for _ in {streamer}))"
    return run([sys.executable, "-c", program], ONE_CORE)
