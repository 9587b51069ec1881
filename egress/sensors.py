"""What sensors say of themselves: heartbeats with counters, and the times when they, or their hosts, were silent.

A silent sensor's rows are lost, its host's network card counts on. Reboots start every counter anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.fleetplan import DAY_US, HOUR_US, SECOND_US, Longs, Plan
from egress.heartbeats import HEARTBEATS
from egress.schema import TIME, conform

BEAT_S = 60
"""Sensors beat every 10 s; every sixth beat says as much about counters in a sixth of the rows."""
FRAME = 14
"""Ethernet on top of an IP packet, as a card counts it (without its checksum)."""
CHATTER = 150
"""Bytes a second that are no IP: ARP, LLDP, spanning tree."""
VERSION = "0.1.0"

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outage:
    """A machine's sensor says nothing from `start` until `end` (microseconds)."""

    host: int
    start: int
    end: int
    is_reboot: bool = False
    """The host itself was down: its counters begin at 0 again, and it sent nothing."""


def innocent(plan: Plan, without: Sequence[int]) -> list[Outage]:
    """Reboots every month, restarts of sensors every fortnight, and now and then one that hangs for hours."""
    rng = plan.random("outages")
    hosts = [each.number for each in plan.machines if each.number not in without]
    found = []
    for a_day, shortest_s, longest_s, is_reboot in (
        (1 / 30, 180, 600, True),
        (1 / 14, 15, 90, False),
        (1 / 120, 1800, 10_800, False),
    ):
        for host in hosts:
            for _ in range(rng.poisson(a_day * plan.days)):
                length = int(rng.integers(shortest_s, longest_s)) * SECOND_US
                start = plan.start + int(rng.integers(HOUR_US, plan.days * DAY_US - length - HOUR_US))
                found.append(Outage(host, start, start + length, is_reboot))
    return found


def seen(rows: pl.DataFrame, outages: Sequence[Outage], ids: Sequence[str]) -> pl.DataFrame:
    """FLOWS rows without those that began while their sensor was silent."""
    lost = pl.DataFrame(
        [(ids[each.host], each.start, each.end) for each in outages],
        schema={"sensor": pl.String, "begin": pl.Int64, "until": pl.Int64},
        orient="row",
    )
    start = rows.select("sensor", pl.col("start").cast(pl.Int64)).with_row_index("row")
    hit = start.join(lost, on="sensor").filter(
        (pl.col("start") >= pl.col("begin")) & (pl.col("start") < pl.col("until"))
    )
    return (
        rows.with_row_index("row")
        .join(hit.select("row").unique(), on="row", how="anti", maintain_order="left")
        .drop("row")
    )


def heartbeats(rows: pl.DataFrame, outages: Sequence[Outage], plan: Plan, without: Sequence[int]) -> pl.DataFrame:
    """One line a sensor and `BEAT_S`; `rows` are those that a sensor without outages would have seen."""
    by_sensor = {name: part for (name,), part in rows.group_by("sensor", maintain_order=True)}
    hosts = [each for each in plan.machines if each.number not in without]
    beats = [
        _of_host(
            each.number,
            each.id,
            by_sensor.get(each.id, rows.clear()),
            [o for o in outages if o.host == each.number],
            plan,
        )
        for each in hosts
    ]
    return pl.concat(beats).sort("time", "host")


def _of_host(number: int, name: str, rows: pl.DataFrame, outages: Sequence[Outage], plan: Plan) -> pl.DataFrame:
    offset = int(plan.random(f"beat {number}").integers(0, BEAT_S * SECOND_US))
    time = np.arange(plan.start + offset, plan.end, BEAT_S * SECOND_US, dtype=np.int64)
    alive, heard = np.ones(time.size, dtype=bool), _Heard(rows, plan)
    epoch, boot = np.ones(time.size, dtype=np.int64), np.zeros(time.size, dtype=np.int64)
    floor = {side: np.zeros(time.size) for side in ("out", "in")}
    begun = np.zeros(time.size)
    for outage in sorted(outages, key=lambda each: each.start):
        after = time >= outage.end
        alive &= (time < outage.start) | after
        epoch[after] += 1
        begun[after] = heard.ip(np.array([outage.end]))[0]
        if outage.is_reboot:
            boot[after] = outage.end
            for side in floor:
                floor[side][after] = heard.at(side, np.array([outage.end]))[0]
    card = {side: (heard.at(side, time) - floor[side]).astype(np.int64) for side in floor}
    ip = (heard.ip(time) - begun).astype(np.int64)
    place = np.arange(time.size)
    first = np.maximum.accumulate(np.where(np.diff(epoch, prepend=0) != 0, place, 0))
    frame = pl.DataFrame(
        {
            "time": pl.Series(time).cast(TIME),
            "host": pl.repeat(name, time.size, eager=True),
            "sensor": pl.repeat(name, time.size, eager=True),
            "boot": pl.Series([f"{crc32(f'{name} {each}'.encode()):08x}" for each in boot.tolist()]),
            "epoch": pl.Series(epoch).cast(pl.String),
            "seq": place - first,
            "nic_tx_bytes": card["out"],
            "nic_rx_bytes": card["in"],
            "seen_bytes": ip,
            "dropped_packets": 0,
            "shed_rows": 0,
            "spool_bytes": 0,
            "version": VERSION,
        }
    )
    return conform(frame.filter(pl.Series(alive)), HEARTBEATS)


class _Heard:
    """What a host's card had carried at any time, from its rows: each carries its bytes evenly."""

    def __init__(self, rows: pl.DataFrame, plan: Plan) -> None:
        own = pl.col("side") == "src"
        ours = {"out": ("src", "dst"), "in": ("dst", "src")}
        counts = rows.select(
            pl.col("start", "end").cast(pl.Int64),
            *(pl.when(own).then(f"{a}_bytes").otherwise(f"{b}_bytes").alias(way) for way, (a, b) in ours.items()),
            *(
                pl.when(own).then(f"{a}_packets").otherwise(f"{b}_packets").alias(f"{way}_frames")
                for way, (a, b) in ours.items()
            ),
        )
        self._begun = plan.start
        self._curves = {n: _curve(counts, counts[n].to_numpy().astype(np.float64)) for n in counts.columns[2:]}

    def at(self, side: str, time: Longs) -> Reals:
        """Bytes on the card, frames and chatter included."""
        frames = self._value(f"{side}_frames", time) * FRAME
        return self._value(side, time) + frames + (time - self._begun) / SECOND_US * CHATTER

    def ip(self, time: Longs) -> Reals:
        return self._value("out", time) + self._value("in", time)

    def _value(self, what: str, time: Longs) -> Reals:
        edges, sums = self._curves[what]
        return np.interp(time, edges, sums)


def _curve(rows: pl.DataFrame, amount: Reals) -> tuple[Longs, Reals]:
    """Moments in order, and the sum of `amount` until each, for rows that carry it evenly."""
    start, end = rows["start"].to_numpy(), rows["end"].to_numpy() + 1
    if not start.size:
        return np.zeros(1, dtype=np.int64), np.zeros(1)
    rate = amount / (end - start)
    edges = np.concatenate([start, end])
    order = np.argsort(edges, kind="stable")
    edges = edges[order]
    slope = np.cumsum(np.concatenate([rate, -rate])[order])
    sums = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(edges))])
    return edges, np.maximum.accumulate(sums)
