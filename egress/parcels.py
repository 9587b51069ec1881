"""Rows of a source as messages: split by host, cut, numbered; the same however the source was cut into batches.

A slice is what lies in a stretch of event time, or 131,072 rows where that is less; each host's rows of a slice are one
message, or several of at most 2,000 rows. What happens now is sent after 10 s, so that nobody waits; a file that is
read faster than it happened says the same in fewer messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl

from egress import wire
from egress.segments import Parcel
from egress.wire import Header, WireError

PACED_SLICE_US = 10_000_000
"""The grid on which rows are cut, too."""
FILE_SLICE_US = 3_600_000_000
SLICE_ROWS = 131_072
"""Bounds what is held back."""
MESSAGE_ROWS = 2_000


@dataclass(slots=True)
class Cutter:
    """Turns rows, in the order of the source, into messages of one topic. Knows no clock and no bus."""

    topic: str
    schema: str
    sensor: str
    epoch: str
    time: str
    """The column that slices follow."""
    slice_us: int = FILE_SLICE_US
    boot: str = ""
    refused: dict[str, int] = field(default_factory=dict)
    """Rows that cannot travel, by reason: what no collector writes."""
    watermark: int = 0
    """The latest event time of all rows so far (microseconds); a wrong clock may move it."""
    reached: int = 0
    """The same of the rows in the messages that were given last."""
    _waiting: pl.DataFrame | None = None
    _rows: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def cut(self, rows: pl.DataFrame) -> Iterator[Parcel]:
        """Messages that are complete now; the last slice waits for more."""
        if rows.is_empty():
            return
        whole = rows if self._waiting is None else pl.concat([self._waiting, rows])
        begin = self._rows - (0 if self._waiting is None else self._waiting.height)
        reached = np.maximum.accumulate(np.maximum(whole[self.time].to_physical().to_numpy(), self._floor()))
        serial = np.arange(begin, begin + whole.height)
        is_new = (np.diff(reached // self.slice_us) != 0) | (np.diff(serial // SLICE_ROWS) != 0)
        ends = [0, *(np.flatnonzero(is_new) + 1).tolist()]
        self._rows, self.watermark = begin + whole.height, int(reached[-1])
        self._waiting = whole[ends[-1] :].rechunk()
        for first, last in pairwise(ends):
            self.reached = int(reached[last - 1])
            yield from self._slice(whole[first:last])

    def rest(self) -> Iterator[Parcel]:
        """The last slice: there is no more."""
        waiting, self._waiting = self._waiting, None
        self.reached = self.watermark
        if waiting is not None:
            yield from self._slice(waiting)

    @property
    def held(self) -> int:
        """Rows that wait for the end of their slice."""
        return 0 if self._waiting is None else self._waiting.height

    def _floor(self) -> int:
        return self.watermark // self.slice_us * self.slice_us

    def _slice(self, rows: pl.DataFrame) -> Iterator[Parcel]:
        for part in rows.partition_by("host", maintain_order=True):
            for piece in part.iter_slices(MESSAGE_ROWS):
                yield from self._messages(piece)

    def _messages(self, rows: pl.DataFrame) -> Iterator[Parcel]:
        host = str(rows["host"][0])
        header = Header(self.schema, host, self.sensor, self.boot, self.epoch, self._numbers.get(host, 0), rows.height)
        try:
            value, headers = wire.encode(rows, header)
        except WireError as error:
            # too large, or one row among them that cannot travel: halves tell
            if rows.height > 1:
                yield from self._messages(rows[: rows.height // 2])
                yield from self._messages(rows[rows.height // 2 :])
            else:
                self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            return
        self._numbers[host] = header.seq + 1
        yield Parcel(self.topic, host.encode(), value, tuple(headers))
