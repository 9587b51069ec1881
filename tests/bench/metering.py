"""Meters one capture in this process, warm: prints frames, rows, seconds and CPU seconds as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from collectors.capture import CaptureCollector
from egress.contracts import Count, ReadSettings

ROOT = Path(__file__).resolve().parents[2]
WARM_UP = ROOT / "tests" / "data"


def meter(*captures: Path) -> tuple[Count, int]:
    """What was metered, and in how many rows; nothing is kept, and inputs are not hashed: no other meter does."""
    metered, rows = Count(), 0
    for batch in CaptureCollector().read(captures, ReadSettings(threads=1, is_hashed=False)):
        metered += batch.tally.metered
        rows += batch.flows.height
    return metered, rows


def main() -> None:
    for small in sorted(WARM_UP.rglob("*.pcap*")):
        if CaptureCollector().claims(small, small.read_bytes()[:4096]):
            meter(small)
    begin, cpu = time.perf_counter(), time.process_time()
    metered, rows = meter(Path(sys.argv[1]))
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    print(json.dumps({"frames": metered.frames, "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main()
