"""What is wrong with how a stream came: holes, sensors that went back, wrong clocks, late data, silence.

A pure function of what came of each sensor, so the order, duplicates and restarts change nothing, and a clean stream
has none of these findings. None measures bytes, so medium is the most: an innocent gap and a guilty one look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import polars as pl

from egress import arrivals, words
from egress.arrivals import NO_NUMBER
from egress.cells import DAY_US, HOUR_US
from egress.contracts import Finding, Level, ModelShare
from egress.findings import WINDOWS, in_order, uid_of
from egress.inventory import Inventory

GAP, ROLLBACK, SKEW, LATE, SILENT = "telemetry_gap", "epoch_rollback", "clock_skew", "late_data", "host_silent"
NAMES = (GAP, ROLLBACK, SKEW, LATE, SILENT)

SILENT_US = HOUR_US
"""A sensor that spoke often is missed after so long, ..."""
SILENT_MESSAGES = 100
"""... and after as long as so many of its messages took, whichever is later."""
MOST_TOLD = 5
"""Epochs that are spelled out; the rest are counted."""

ALIKE = "a full spool and a copy that was hidden look alike here: ask what the host did"
CARD = "its network card was counted meanwhile: what left beyond the flows has a finding of its own"
LEVELS = {GAP: Level.MEDIUM, ROLLBACK: Level.MEDIUM, SKEW: Level.INFO, LATE: Level.INFO, SILENT: Level.MEDIUM}
"""Where the host holds a model; information elsewhere. Rows that came late or with a wrong clock are charged anyway."""
TITLES = {
    GAP: "messages about {host} never came",
    ROLLBACK: "a sensor of {host} went back to an earlier state, or there are two of it",
    SKEW: "the clock of a sensor of {host} was wrong",
    LATE: "data about {host} came too late to stand at its own time",
    SILENT: "nothing comes about {host} any more",
}
_SENSOR = ["host", "sensor"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong with one epoch of one sensor, between two moments of event time."""

    detector: str
    host: str
    sensor: str
    first: int
    last: int
    what: str
    at: int
    """When it was known: UTC microseconds, as the other two."""


def findings_of(
    sensors: Sequence[pl.DataFrame], beating: pl.DataFrame, until: int, inventory: Inventory
) -> list[Finding]:
    """Findings of each partition's SENSORS when event time has reached `until`, worst first: one for each detector and
    sensor, and a new one after a quiet day. Rows about no watched host are nobody's trouble. `beating`: `beating_of`
    all heartbeats."""
    watched = _watched(arrivals.add(sensors)).with_columns(missing=pl.col("last_seq") + 1 - pl.col("received"))
    turned = [trouble for each in sensors for trouble in _of_order(_watched(each))]
    troubles = [*_of_epochs(watched), *dict.fromkeys(turned), *_silences(watched, beating, until, inventory)]
    counted = frozenset(beating.filter("is_counted")["host"])
    subjects = groupby(sorted(troubles, key=_order), key=lambda each: (each.detector, each.host, each.sensor))
    stretches = [stretch for _, every in subjects for stretch in _stretches(every)]
    return in_order(_finding(stretch, until, counted, inventory) for stretch in stretches)


def beating_of(beats: pl.DataFrame) -> pl.DataFrame:
    """`host is_counted`: of whom there are heartbeats, and whether they say what the card counted."""
    return beats.select("host", is_counted=pl.col("nic_tx_bytes").is_not_null()).unique()


def _watched(sensors: pl.DataFrame) -> pl.DataFrame:
    return sensors.filter(pl.col("host") != "").with_columns(pl.col("first", "last").cast(pl.Int64))


def _of_epochs(sensors: pl.DataFrame) -> Iterator[Trouble]:
    """What one epoch says of itself."""
    is_wrong = pl.any_horizontal(pl.col("missing", "rewound", "skewed_rows", "late_rows") > 0)
    for row in sensors.filter(is_wrong).iter_rows(named=True):
        name = f"sensor {_called(row['sensor'])}, epoch {_called(row['epoch'])}"
        begun = f"it began at {words.moment(row['first'])}" if row["first"] < NO_NUMBER else "its clock was never right"
        for detector, number, what in (
            (GAP, row["missing"], "messages never came, by their numbers"),
            (ROLLBACK, row["rewound"], "messages had numbers that earlier traffic had used; they count"),
            (SKEW, row["skewed_rows"], "rows with times that the others contradict; charged all the same"),
            (LATE, row["late_rows"], "rows behind the horizon; charged at it, so sums of a day may be off"),
        ):
            if number > 0:
                yield _trouble(detector, row, f"{name}: {number:,} {what}; {begun}")


