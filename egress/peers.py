"""Rules that people use today, written anew from their public descriptions, in one harness with Egress.

Facts only (thresholds, windows, what is grouped by what) were taken from the sources that each rule names. All of them
look at what a watched host sends over conversations that it opened itself, as their sources do. Where a description
leaves a choice, the one that favours the rule is taken, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from egress.alarms import conform, rising
from egress.cells import DAY_US, HOUR_US

MB, GIB = 1_000_000, 1 << 30
MAD_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation, from its median absolute deviation."""
BASELINE = "14d"
LEAST_BASELINE = 8
"""Aggregates that a baseline needs before anything is compared with it: one day of 3-hour buckets."""
LEAST_CONNECTIONS = 20
"""Below it nothing is called regular."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: from UPLOADS to ALARMS with scores, and the threshold that its authors published."""

    name: str
    source: str
    unit: str
    """Of its score."""
    published: float | None
    alarms: Callable[[pl.DataFrame], pl.DataFrame]
    is_sum: bool = False
    """True: a sum of bytes, which can be asked of answers as well."""


def bytes_a_flow(uploads: pl.DataFrame) -> pl.DataFrame:
    """Slips, the page "features" of its documentation: 100 MB sent in one flow, known at its end."""
    flows = uploads.group_by("host", "flow_id", "remote", "place").agg(
        time=pl.col("end").max(), score=pl.col("sent").sum().cast(pl.Float64)
    )
    return rising(flows, "host", "place")


