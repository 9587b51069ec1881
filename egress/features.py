"""What a host did in five minutes or an hour, in one line: the numbers that analysts ask for and models compare.

Sums are integers, and ratios come from them at the end, so neither batches nor their order change a digit.
"""

from __future__ import annotations

import polars as pl

from egress.cells import HOUR_US, MOST
from egress.schema import TIME, Column, Table
from egress.signals import one_vantage

DNS, ICMP, UDP = 53, (1, 58), 17
BITS = 1_000_000
"""Shares of entropy are rounded to a millionth of a bit before they are added: sums of floats depend on their order."""


def _text(name: str, meaning: str) -> Column:
    return Column(name, pl.String(), "LowCardinality(String)", meaning, default="")


def _sum(name: str, meaning: str, unit: str = "bytes") -> Column:
    return Column(name, pl.UInt64(), "UInt64", meaning, unit, "T64, ZSTD(1)", 0)


def _ratio(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name, pl.Float64(), "Float64", meaning, unit, default=0.0)


FEATURES = Table(
    "features",
    "One row is what one host did in one span of time.",
    (
        Column("start", TIME, "DateTime64(6, 'UTC')", "start of the span, on the UTC grid", "UTC microseconds"),
        Column("span_s", pl.UInt32(), "UInt32", "length of the span", "seconds"),
        _text("host", "watched host"),
        _text("role", "the host's role; empty if none"),
        _sum("sent", "charged bytes that left the perimeter"),
        _sum("received", "charged bytes that came from outside"),
        _sum("sent_payload", "payload that left the perimeter"),
        _sum("received_payload", "payload that came from outside"),
        _sum("sent_inside", "charged bytes sent to addresses inside"),
        _sum("received_inside", "charged bytes received from addresses inside"),
        _sum("answered", "of what left, as responder"),
        _sum("over_udp", "of what left, over UDP"),
        _sum("dns", "payload sent to port 53, inside too"),
        _sum("icmp", "payload of ICMP that left"),
        _sum("flows", "conversations begun", "flows"),
        _sum("destinations", "networks (/24, /48) outside that got something", "networks"),
        _sum("new_destinations", "of them, those that got nothing from this host before", "networks"),
        _sum("names", "server names of what left", "names"),
        _sum("new_names", "of them, those that this host had not used before", "names"),
        _ratio(
            "ratio", "producer/consumer ratio, (sent - received) / (sent + received): -1 only receives, +1 only sends"
        ),
        _ratio("bytes_per_flow", "charged bytes sent and received, in and out, a conversation begun", "bytes"),
        _ratio("udp_share", "of what left, over UDP"),
        _ratio("entropy", "of what left over destinations: 0 all to one, 1 evenly to two, 3 evenly to eight", "bits"),
    ),
)

_KEYS = ["start", "host"]


def of(signals: pl.DataFrame, span_us: int = HOUR_US) -> pl.DataFrame:
    """Columns of FEATURES for SIGNALS, all of them: what is new is new since the first. Of a multiple of five minutes.

    By start and host. A span without traffic has no row.
    """
    start = pl.col("window_start").cast(pl.Int64) // span_us * span_us
    rows = one_vantage(signals).with_columns(start=start.cast(TIME))
    summed = rows.group_by(_KEYS).agg(pl.col("role").first(), *_SUMS)
    for part in (_distinct(rows, "group", "destinations"), _distinct(rows, "name", "names"), _entropy(rows)):
        summed = summed.join(part, on=_KEYS, how="left")
    whole = summed.with_columns(pl.lit(span_us // 1_000_000, pl.UInt32).alias("span_s"), *_RATIOS)
    filled = whole.with_columns(pl.col("destinations", "new_destinations", "names", "new_names").fill_null(0))
    return filled.sort(_KEYS).select(pl.col(column.name).cast(column.dtype) for column in FEATURES.columns)


def _distinct(rows: pl.DataFrame, what: str, plural: str) -> pl.DataFrame:
    """How many different ones had something sent to them, and how many of them for the first time."""
    used = rows.filter(_LEFT & (pl.col("sent") > 0) & (pl.col(what) != "")).select(*_KEYS, what).unique()
    known = used.with_columns(is_new=pl.col("start") == pl.col("start").min().over("host", what))
    return known.group_by(_KEYS).agg(pl.len().alias(plural), pl.col("is_new").sum().alias(f"new_{plural}"))


def _entropy(rows: pl.DataFrame) -> pl.DataFrame:
    to = rows.filter(_LEFT & (pl.col("sent") > 0)).group_by(*_KEYS, "group").agg(_total("sent"))
    share = pl.col("sent") / pl.col("sent").sum().over(_KEYS)
    bits = (-share * share.log(2) * BITS).round().cast(pl.Int64)
    return to.with_columns(bits=bits).group_by(_KEYS).agg((pl.col("bits").sum() / BITS).alias("entropy"))


def _total(name: str, which: pl.Expr | None = None) -> pl.Expr:
    amount = pl.col(name) if which is None else pl.when(which).then(name).otherwise(0)
    return amount.cast(pl.Int128).sum().clip(0, MOST)


_LEFT = pl.col("is_outside")
_SUMS = [
    _total("sent", _LEFT).alias("sent"),
    _total("received", _LEFT).alias("received"),
    _total("sent_payload", _LEFT).alias("sent_payload"),
    _total("received_payload", _LEFT).alias("received_payload"),
    _total("sent", ~_LEFT).alias("sent_inside"),
    _total("received", ~_LEFT).alias("received_inside"),
    _total("sent", _LEFT & pl.col("served")).alias("answered"),
    _total("sent", _LEFT & (pl.col("proto") == UDP)).alias("over_udp"),
    _total("sent_payload", (pl.col("port") == DNS) & ~pl.col("served")).alias("dns"),
    _total("sent_payload", _LEFT & pl.col("proto").is_in(ICMP)).alias("icmp"),
    _total("flows").alias("flows"),
]


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole).otherwise(0.0)


_OUT, _IN = pl.col("sent"), pl.col("received")
_RATIOS = [
    _share(_OUT - _IN, _OUT + _IN).alias("ratio"),
    _share(
        _OUT
        + _IN
        + pl.col(
            "sent_inside",
        )
        + pl.col("received_inside"),
        pl.col("flows"),
    ).alias("bytes_per_flow"),
    _share(pl.col("over_udp"), _OUT).alias("udp_share"),
    pl.col("entropy").fill_null(0.0),
]
