"""Rows of a source as messages: split by host, cut, numbered; the same however the source was cut into batches.

A slice is what lies in a stretch of event time, or 524,288 rows where that is less; each host's rows of a slice are one
message, or several of at most 8,192 rows. What happens now is sent after 10 s, so that nobody waits; a file that is
read faster than it happened says the same in fewer messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl

from egress import wire
from egress.config import Config
from egress.segments import Parcel
from egress.wire import Header, WireError

PACED_SLICE_US = 10_000_000
"""The grid on which rows are cut, too."""
FILE_SLICE_US = 3_600_000_000
SLICE_ROWS = 524_288
"""Bounds what is held back: 220 MB."""
MESSAGE_ROWS = 8_192
"""160 to 350 kB. A row in messages of 1,000 takes three times as long to write and four times as long to read."""


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
    _waiting: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    """By host, hosts in the order of their first rows."""
    _rows: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def cut(self, rows: pl.DataFrame) -> Iterator[Parcel]:
        """Messages that are complete now; the last slice waits for more."""
        if rows.is_empty():
            return
        earlier = self.watermark
        reached = np.maximum.accumulate(np.maximum(rows[self.time].to_physical().to_numpy(), earlier))
        serial = np.arange(self._rows - 1, self._rows + rows.height)
        is_new = np.diff(reached // self.slice_us, prepend=earlier // self.slice_us) != 0
        is_new |= np.diff(serial // SLICE_ROWS) != 0
        begins = np.flatnonzero(is_new).tolist()
        self._rows, self.watermark = self._rows + rows.height, int(reached[-1])
        for first, last in pairwise([0, *begins]):
            self._hold(rows[first:last])
            self.reached = int(reached[last - 1]) if last else earlier
            yield from self._held_slice()
        self._hold(rows[begins[-1] :] if begins else rows)

    def rest(self) -> Iterator[Parcel]:
        """The last slice: there is no more."""
        self.reached = self.watermark
        yield from self._held_slice()

    def whole(self, rows: pl.DataFrame) -> Iterator[Parcel]:
        """Messages of rows that are a slice by themselves."""
        for host, part in _by_host(rows):
            yield from self._of_host(host, part)

    @property
    def held(self) -> int:
        """Rows that wait for the end of their slice."""
        return sum(rows.height for parts in self._waiting.values() for rows in parts)

    def _hold(self, rows: pl.DataFrame) -> None:
        """Apart by host at once: gathering a whole slice takes four times as long as gathering what was just read."""
        if rows.height:
            for host, part in _by_host(rows):
                self._waiting.setdefault(host, []).append(part)

    def _held_slice(self) -> Iterator[Parcel]:
        waiting, self._waiting = self._waiting, {}
        for host, parts in waiting.items():
            yield from self._of_host(host, pl.concat(parts))

    def _of_host(self, host: str, rows: pl.DataFrame) -> Iterator[Parcel]:
        for piece in rows.iter_slices(MESSAGE_ROWS):
            yield from self._messages(host, piece)

    def _messages(self, host: str, rows: pl.DataFrame) -> Iterator[Parcel]:
        header = Header(self.schema, host, self.sensor, self.boot, self.epoch, self._numbers.get(host, 0), rows.height)
        try:
            value, headers = wire.encode(rows, header)
        except WireError as error:
            # too large, or one row among them that cannot travel: halves tell
            if rows.height > 1:
                yield from self._messages(host, rows[: rows.height // 2])
                yield from self._messages(host, rows[rows.height // 2 :])
            else:
                self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            return
        self._numbers[host] = header.seq + 1
        yield Parcel(self.topic, host.encode(), value, tuple(headers))


def _by_host(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Each host's rows in their order, hosts in that of their first rows; half of what `partition_by` takes."""
    codes = rows["host"].cast(pl.Categorical).to_physical().to_numpy()
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ends = np.append(begins[1:], len(order))
    sorted_rows = rows[order]
    hosts = sorted_rows["host"].gather(begins)
    for which in np.argsort(order[begins]):
        yield hosts[int(which)], sorted_rows[int(begins[which]) : int(ends[which])]


def who_is_who(config: Config) -> tuple[object, ...]:
    """What rows are attributed by; equal for equal fleets."""
    fleet = config.fleet
    return (
        *(config.is_assumed, sorted(map(str, fleet.internal)), sorted(fleet.resolvers)),
        sorted((host.id, host.addresses) for host in fleet.hosts),
    )