def bytes_an_hour(uploads: pl.DataFrame) -> pl.DataFrame:
    """Slips, documentation, "features": 500 MB sent to one destination within a time window of one hour."""
    ordered = uploads.sort("end", "flow_id").with_columns(hour=pl.col("end") // HOUR_US)
    running = pl.col("sent").cum_sum().over("host", "remote", "hour")
    return rising(
        ordered.select("host", "place", "remote", time="end", score=running.cast(pl.Float64)), "host", "remote"
    )


def bytes_in_8_hours(uploads: pl.DataFrame) -> pl.DataFrame:
    """Elastic's hunt "Egress Network Connections with Total Bytes Greater than Threshold": 1 GiB within 8 hours.

    By destination. The original also keeps processes apart, which can only hide a part of the sum.
    """
    ordered = uploads.sort("end", "flow_id").with_columns(at=pl.from_epoch("end", "us"))
    running = pl.col("sent").rolling_sum_by("at", "8h").over("host", "remote")
    return rising(
        ordered.select("host", "place", "remote", time="end", score=running.cast(pl.Float64)), "host", "remote"
    )


def high_sum(uploads: pl.DataFrame) -> pl.DataFrame:
    """Elastic's Data Exfiltration Detection (`packages/ded` of elastic/integrations): high_sum of sent bytes over
    destination addresses, in buckets of 3 hours.

    Population analysis compares each destination's bucket with those of all. Their model is not public; here it is
    the robust z of the logarithm, against the buckets of the 14 days before, anew every day. The host that sent most
    of it is named, as an influencer would be.
    """
    bucket = pl.col("end") // (3 * HOUR_US) * (3 * HOUR_US)
    by_host = uploads.group_by("remote", "place", "host", bucket=bucket).agg(pl.col("sent").sum()).sort("host")
    sums = by_host.group_by("remote", "place", "bucket").agg(
        pl.col("sent").sum(), pl.col("host").sort_by("sent", descending=True, maintain_order=True).first()
    )
    value = pl.col("sent").cast(pl.Float64).log1p()
    scored = _against_baseline(sums.with_columns(value=value), [])
    return rising(scored.with_columns(time=pl.col("bucket") + 3 * HOUR_US), "host", "remote")


def seasonal(uploads: pl.DataFrame) -> pl.DataFrame:
    """Sentinel's "Time series anomaly for data size transferred to public internet": hourly sums of 14 days taken
    apart into season and rest, asked once a day; destinations that got more than 10 MB in an anomalous hour.

    One series a host, where the original has one a log source, which would drown every single host. The season is the
    mean of the same hour on the days before; the score is how far the rest lies beyond its 90th percentile, in
    distances between the 10th and the 90th. 5 is the published threshold.
    """
    hour = pl.col("end") // HOUR_US * HOUR_US
    by_place = uploads.group_by("host", "place", hour=hour).agg(pl.col("sent").sum())
    sums = _every_hour(by_place.group_by("host", "hour").agg(pl.col("sent").sum().cast(pl.Float64)))
    same_hour = pl.col("sent").shift(1).rolling_mean(14, min_samples=3).over("host", pl.col("hour") % DAY_US)
    rest = sums.with_columns(rest=pl.col("sent") - same_hour).drop_nulls("rest")
    low, high = (pl.col("rest").rolling_quantile(q, window_size=336, min_samples=48).over("host") for q in (0.1, 0.9))
    scored = rest.with_columns(score=(pl.col("rest") - high) / pl.max_horizontal(high - low, pl.lit(1.0)))
    named = scored.join(by_place.filter(pl.col("sent") > 10 * MB), on=["host", "hour"])
    midnight = (pl.col("hour") // DAY_US + 1) * DAY_US
    return rising(named.select("host", "place", "score", time=midnight), "host", "place")


def far_from_baseline(uploads: pl.DataFrame) -> pl.DataFrame:
    """Zeek package for exfiltration by statistics (packages.zeek.org, f397a3cc-7936-11ee-9c2f-0a598146b5c6): sums of 3
    hours by source address and destination port, a baseline of 14 days, median absolute deviation, distance,
    producer/consumer ratio.

    Here: more sent than received, more than ever in the baseline, and the robust z as the score. A pair without a day
    of baseline is not judged.
    """
    bucket = pl.col("end") // (3 * HOUR_US) * (3 * HOUR_US)
    largest = pl.col("place").sort_by("sent", descending=True, maintain_order=True).first()
    sums = uploads.sort("place").group_by("host", "port", bucket=bucket).agg(pl.col("sent", "received").sum(), largest)
    scored = _against_baseline(sums.with_columns(value=pl.col("sent").cast(pl.Float64)), ["host", "port"])
    strange = scored.filter((pl.col("sent") > pl.col("received")) & (pl.col("value") > pl.col("most")))
    return rising(strange.with_columns(time=pl.col("bucket") + 3 * HOUR_US), "host", "place")


def regular(uploads: pl.DataFrame) -> pl.DataFrame:
    """RITA's beacon score (activecm/rita-legacy, `pkg/beacon`): how symmetric and how narrow the gaps between a pair's
    connections of a day are, and likewise their sizes; .8 is what people look at.

    A mean of four parts: one less the Bowley skewness, and one less the median absolute deviation over the median, of
    gaps and of sizes.
    """
    connections = uploads.group_by("host", "remote", "place", "flow_id").agg(
        pl.col("start").min(), size=pl.col("sent").sum().cast(pl.Float64)
    )
    pair = ["host", "remote", "place", "day"]
    ordered = connections.with_columns(day=pl.col("start") // DAY_US).sort("start", "flow_id")
    gaps = ordered.with_columns(gap=pl.col("start").diff().over(pair).cast(pl.Float64))
    scores = gaps.group_by(pair).agg(
        pl.len(), score=(_symmetry("gap") + _narrowness("gap") + _symmetry("size") + _narrowness("size")) / 4
    )
    often = scores.filter(pl.col("len") >= LEAST_CONNECTIONS)
    return often.select("host", "place", "score", time=(pl.col("day") + 1) * DAY_US).sort("time", "host", "place")


RULES = (
    Rule("100 MB a flow", "Slips", "bytes", 100 * MB, bytes_a_flow, is_sum=True),
    Rule("500 MB an hour", "Slips", "bytes", 500 * MB, bytes_an_hour, is_sum=True),
    Rule("1 GiB in 8 h", "Elastic hunting", "bytes", GIB, bytes_in_8_hours, is_sum=True),
    Rule("high sum of 3 h", "Elastic DED", "robust z", None, high_sum),
    Rule("14-day series", "Microsoft Sentinel", "spreads", 5, seasonal),
    Rule("MAD, distance, PCR", "Zeek exfil package", "robust z", None, far_from_baseline),
    Rule("regularity", "RITA", "score", 0.8, regular),
)


def alarms(rule: Rule, uploads: pl.DataFrame) -> pl.DataFrame:
    """ALARMS of one rule."""
    return conform(rule.alarms(uploads).filter(pl.col("score").is_finite() & (pl.col("score") > 0)))


def opened(uploads: pl.DataFrame) -> pl.DataFrame:
    """What the rules see as published: conversations that watched hosts opened."""
    return uploads.filter(~pl.col("is_answer"))


def unlisted(uploads: pl.DataFrame) -> pl.DataFrame:
    """What is left where a careful site put every approved destination on an allow-list."""
    return uploads.filter(~pl.col("is_listed"))


def _against_baseline(sums: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Adds `score`, the robust z of `value` among those with the same keys of the 14 days before, and their `most`."""
    dated = sums.with_columns(at=pl.from_epoch("bucket", "us"), value=pl.col("value")).sort("at")
    past = dated.group_by_dynamic("at", every="1d", period=BASELINE, offset=f"-{BASELINE}", group_by=keys or None).agg(
        pl.len(),
        median=pl.col("value").median(),
        mad=(pl.col("value") - pl.col("value").median()).abs().median(),
        most=pl.col("value").max(),
    )
    past = past.filter(pl.col("len") >= LEAST_BASELINE).with_columns(day=pl.col("at").dt.offset_by(BASELINE))
    joined = dated.with_columns(day=pl.col("at").dt.truncate("1d")).join(past.drop("at", "len"), on=[*keys, "day"])
    # A baseline of equal sums has no spread; then a hundredth of its median stands for one.
    spread = pl.max_horizontal(pl.col("mad") * MAD_TO_SIGMA, pl.col("median") / 100, pl.lit(1e-9))
    return joined.with_columns(score=(pl.col("value") - pl.col("median")) / spread)


def _every_hour(sums: pl.DataFrame) -> pl.DataFrame:
    """The sums with zeros in the hours in which a host sent nothing."""
    if sums.is_empty():
        return sums
    at = sums["hour"].to_numpy()
    first, last = int(at.min()), int(at.max())
    hours = pl.DataFrame({"hour": pl.int_range(first, last + 1, HOUR_US, eager=True)})
    grid = sums.select(pl.col("host").unique().sort()).join(hours, how="cross")
    return (
        grid.join(sums, on=["host", "hour"], how="left")
        .with_columns(pl.col("sent").fill_null(0.0))
        .sort("host", "hour")
    )


def _symmetry(column: str) -> pl.Expr:
    low, middle, high = (pl.col(column).quantile(q, "linear") for q in (0.25, 0.5, 0.75))
    skewness = (low + high - 2 * middle) / pl.max_horizontal(high - low, pl.lit(1e-9))
    return 1 - skewness.abs()


def _narrowness(column: str) -> pl.Expr:
    median = pl.col(column).median()
    deviation = (pl.col(column) - median).abs().median()
    return (1 - deviation / pl.max_horizontal(median, pl.lit(1e-9))).clip(0, 1)
