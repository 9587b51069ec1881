"""What a judge's memory grows by, day by day, and what judging each new day costs; figures of `docs/decisions/0016`.

egress simulate f50 --hosts 50 --days 10
POLARS_MAX_THREADS=1 python -m tests.bench.keeping f50
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polars as pl

from egress import configfile, inputs, memory, registry
from egress.cells import HOUR_US
from egress.contracts import ReadSettings
from egress.heartbeats import HEARTBEATS
from egress.inventory import Inventory
from egress.judging import Judge
from egress.sums import KINDS

HOURS_A_DAY = 24


def made(folder: Path, inventory: Inventory) -> None:
    """Files of sums and heartbeats of each hour, as a stream brings them, in `folder/hours`."""
    claimed = inputs.sort(inputs.expand([folder / "flows.parquet", folder / "heartbeats.parquet"])).claimed
    read = [batch for collector, paths in claimed for batch in collector.read(paths, ReadSettings())]
    flows = pl.concat([batch.flows for batch in read if batch.flows.height])
    beats = pl.concat([batch.heartbeats for batch in read if batch.heartbeats is not None])
    (folder / "hours").mkdir()
    for (hour,), part in flows.group_by(_hour("start")):
        rows = inventory.attribute(part).filter(pl.col("host") != "")
        for kind in KINDS:
            kind.of(rows, inventory).write_ipc(folder / "hours" / f"{hour} {kind.name}")
    for (hour,), part in beats.group_by(_hour("time")):
        part.write_ipc(folder / "hours" / f"{hour} {HEARTBEATS.name}")


def _hour(time: str) -> pl.Expr:
    return (pl.col(time).cast(pl.Int64) // HOUR_US).alias("hour")


def megabytes(what: str) -> float:
    """`VmRSS`: what the process takes; `VmHWM`: the most that it took."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return next(int(line[1]) for line in lines if line[0] == f"{what}:") / 1e3


def main(folder: Path) -> None:
    inventory = Inventory(configfile.load(folder / "egress.toml"))
    if not (folder / "hours").exists():
        made(folder, inventory)
        print("made its hours: now once more, in a process that has nothing of that")
        return
    judge, before = Judge(inventory, registry.detectors), megabytes("VmRSS")
    hours = sorted({path.name.split()[0] for path in (folder / "hours").iterdir()})
    for number, hour in enumerate(hours, 1):
        for path in sorted((folder / "hours").glob(f"{hour} *")):
            judge.join(path.name.split()[1], pl.read_ipc(path.read_bytes()))
        if number % HOURS_A_DAY == 0:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            began = time.process_time()
            judge.judge()
            spent = time.process_time() - began
            memory.give_back()
            size = sum(len(value or b"") for _, value in judge.state())
            grown, most = megabytes("VmRSS") - before, megabytes("VmHWM") - before
            judging = f"judging {most:6.0f} MB, {spent:5.1f} s of CPU"
            print(f"day {number // HOURS_A_DAY:3}: {grown:6.0f} MB; {judging}; saved {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
