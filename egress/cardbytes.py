"""What a network card may have counted for the flows that were seen, so that what it counted beyond them stands out.

Linux counts frames without their check sequence (`rtnl_link_stats64.tx_bytes` in include/uapi/linux/if_link.h); some
drivers count it too. Flows count IP bytes, and packets as they were metered: on the sending host before the card cuts
them into segments. So each packet is allowed its frame, and what is longer than a segment the headers of its segments.

What a watched host received from another is counted as well: it tells what the other sent while its own sensor slept.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from egress.adding import Adding
from egress.addresses import lies_in, network_of
from egress.amounts import LARGEST_ON_CARD, MOST
from egress.cells import HOUR_US, MINUTE_US
from egress.grouping import CODE, coded, decoded
from egress.inventory import Inventory
from egress.schema import NO_ADDRESS, Column, Table
from egress.sightings import Sightings, sightings

LOOPBACK = (network_of("127.0.0.0/8"), network_of("::1"))
KEY = ["host", "sensor", "sender", "begin", "end"]

COUNTED = [f"{way}_{what}" for way in ("sent", "received") for what in ("bytes", "most")]
ADDING = Adding(("bytes", "most"))


def _whole(name: str, meaning: str, unit: str) -> Column:
    return Column(name, pl.Int64(), "Int64", meaning, unit, "T64, ZSTD(1)")


ON_CARDS = Table(
    "on_cards",
    "One row is what one host sent, or received from another, as one sensor saw it, in rows that begin and end in the "
    "same minutes.",
    (
        Column("host", pl.String(), "LowCardinality(String)", "watched host"),
        Column("sensor", pl.String(), "LowCardinality(String)", "collector/sensor that saw it"),
        Column("sender", pl.String(), "LowCardinality(String)", "who sent: the host itself, or another listed one"),
        _whole("begin", "UTC minute in which the rows begin", "UTC microseconds"),
        _whole("end", "UTC minute in which they end", "UTC microseconds"),
        _whole("bytes", "IP bytes that the sender sent", "bytes"),
        _whole("most", "the most that a network card counts for them", "bytes"),
    ),
)


def of(flows: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """What each host sent in attributed FLOWS, and received from other listed hosts: columns of ON_CARDS.

    UTC microseconds, IP bytes, and the most that a card counts for them. What a host sends to itself passes no card
    and is left out.
    """
    return partial(sightings(flows), inventory).sort(KEY)


def partial(seen: Sightings, inventory: Inventory) -> pl.DataFrame:
    """What `of` gives, in any order: what is added up later is sorted then."""
    owners = {address: host.id for host in inventory.config.fleet.hosts for address in host.addresses}

    def owner(address: pl.Expr) -> pl.Expr:
        return address.replace_strict(list(owners), list(owners.values()), default="", return_dtype=pl.String)

    farthest = pl.when(pl.col("outer") == NO_ADDRESS).then("remote").otherwise("outer")
    ends = seen.ends.with_columns(other=owner(pl.col("remote")), farthest=owner(farthest))
    is_told = (ends["other"] != "") & (ends["other"] != ends["host"])
    is_within = ends.select(
        (pl.col("farthest") == pl.col("host"))
        | (pl.col("src_ip") == pl.col("dst_ip"))
        | lies_in(pl.col("dst_ip"), LOOPBACK)
    ).to_series()
    rows = seen.rows.with_columns(pl.col("sent_bytes", "received_bytes").clip(0, LARGEST_ON_CARD))
    lines = pl.concat(part.select(CODE, "begin", "end", *COUNTED) for part in (seen.lines, rows))
    if is_within.any():
        lines = lines.filter(~is_within.gather(lines[CODE]))
    parts = [_summed(lines, "sent", ends.with_columns(sender="host"))]
    if is_told.any():
        came = lines.filter(is_told.gather(lines[CODE]))
        parts.append(_summed(came, "received", ends.with_columns(sender="other")))
    return pl.concat(parts).select(ON_CARDS.names)


def _summed(lines: pl.DataFrame, side: str, ends: pl.DataFrame) -> pl.DataFrame:
    """What `sender` sent in each line, which its host `sent` or `received`."""
    codes, keys = coded(ends, KEY[:3])
    sent = lines.select(
        codes.gather(lines[CODE]),
        begin=pl.col("begin") // MINUTE_US * MINUTE_US,
        end=pl.col("end") // MINUTE_US * MINUTE_US,
        bytes=f"{side}_bytes",
        most=f"{side}_most",
    )
    return decoded(ADDING.add(sent.filter(pl.col("bytes") > 0), [CODE, "begin", "end"]), keys)


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The sum over disjoint flows, in canonical order; an empty frame without parts."""
    return ADDING.in_order(pl.concat([ON_CARDS.empty(), *parts]), KEY, ["begin", "end"])


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same sources as one: the larger counts. Idempotent."""
    states = pl.concat([ON_CARDS.empty(), *parts]).lazy()
    return states.group_by(KEY).agg(pl.col("bytes", "most").max()).sort(KEY).collect()


def largest_view(sent: pl.DataFrame, disjoint: pl.Expr) -> pl.DataFrame:
    """`sender begin end bytes most`, each byte once: of several sensors the one that saw most of a host in an hour.

    Sensors for which `disjoint` holds add up and compete as one.
    """
    views = sent.with_columns(
        view=pl.when(disjoint).then(pl.lit("")).otherwise("sensor"), hour=pl.col("begin") // HOUR_US
    )
    place = ["host", "sender", "hour"]
    sums = views.group_by(*place, "view").agg(pl.col("bytes").cast(pl.Int128).sum())
    best = sums.sort(*place, "bytes", "view", descending=[False, False, False, True, False])
    best = best.unique(place, keep="first", maintain_order=True).drop("bytes")
    chosen = views.join(best, on=[*place, "view"], how="semi")
    keys = ["sender", "begin", "end"]
    return chosen.group_by(keys).agg(_total("bytes"), _total("most")).sort("sender", "end", "begin")


def explaining(own: pl.DataFrame, told: pl.DataFrame, silent: pl.DataFrame) -> pl.DataFrame:
    """What explains a card's bytes: `own` sums of each sender, and in minutes that begin within a silence of its own
    sensors (`host start end`, UTC microseconds) what others `told` that it sent them, where that is more."""
    minutes = silent.select(sender="host", since=pl.col("start") // MINUTE_US * MINUTE_US, until="end")
    asked = told.join(minutes, on="sender").filter(pl.col("begin").is_between("since", "until"))
    asked = asked.select(told.columns).unique(maintain_order=True)
    place = ["sender", "begin"]
    sums = [each.group_by(place).agg(pl.col("most").cast(pl.Int128).sum()) for each in (asked, own)]
    both = sums[0].join(sums[1], on=place, how="left", suffix="_own")
    better = both.filter(pl.col("most") > pl.col("most_own").fill_null(0)).select(place)
    kept = own.join(better, on=place, how="anti"), asked.join(better, on=place, how="semi")
    return pl.concat(kept).sort("sender", "end", "begin")


def _total(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int128).sum().clip(0, MOST).cast(pl.Int64).alias(name)
