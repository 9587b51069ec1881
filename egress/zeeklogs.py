"""What Zeek at the perimeter would have logged of made-up traffic: conversations when they end, names when asked for.

JSON lines as Zeek writes them with `LogAscii::use_json`, in order of their `ts`.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from egress.addresses import text_of
from egress.fleetplan import Plan
from egress.schema import NO_ADDRESS

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
VXLAN_PORT = 4789


def write(folder: Path, carried: pl.DataFrame, plan: Plan) -> None:
    """`conn.log` and `dns.log` of rows of FLOWS, each conversation once. What stays inside passes no perimeter."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [*range(2 * len(plan.machines)), *plan.places["resolver"], *plan.places["lake"]]
    inside = [plan.endpoints[number].address for number in numbers]
    passing = carried.filter(~(pl.col("src_ip").is_in(inside) & pl.col("dst_ip").is_in(inside)))
    _conversations(passing).write_ndjson(folder / "conn.log")
    _questions(passing).write_ndjson(folder / "dns.log")


def _conversations(rows: pl.DataFrame) -> pl.DataFrame:
    is_tunnel = pl.col("outer_dst_ip") != NO_ADDRESS
    ends = ("flow_id", "src_ip", "dst_ip", "src_port", "dst_port", "proto", "outer_src_ip", "outer_dst_ip")
    sums = ("src_payload", "dst_payload", "src_packets", "dst_packets", "src_bytes", "dst_bytes")
    grouped = rows.group_by(ends).agg(pl.col(sums).sum(), pl.col("start").min(), pl.col("end").max())
    grouped = grouped.with_columns(
        src_ip=pl.when(is_tunnel).then("outer_src_ip").otherwise("src_ip"),
        dst_ip=pl.when(is_tunnel).then("outer_dst_ip").otherwise("dst_ip"),
        dst_port=pl.when(is_tunnel).then(pl.lit(VXLAN_PORT, pl.UInt16)).otherwise("dst_port"),
        proto=pl.when(is_tunnel).then(pl.lit(17, pl.UInt8)).otherwise("proto"),
    )
    start, end = pl.col("start").dt.epoch("us"), pl.col("end").dt.epoch("us")
    return grouped.sort("start", "flow_id").select(
        (start / 1_000_000).alias("ts"),
        pl.format("C{}", "flow_id").alias("uid"),
        _text(grouped, "src_ip").alias("id.orig_h"),
        pl.col("src_port").alias("id.orig_p"),
        _text(grouped, "dst_ip").alias("id.resp_h"),
        pl.col("dst_port").alias("id.resp_p"),
        proto=pl.col("proto").replace_strict(PROTOCOLS, default="unknown_transport", return_dtype=pl.String),
        duration=(end - start) / 1_000_000,
        orig_bytes="src_payload",
        resp_bytes="dst_payload",
        conn_state=pl.lit("SF"),
        missed_bytes=pl.lit(0),
        orig_pkts="src_packets",
        orig_ip_bytes="src_bytes",
        resp_pkts="dst_packets",
        resp_ip_bytes="dst_bytes",
    )


def _questions(rows: pl.DataFrame) -> pl.DataFrame:
    """One answer for each host, name, address and day, a second before it was first used."""
    named = rows.filter((pl.col("name") != "") & (pl.col("side") != "dst"))
    first = named.group_by("src_ip", "name", "dst_ip", day=pl.col("start").dt.date()).agg(pl.col("start").min())
    ordered = first.sort("start", "src_ip", "dst_ip")
    return ordered.select(
        (pl.col("start").dt.epoch("us") / 1_000_000 - 1).alias("ts"),
        _text(ordered, "src_ip").alias("id.orig_h"),
        query="name",
        qtype_name=pl.lit("A"),
        rcode_name=pl.lit("NOERROR"),
        answers=pl.concat_list(_text(ordered, "dst_ip")),
    )


def _text(frame: pl.DataFrame, column: str) -> pl.Expr:
    distinct = frame[column].unique()
    texts = [text_of(address) for address in distinct]
    return pl.col(column).replace_strict(distinct, texts, return_dtype=pl.String)
