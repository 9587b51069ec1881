"""Transfers as a generator thinks of them, and the flow rows that sensors would have made of them.

A transfer is a line of columns: `start length` (microseconds), `host peer` (numbers of machine and endpoint), `opens`
(the host is the initiator), `port proto`, `sent received` (payload bytes of the host and of the peer), `packet`
(payload of a full packet), `part_s` (a reporting interval, on the UTC grid), `family`, `tunnel`, `outer` (endpoint).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.fleetplan import DAY_US, SECOND_US, Longs, Plan
from egress.schema import FLOWS, NO_ADDRESS, V4_MAPPED_PREFIX, conform

TCP, UDP = 6, 17
SEGMENT = 1448
"""Payload of a full TCP segment on Ethernet: 1,500 less IPv4, TCP and timestamps."""
DATAGRAM = 1200
"""What QUIC sends before it has probed the path (RFC 9000, 14.1)."""
HEADER = {TCP: 52, UDP: 28, 1: 28}
"""IPv4 with TCP and timestamps, or UDP, or ICMP; IPv6 takes 20 more."""
V6_EXTRA = 20
NO_OUTER = -1

COLLECTOR = "simulate"
GATEWAY = "gateway"
"""Sensor that samples what leaves hosts without a sensor of their own."""
SAMPLING = 64

Values = Longs | npt.NDArray[np.bool_] | int | bool | str


@dataclass(frozen=True, slots=True)
class Watching:
    """How the fleet is watched."""

    sampled: Longs
    """Machines that only the gateway sees."""
    moved: Mapping[int, int]
    """Machines that change to their second address, and when."""
    skew_us: Mapping[int, int]
    """By how much the clocks of some machines are ahead."""


DEFAULTS: Mapping[str, Values] = {
    "opens": True,
    "port": 443,
    "proto": TCP,
    "received": 0,
    "packet": SEGMENT,
    "part_s": 300,
    "tunnel": "",
    "outer": NO_OUTER,
}
ORDER = ("start", "length", "host", "peer", "sent", *DEFAULTS, "family")


def transfers(family: str, **columns: Values) -> pl.DataFrame:
    """Lines of one family; single values stand for all lines."""
    given = {**DEFAULTS, **columns, "family": family}
    rows = max(len(value) for value in given.values() if isinstance(value, np.ndarray))
    series = [_column(name, given[name]) for name in ORDER]
    wide = [one if len(one) == rows else one.new_from_index(0, rows) for one in series]
    return pl.DataFrame(wide).with_columns(
        pl.col("start", "length", "host", "peer", "sent", "received", "outer").cast(pl.Int64)
    )


def _column(name: str, value: Values) -> pl.Series:
    return pl.Series(name, value) if isinstance(value, np.ndarray) else pl.Series(name, [value])


def both_ways(frame: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """The lines, and once more from the other side where the peer is a machine too."""
    count = len(plan.machines)
    inside = frame.filter(pl.col("peer") < 2 * count)
    mirrored = inside.with_columns(
        host=pl.col("peer") % count,
        peer=pl.col("host") + pl.col("peer") // count * count,
        opens=~pl.col("opens"),
        sent=pl.col("received"),
        received=pl.col("sent"),
    )
    return pl.concat([frame, mirrored])


def parts(frame: pl.DataFrame) -> pl.DataFrame:
    """One line for each reporting interval that a transfer touches, with `part` and `final`; bytes are conserved."""
    columns = {name: frame[name].to_numpy() for name in ("start", "length", "sent", "received")}
    start, end = columns["start"], columns["start"] + np.maximum(columns["length"], 1)
    grid = frame["part_s"].to_numpy().astype(np.int64) * SECOND_US
    first = start // grid
    count = (end - 1) // grid - first + 1
    line = np.repeat(np.arange(frame.height), count)
    part = np.arange(line.size) - np.repeat(np.cumsum(count) - count, count)
    begin = np.maximum(start[line], (first[line] + part) * grid[line])
    until = np.minimum(end[line], (first[line] + part + 1) * grid[line])
    share = [(edge - start[line]) / (end - start)[line] for edge in (begin, until)]
    # The share of a whole transfer is exactly 1, so the differences of rounded sums add up to every byte.
    cut = {
        name: np.diff([np.floor(columns[name][line] * each) for each in share], axis=0)[0]
        for name in ("sent", "received")
    }
    return frame[line].with_columns(
        pl.Series("part", part),
        pl.Series("final", part == count[line] - 1),
        start=begin,
        end=until - 1,
        sent=cut["sent"].astype(np.int64),
        received=cut["received"].astype(np.int64),
    )


def flows(frame: pl.DataFrame, plan: Plan, watching: Watching) -> pl.DataFrame:
    """Columns of FLOWS in order of time, as the sensors of these machines would have reported the transfers."""
    rows = frame.with_columns(flow_id=pl.int_range(1, frame.height + 1, dtype=pl.UInt64))
    rows = parts(both_ways(rows, plan))
    # A gateway sees what passes it, not what machines say to each other.
    is_sampled = pl.col("host").is_in(watching.sampled)
    rows = rows.filter(~is_sampled | (pl.col("peer") >= 2 * len(plan.machines)))
    rows = _sampled(_addressed(rows, plan, watching).with_columns(_counters()), is_sampled).pipe(_sided)
    rows = rows.with_columns(
        host=pl.when(is_sampled).then(pl.lit("")).otherwise("host_id"),
        side=pl.when(is_sampled).then(pl.lit("")).otherwise("side"),
        sensor=pl.when(is_sampled).then(pl.lit(GATEWAY)).otherwise("host_id"),
        sampling=pl.when(is_sampled).then(SAMPLING).otherwise(1),
        collector=pl.lit(COLLECTOR),
        process="family",
        start=pl.from_epoch("start", "us").dt.replace_time_zone("UTC"),
        end=pl.from_epoch("end", "us").dt.replace_time_zone("UTC"),
    )
    return conform(rows, FLOWS).sort("start", "flow_id", pl.col("side") == "dst", "part")


def _addressed(rows: pl.DataFrame, plan: Plan, watching: Watching) -> pl.DataFrame:
    """With addresses and names, and the clock of whoever saw it."""
    count = len(plan.machines)
    own = pl.Series([each.address for each in plan.endpoints], dtype=pl.Binary)
    names = pl.Series([each.name for each in plan.endpoints])
    name_from = pl.Series([each.name_from for each in plan.endpoints])
    ids = pl.Series([each.id for each in plan.machines])
    host, peer, outer = rows["host"], rows["peer"], rows["outer"]
    # Whoever talks IPv6 to one side talks IPv6 on both.
    is_v6 = ~own[peer].bin.starts_with(V4_MAPPED_PREFIX)
    ours = own[host + is_v6.cast(pl.Int64) * count]
    rows = rows.with_columns(
        is_v6.alias("is_v6"),
        ours=ours,
        theirs=own[peer],
        name=names[peer],
        name_from=name_from[peer],
        host_id=ids[host],
    )
    is_tunnel = outer != NO_OUTER
    away = own[outer.clip(0)]
    rows = rows.with_columns(
        ours_outer=pl.when(is_tunnel).then(own[host]).otherwise(pl.lit(NO_ADDRESS)),
        theirs_outer=pl.when(is_tunnel).then(away).otherwise(pl.lit(NO_ADDRESS)),
    )
    return _skewed(_moved(rows, plan, watching), watching)


def _moved(rows: pl.DataFrame, plan: Plan, watching: Watching) -> pl.DataFrame:
    from egress.addresses import bytes_of

    for machine, when in watching.moved.items():
        old, new = (bytes_of(address) for address in plan.machines[machine].addresses[:2])
        for column in ("ours", "theirs", "ours_outer"):
            is_old = (pl.col(column) == old) & (pl.col("start") >= when)
            rows = rows.with_columns(pl.when(is_old).then(pl.lit(new)).otherwise(column).alias(column))
    return rows


def _skewed(rows: pl.DataFrame, watching: Watching) -> pl.DataFrame:
    machines, ahead = list(watching.skew_us), list(watching.skew_us.values())
    shift = pl.col("host").replace_strict(machines, ahead, default=0, return_dtype=pl.Int64)
    return rows.with_columns(pl.col("start") + shift, pl.col("end") + shift)


def _counters() -> list[pl.Expr]:
    header = pl.col("proto").replace_strict(HEADER, return_dtype=pl.Int64) + pl.col("is_v6") * V6_EXTRA
    data = {side: -(-pl.col(side) // pl.col("packet")) for side in ("sent", "received")}
    packets = {  # an acknowledgement for every other packet (RFC 9293, 3.8.6.3)
        "ours": data["sent"] + data["received"] // 2 + 1,
        "theirs": data["received"] + data["sent"] // 2 + 1,
    }
    payloads = {"ours": pl.col("sent"), "theirs": pl.col("received")}
    return [
        *(packets[side].alias(f"{side}_packets") for side in packets),
        *((payloads[side] + packets[side] * header).alias(f"{side}_bytes") for side in packets),
        *(payloads[side].alias(f"{side}_payload") for side in packets),
    ]


def _sampled(rows: pl.DataFrame, is_sampled: pl.Expr) -> pl.DataFrame:
    """What an exporter that looks at one packet in `SAMPLING` says: estimates, no payload, nothing of small flows.

    Chance comes from the row, so that rows beside it do not change it.
    """
    chance = pl.struct("start", "peer", "part", "sent").hash(SAMPLING).cast(pl.Float64) / 2.0**64
    for side in ("ours", "theirs"):
        mean = pl.col(f"{side}_packets") / SAMPLING
        noisy = (mean + (chance - 0.5) * (12 * mean).sqrt() + (chance * 1009) % 1).floor().clip(0)
        count = (noisy * SAMPLING).cast(pl.Int64)
        size = pl.col(f"{side}_bytes") // pl.col(f"{side}_packets")
        rows = rows.with_columns(
            pl.when(is_sampled).then(count * size).otherwise(f"{side}_bytes").alias(f"{side}_bytes"),
            pl.when(is_sampled).then(0).otherwise(f"{side}_payload").alias(f"{side}_payload"),
            pl.when(is_sampled).then(count).otherwise(f"{side}_packets").alias(f"{side}_packets"),
        )
    return rows.filter((pl.col("ours_packets") > 0) | (pl.col("theirs_packets") > 0))


def _sided(rows: pl.DataFrame) -> pl.DataFrame:
    """What is ours and theirs as what is of the initiator and of the responder."""
    opens = pl.col("opens")
    pairs = {"bytes": "bytes", "packets": "packets", "payload": "payload"}
    ephemeral = (32768 + pl.col("flow_id") * 7919 % 28232).cast(pl.UInt16)
    return rows.with_columns(
        *(pl.when(opens).then(f"ours_{one}").otherwise(f"theirs_{one}").alias(f"src_{one}") for one in pairs),
        *(pl.when(opens).then(f"theirs_{one}").otherwise(f"ours_{one}").alias(f"dst_{one}") for one in pairs),
        src_ip=pl.when(opens).then("ours").otherwise("theirs"),
        dst_ip=pl.when(opens).then("theirs").otherwise("ours"),
        outer_src_ip=pl.when(opens).then("ours_outer").otherwise("theirs_outer"),
        outer_dst_ip=pl.when(opens).then("theirs_outer").otherwise("ours_outer"),
        src_port=pl.when(pl.col("proto") == 1).then(pl.lit(8, pl.UInt16)).otherwise(ephemeral),
        dst_port=pl.col("port").cast(pl.UInt16),
        side=pl.when(opens).then(pl.lit("src")).otherwise(pl.lit("dst")),
    )


def days_of(frame: pl.DataFrame) -> pl.Expr:
    return pl.col("start") // DAY_US


def together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([frame for frame in frames if frame.height])
