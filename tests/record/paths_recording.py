"""Plays one way out and captures it: headers only, as a sensor would."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from tests.record.network import Network
from tests.record.paths import Left, Stage, WayOut

SNAPLEN = 128
MODEL_BYTES = 6_000_000


def record(way: WayOut, capture: Path) -> Left:
    """Leaves the capture and says what happened; raises RuntimeError where tcpdump lost packets."""
    folder = capture.parent
    model = folder / "model.safetensors"
    model.write_bytes(np.random.Generator(np.random.PCG64(7)).bytes(MODEL_BYTES))
    log = folder / "tcpdump.log"
    with Network() as network:
        options = ("-s", str(SNAPLEN), "-B", "65536", "--immediate-mode", "-U", "-Z", "root", "-w", str(capture))
        listening = network.start(way.where, "tcpdump", "-i", way.interface, *options, "ip or ip6", log=log)
        _wait_for(log, "listening on")
        left = way.play(Stage(network, folder, model))
        time.sleep(0.3)  # the last ACK
        network.stop(listening)
    if "\n0 packets dropped by kernel" not in log.read_text():
        raise RuntimeError(f"tcpdump lost packets: {log.read_text()}")
    return left


def _wait_for(log: Path, words: str) -> None:
    for _ in range(100):
        if words in log.read_text():
            return
        time.sleep(0.05)
    raise RuntimeError(f"tcpdump does not start: {log.read_text()}")
