"""A collector that is killed and begun again sends the same messages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.egress.bus import Message
from tests.egress.collected import (
    ROOT,
    busy,
    named,
    parquet,
)


@pytest.mark.slow
def test_killed_anywhere_and_begun_again_the_same_is_on_the_bus(tmp_path: Path) -> None:
    """SIGKILL before the first, early on and at the last message; its bus is a file."""
    flows = parquet(tmp_path / "flows.parquet", busy(12_000))
    wait_for(in_process(tmp_path / "calm", flows))
    undisturbed = left_in(tmp_path / "calm")

    rough = tmp_path / "rough" / "bus"
    for part in (0.0, 0.3, 0.99):
        process = in_process(tmp_path / "rough", flows)
        before = rough.stat().st_size if rough.exists() else 0
        wanted = before + int((tmp_path / "calm" / "bus").stat().st_size * part)
        while process.poll() is None and not (rough.exists() and rough.stat().st_size >= wanted):
            time.sleep(0.002)
        process.kill()
        process.wait()
    wait_for(in_process(tmp_path / "rough", flows))

    assert len(undisturbed) > 25
    assert named(left_in(tmp_path / "rough")) == named(undisturbed)
    assert len(left_in(tmp_path / "rough")) > len(undisturbed)


PROGRAM = """
    import io, pickle, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from tests.egress.bus import MemoryBus, MemoryProducer
    from tests.egress.collected import service
    from tests.egress.strategies import site
    from egress.collect import Request, collect
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    with (folder / "bus").open("ab", buffering=0) as file:
        class FileBus(MemoryProducer):
            def offer(self, topic, key, value, headers=(), partition=None, on_ack=None):
                file.write(pickle.dumps((topic, key, value, headers)))
                self.waiting.append(on_ack)
                return True
        request = Request((Path(sys.argv[2]),), site(), folder / "spool", pace=1e9)
        collect(request, lambda: FileBus(MemoryBus()), service())
"""


def in_process(folder: Path, flows: Path) -> subprocess.Popen[bytes]:
    import textwrap

    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), str(flows), str(ROOT)]
    return subprocess.Popen(command, env={**os.environ, "POLARS_MAX_THREADS": "1"})


def wait_for(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(120) == 0


def left_in(folder: Path) -> list[Message]:
    import pickle

    found = []
    with (folder / "bus").open("rb") as file:
        while True:
            try:
                found.append(pickle.load(file))
            except EOFError:
                return found
            except pickle.UnpicklingError:
                pytest.fail("a write of the bus was torn")
