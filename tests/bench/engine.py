"""The engine behind the meter and one ClickHouse query over the same rows, in this process: CPU seconds as JSON."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from egress import registry
from egress.cli import GARBAGE
from egress.detect import Engine
from egress.inventory import Inventory
from egress.store import open_store
from tests.bench.enginerows import rows, site

GROUP_BY = """
SELECT count() FROM (
    SELECT host, if(side = 'src', dst_ip, src_ip) AS destination, toStartOfMinute(start) AS minute,
        sum(src_bytes), sum(dst_bytes), sum(src_packets), sum(dst_packets), min(start), max(end)
    FROM flows GROUP BY host, destination, minute
) SETTINGS max_threads = 1
"""
TIMES = 3
BATCH = 50_000

Got = TypeVar("Got")


def timed(work: Callable[[], Got]) -> tuple[float, Got]:
    begin = time.process_time()
    got = work()
    return time.process_time() - begin, got


def main() -> None:
    gc.set_threshold(*GARBAGE)  # as the command line does
    flows = rows()
    batches = list(flows.iter_slices(BATCH))
    small = Engine(Inventory(site()), registry.detectors)
    small.feed(batches[0])
    small.judge()  # imports and first queries are no part of a rate

    engine = Engine(Inventory(site()), registry.detectors)
    fed, attributed = timed(lambda: [engine.feed(batch) for batch in batches])
    judged, judgement = timed(engine.judge)
    with open_store(sys.argv[1]) as store:
        for frame in attributed:
            store.insert_flows(frame)
        store.flush()
        grouped = min(timed(lambda: store.query(GROUP_BY))[0] for _ in range(TIMES))
        groups = store.query(GROUP_BY).item()
    told = {"rows": flows.height, "groups": groups, "findings": len(judgement.findings)}
    print(json.dumps(told | {"feeding": fed, "judging": judged, "group_by": grouped}))


if __name__ == "__main__":
    main()