def _of_order(sensors: pl.DataFrame) -> Iterator[Trouble]:
    """Epochs and boots that came again after later ones had begun.

    A message sent again moves no finding: an epoch with duplicates may have had nothing else to say.
    """
    boots = sensors.filter(pl.col("boot") != "").group_by(*_SENSOR, "boot").agg(
        pl.col("first_offset", "first").min(), pl.col("last_offset", "last", "duplicates").max()
    )  # fmt: skip
    for column, rows in (("epoch", sensors), ("boot", boots)):
        ordered = rows.sort(*_SENSOR, "first_offset", column)
        following = [pl.col(name).shift(-1).over(_SENSOR).alias(f"next_{name}") for name in ("first_offset", column)]
        came_back = (pl.col("next_first_offset") < pl.col("last_offset")) & (pl.col("duplicates") == 0)
        for row in ordered.with_columns(following).filter(came_back).iter_rows(named=True):
            both = f"{column} {_called(row[column])} came again after {column} {_called(row[f'next_{column}'])} began"
            yield _trouble(ROLLBACK, row, f"sensor {_called(row['sensor'])}: {both}")


def _silences(sensors: pl.DataFrame, beating: pl.DataFrame, until: int, inventory: Inventory) -> Iterator[Trouble]:
    """Sensors that spoke often and do no more, while the rest went on.

    Only those that know the host's boot run on it; a file comes to its end, and an exporter speaks when there is
    something to say. Where there are heartbeats, coverage has the silence, and its level.
    """
    if sensors.is_empty():
        return
    hosts = beating["host"].unique().implode()
    alive = sensors.filter(pl.col("boot") != "", ~pl.col("host").is_in(hosts), pl.col("last") >= pl.col("first"))
    spoken = alive.group_by(_SENSOR).agg(pl.col("first").min(), pl.col("last").max(), pl.col("received").sum())
    usual = (pl.col("last") - pl.col("first")) // pl.col("received").clip(1)
    patience = pl.max_horizontal(pl.lit(SILENT_US), usual * SILENT_MESSAGES)
    silent = spoken.with_columns(usual=usual, patience=patience).filter(
        pl.col("received") >= SILENT_MESSAGES, pl.col("last") + pl.col("patience") < until
    )
    for row in silent.sort(_SENSOR).iter_rows(named=True):
        what = (
            f"sensor {_called(row['sensor'])}: the last rows are from {words.moment(row['last'])}; before, a message "
            f"came every {max(1, row['usual'] // 1_000_000):,} s, and the fleet's time went on for more than "
            f"{row['patience'] // 1_000_000:,} s"
        )
        yield Trouble(SILENT, row["host"], row["sensor"], row["last"], row["last"], what, row["last"] + row["patience"])


def _trouble(detector: str, row: Mapping[str, Any], what: str) -> Trouble:
    """Of an epoch that goes on, `last` moves with every message; so its day is told."""
    first = row["first"] if row["first"] < NO_NUMBER else 0
    return Trouble(detector, row["host"], row["sensor"], first, max(first, row["last"] // DAY_US * DAY_US), what, first)


def _order(trouble: Trouble) -> tuple[str, str, str, int, str]:
    return trouble.detector, trouble.host, trouble.sensor, trouble.first, trouble.what


def _stretches(troubles: Iterable[Trouble]) -> Iterator[list[Trouble]]:
    stretch: list[Trouble] = []
    for trouble in troubles:
        if stretch and trouble.first - max(each.last for each in stretch) >= 2 * DAY_US:  # `last` may be a day short
            yield stretch
            stretch = []
        stretch.append(trouble)
    yield stretch


def _finding(stretch: Sequence[Trouble], until: int, counted: frozenset[str], inventory: Inventory) -> Finding:
    detector, host = stretch[0].detector, stretch[0].host
    models = [inventory.model(model) for model in inventory.models_of(host)]
    is_measured = detector == GAP and host in counted
    level = LEVELS[detector] if models and not is_measured else Level.INFO
    start, last = stretch[0].first, max(each.last for each in stretch)
    shares = (ModelShare(model.id, 0, model.bytes, model.is_assumed) for model in models)
    return Finding(
        uid=uid_of(detector, f"host:{host} sensor:{stretch[0].sensor}", start),
        detector=detector,
        subject=f"host:{host}",
        host=host,
        level=level,
        title=TITLES[detector].format(host=host),
        bytes=0,
        window=next((name for name, seconds in WINDOWS if last - start <= seconds * 1_000_000), "lifetime"),
        start=start,
        first_seen=start,
        last_seen=last,
        level_times={level: stretch[0].at},
        models=tuple(sorted(shares, key=lambda share: (share.native_bytes, share.id))),
        path=(host,),
        reasons=tuple(_reasons(stretch, is_measured)),
        is_closed=detector != SILENT and until - last >= 2 * DAY_US,
        revision=len(stretch),
    )


def _reasons(stretch: Sequence[Trouble], is_measured: bool) -> Iterator[str]:
    yield from (each.what for each in stretch[:MOST_TOLD])
    if len(stretch) > MOST_TOLD:
        yield f"and {len(stretch) - MOST_TOLD:,} more"
    if is_measured:
        yield CARD
    elif stretch[0].detector in (GAP, SILENT):
        yield ALIKE


def _called(name: str) -> str:
    return name or "(no name)"
