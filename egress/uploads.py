"""What other tools' rules look at: conversations that crossed the perimeter, as their sensors would log them."""

from __future__ import annotations

import polars as pl

from egress.approvals import approve, is_outside, peer_of
from egress.config import Config
from egress.destinations import peer_text
from egress.inventory import Inventory
from egress.schema import ADDRESS_BYTES, NO_ADDRESS

UPLOADS = pl.Schema(
    {
        "host": pl.String(),
        "remote": pl.Binary(),
        "place": pl.String(),
        "port": pl.UInt16(),
        "flow_id": pl.UInt64(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "sent": pl.Int64(),
        "received": pl.Int64(),
        "is_answer": pl.Boolean(),
        "is_listed": pl.Boolean(),
    }
)
"""One part of a conversation with an address outside, its IP bytes as `sent` and `received` by the watched host.

`place` is the /24 or /48, `is_answer` says that the host did not open it, and `is_listed` that the destination stands
on the site's allow-list: it is what some approval of this host names, by address or by evident name, whatever the caps.
"""


def of(flows: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Columns of UPLOADS from attributed FLOWS. In a tunnel the outermost address counts, where it is outside."""
    is_src = pl.col("side") == "src"
    rows = flows.filter(pl.col("host") != "").select(
        "host",
        "flow_id",
        "proto",
        "name",
        "name_from",
        pl.col("start", "end").cast(pl.Int64),
        remote_ip=pl.when(is_src).then("dst_ip").otherwise("src_ip"),
        outer_ip=pl.when(is_src).then("outer_dst_ip").otherwise("outer_src_ip"),
        port="dst_port",
        served_port=pl.when(is_src).then(0).otherwise("dst_port"),
        sent=pl.when(is_src).then("src_bytes").otherwise("dst_bytes").cast(pl.Int64),
        received=pl.when(is_src).then("dst_bytes").otherwise("src_bytes").cast(pl.Int64),
        is_answer=~is_src,
        minute=pl.col("end").cast(pl.Int64),
    )
    sides = {"inner_is_outside": "remote_ip", "outer_is_outside": "outer_ip"}
    rows = rows.with_columns(is_outside(inventory, column).alias(name) for name, column in sides.items())
    left = rows.filter(pl.col("inner_is_outside") | pl.col("outer_is_outside"))
    has_outer = pl.col("outer_is_outside") & (pl.col("outer_ip") != NO_ADDRESS)
    listed = approve(left, inventory).with_columns(
        is_listed=pl.col("approval").is_in(_naming_destinations(inventory.config)),
        remote=pl.when(has_outer).then("outer_ip").otherwise("remote_ip"),
    )
    return _with_place(listed).select(pl.col(name).cast(dtype) for name, dtype in UPLOADS.items())


def _naming_destinations(config: Config) -> list[int]:
    """Approvals that an allow-list can hold: to serve whoever connects is none."""
    return [index for index, each in enumerate(config.approvals) if each.networks or each.names]


def _with_place(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.with_columns(peer=peer_of(pl.col("remote")))
    peers = rows["peer"].unique()
    texts = [peer_text(peer.ljust(ADDRESS_BYTES, b"\0")) for peer in peers]
    return rows.join(pl.DataFrame({"peer": peers, "place": pl.Series(texts, dtype=pl.String)}), on="peer", how="left")
