"""Captures (pcap, pcapng) as flows: the collector behind `egress replay CAPTURE...`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from egress.contracts import Batch, ReadSettings

MAGIC = tuple(
    bytes.fromhex(magic)
    for magic in ("d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d", "34cdb2a1", "a1b2cd34", "0a0d0d0a")
)


class CaptureCollector:
    """Meters capture files. One reading is one sensor, `capture/replay`."""

    name = "capture"

    def claims(self, path: Path, head: bytes) -> bool:
        """True for pcap and pcapng, by their first bytes."""
        return head.startswith(MAGIC)

    def read(self, paths: Sequence[Path], settings: ReadSettings) -> Iterator[Batch]:
        """Flows of all captures in event-time order, in batches of some ten thousand rows."""
        from collectors.reading import Reading  # kernels take half a second: not for other inputs

        yield from Reading(settings).read(paths)
