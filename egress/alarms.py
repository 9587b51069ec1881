"""Alarms: what anybody's rule would have told an analyst, when, and how strongly. The harness compares nothing else.

A rule's threshold decides which of its alarms are raised, so alarms are kept with their scores down to a low one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import polars as pl

from egress.addresses import bytes_of
from egress.cells import DAY_US
from egress.contracts import Finding
from egress.destinations import peer_text
from egress.labels import UNSEEN, Theft
from egress.severity import CALIBRATED, Judged
from egress.windows import WINDOW_US
from egress.words import EPOCH

ALARMS = pl.Schema(
    {
        "host": pl.String(),
        "time": pl.Int64(),
        "score": pl.Float64(),
        "places": pl.List(pl.String()),
        "episode": pl.String(),
        "models": pl.List(pl.String()),
        "says": pl.String(),
    }
)
"""`time` is when an analyst could have known (UTC microseconds of event time), `places` the /24 and /48 that it names,
largest first, `episode` a finding's id: empty where a run of alarms of one host is an episode. `host` is empty and
`models` speak where a finding is about a model; `says` is its title with its reasons."""

COVERAGE = "coverage"
"""The detector of `unseen`: its findings are about what no flow shows."""
STEPS_A_FOLD = 50
"""Alarms whose scores differ by less than 2 % are one: nobody sets a threshold more finely."""


def of_findings(findings: Iterable[Finding], charged: Sequence[Finding], thefts: Sequence[Theft]) -> pl.DataFrame:
    """One alarm for each level that a finding rose to, its score the level's number.

    The ledger's moments lie inside a part of a conversation, which is reported at its end; those of detectors inside
    a window, which is scored at its end. Both are moved there.
    """
    by_ledger = {finding.uid: finding.level_times for finding in charged}
    rows = []
    for finding in findings:
        if finding.suppressed_by:
            continue
        says = "\n".join((finding.title, *finding.reasons))
        for level, moment in finding.level_times.items():
            is_ledgers = by_ledger.get(finding.uid, {}).get(level) == moment
            time = _reported(moment, finding, thefts) if is_ledgers else -(-moment // WINDOW_US) * WINDOW_US
            models = [share.id for share in finding.models]
            rows.append((finding.host, time, float(level), _places(finding), finding.uid, models, says))
    return pl.DataFrame(rows, schema=ALARMS, orient="row")


def of_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """One detector's scores as alarms, heard at the end of their windows; what has score 0 only tells."""
    end = pl.col("window_start").cast(pl.Int64) + pl.col("window_s").cast(pl.Int64) * 1_000_000
    named = pl.when(pl.col("group") == "").then(pl.lit([], pl.List(pl.String))).otherwise(pl.concat_list("group"))
    return conform(scores.filter(pl.col("score") > 0).select("host", "score", time=end, places=named))


def of_rates(episodes: Iterable[Sequence[Judged]]) -> pl.DataFrame:
    """Calibrated scores as alarms: the score is in how many host-days one of all detectors is due without a cause."""
    rows: list[tuple[object, ...]] = []
    for episode in episodes:
        first = episode[0].row
        uid = f"{first['host']} {first['detector']} {first['group']} {first['window_start']}"
        for row, rate in ((each.row, each.rate) for each in episode if each.rate):
            end = row["window_start"] + timedelta(seconds=row["window_s"])
            places = [row["group"]] if row["group"] else []
            due = 1 / (rate.per_host_day * len(CALIBRATED))
            rows.append((row["host"], (end - EPOCH) // timedelta(microseconds=1), due, places, uid, [], ""))
    return pl.DataFrame(rows, schema=ALARMS, orient="row")


def conform(alarms: pl.DataFrame) -> pl.DataFrame:
    """Columns of ALARMS; absent ones are empty, a single `place` becomes the list of it."""
    if "place" in alarms.columns:
        alarms = alarms.with_columns(places=pl.concat_list("place"))
    absent = {"episode": pl.lit(""), "says": pl.lit(""), "models": pl.lit([], pl.List(pl.String))}
    alarms = alarms.with_columns(value.alias(name) for name, value in absent.items() if name not in alarms.columns)
    return alarms.select(pl.col(name).cast(dtype) for name, dtype in ALARMS.items())


def rising(alarms: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Of alarms of the same `keys` and UTC day those that rose above all before them by 2 %: no threshold tells. Of
    several at one moment the highest."""
    step = (pl.col("score").log() * STEPS_A_FOLD).floor().cast(pl.Int64)
    group = [*keys, "day"]
    falling = [False, *(False for _ in keys), True]
    ordered = alarms.filter(pl.col("score") > 0).sort("time", *keys, "score", descending=falling)
    ordered = ordered.with_columns(day=pl.col("time") // DAY_US)
    ordered = ordered.with_columns(step=step, highest=step.cum_max().over(group))
    records = ordered.filter(pl.col("step") == pl.col("highest"))
    return records.unique([*group, "step"], keep="first", maintain_order=True).drop("day", "step", "highest")


def _reported(moment: int, finding: Finding, thefts: Sequence[Theft]) -> int:
    heard = [theft.heard_at(moment) for theft in thefts if finding.host in ("", *theft.label.hosts)]
    return max(heard, default=moment)


def _places(finding: Finding) -> list[str]:
    """Networks of the addresses it names, and its groups where it names none; or that nobody saw what it is about."""
    if finding.detector == COVERAGE:
        return [UNSEEN]
    found: dict[str, None] = {}
    for destination in finding.destinations:
        found |= dict.fromkeys(_networks(destination.addresses)) or {destination.group: None}
    found |= dict.fromkeys(_networks(step for step in finding.path if _is_address(step)))
    return list(found)


def _networks(addresses: Iterable[str]) -> Mapping[str, None]:
    return {peer_text(bytes_of(address)): None for address in addresses}


def _is_address(text: str) -> bool:
    try:
        bytes_of(text)
    except ValueError:
        return False
    return True
