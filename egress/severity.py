"""How bad an episode of a detector is: how rare such a score is, and how much of a model its bytes could be.

Days are walked in order: an episode is rated by days that were over before its own, and taught when its day is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from egress import registry
from egress.approvals import approve, is_outside, peer_of
from egress.config import DAY_US, Model
from egress.contracts import Calibrator, Finding, Level, Peak, Rate
from egress.days import Answers, Daily, Day, Frames
from egress.inventory import Inventory
from egress.words import EPOCH

TUNNELS = "tunnels"
"""Speaks of fixed limits, so its word needs no calibration; its name in the registry."""
CALIBRATED = tuple(name for name in registry.DETECTORS if name != TUNNELS)
"""They share the budget equally: whoever may be wrong once in a hundred days may be so in one of six ways."""
COMPLETE_FRACTION = 16
"""1/16 of native: the strongest published compression could be complete (DESIGN 4, levels)."""
STRONG_FRACTION = 64
"""1/64 of native: the least that the ledger mentions."""
RARER_FOR_HIGH = 10
"""High is for what comes ten times more rarely than the budget allows."""
EXPECTED_SHARE = 2
"""Half of what went there on that day fell under an approval."""

Row = Mapping[str, Any]
WATCHED = pl.Schema({"host": pl.String(), "day": pl.Int64()})
"""Which hosts were seen on which UTC days (since 1970)."""
EXPECTED = pl.Schema({"host": pl.String(), "group": pl.String(), "day": pl.Int64()})
"""Where hosts sent, on which UTC days, mostly what an approval allows."""


class Open(NamedTuple):
    """From when until when, in UTC microseconds, the ledger had a finding about a host open."""

    host: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Context:
    """What is known beside the scores. Without `watched`, hosts were seen on days with scores alone."""

    watched: pl.DataFrame = field(default_factory=WATCHED.to_frame)
    expected: pl.DataFrame = field(default_factory=EXPECTED.to_frame)
    open: tuple[Open, ...] = ()


class Judged(NamedTuple):
    """One row of SCORES in its episode."""

    row: Row
    total: int
    """Bytes of the episode with this row."""
    is_expected: bool
    rate: Rate | None
    """None where no rarity could raise the level: too few bytes, or expected."""


def in_queue(charged: Sequence[Finding]) -> pl.DataFrame:
    """`host begin end`: when the ledger had findings about hosts in the queue, medium or above, UTC microseconds.

    An episode stands from when it reached that level until a day after its last growth, so what is tied to it was
    known at the time.
    """
    spans = [
        (host, min(times), finding.last_seen + DAY_US)
        for finding in charged
        if (times := [time for level, time in finding.level_times.items() if level >= Level.MEDIUM])
        for host in dict.fromkeys((finding.host, *finding.path))
        if host
    ]
    return pl.DataFrame(spans, schema={"host": pl.String, "begin": pl.Int64, "end": pl.Int64}, orient="row")


def context(signals: pl.DataFrame, cells: pl.DataFrame, scores: pl.DataFrame, charged: Sequence[Finding],
            inventory: Inventory) -> Context:  # fmt: skip
    """What the sums and the ledger know that bears on scores."""
    return Context(_watched(signals), expected(cells, scores, inventory), _open(charged))


@dataclass
class Memo:
    """What was found in each day: whoever asks again and again keeps it and hands it in."""

    watched: Answers = field(default_factory=Answers)
    expected: Answers = field(default_factory=Answers)


def context_again(state: Daily, scores: pl.DataFrame, charged: Sequence[Finding], inventory: Inventory,
                  memo: Memo) -> Context:  # fmt: skip
    """The same as far as scores are concerned, for the work that days need in which something changed."""
    watched = memo.watched.of(state.days("signals"), lambda day: (_watched(day),), None)
    named = _named(scores) if inventory.config.approvals else _named(scores).clear()
    days = _days_of(named, scores, state.days("cells"), inventory)
    mostly = memo.expected.of(days, lambda sent: (_mostly_allowed(sent, inventory),), inventory)
    return Context(_together(WATCHED, watched), _together(EXPECTED, mostly), _open(charged))


def _together(schema: pl.Schema, parts: Iterable[Frames]) -> pl.DataFrame:
    return pl.concat([schema.to_frame(), *(part for (part,) in parts)])


def _watched(signals: pl.DataFrame) -> pl.DataFrame:
    day = pl.col("window_start").cast(pl.Int64) // DAY_US
    return signals.lazy().select("host", day=day).unique().collect()


def _open(charged: Sequence[Finding]) -> tuple[Open, ...]:
    return tuple(
        Open(host, min(finding.level_times.values()), finding.last_seen + DAY_US)
        for finding in charged
        for host in dict.fromkeys((finding.host, *finding.path))
        if host
    )


def expected(cells: pl.DataFrame, scores: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """EXPECTED of the places that scores name, by what the ledger would say of each cell; caps are the ledger's."""
    named = _named(scores)
    if not inventory.config.approvals or named.is_empty():
        return EXPECTED.to_frame()
    return _mostly_allowed(_sent(cells, named, inventory), inventory)


def _named(scores: pl.DataFrame) -> pl.DataFrame:
    """`host group prefix`: the networks of the places that scores name."""
    placed = scores.filter(pl.col("group") != "")
    return placed.select("host", "group", prefix=peer_of(pl.col("low_address"))).unique()


def _days_of(named: pl.DataFrame, scores: pl.DataFrame, cells: Sequence[Day], inventory: Inventory) -> list[Day]:
    """What was sent on each day to places that its scores name: nobody asks about others."""
    asked = scores.select("host", "group", day=pl.col("window_start").cast(pl.Int64) // DAY_US).unique()
    by_day = named.join(asked, on=["host", "group"]).sort("host", "group", "prefix")
    places = by_day.partition_by("day", as_dict=True, include_key=False)
    return [_day_of(places[day.number,], day, inventory) for day in cells if (day.number,) in places]


def _day_of(named: pl.DataFrame, day: Day, inventory: Inventory) -> Day:
    return Day(day.number, (day.version, *named.iter_rows()), lambda: _sent(day.opened(), named, inventory))


def _sent(cells: pl.DataFrame, named: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Cells, with their `group`, in which something was sent to a named place."""
    away = pl.when(is_outside(inventory, "outer_ip")).then("outer_ip").otherwise("remote_ip")
    sent = cells.filter(pl.col("sent") > 0).with_columns(prefix=peer_of(away))
    return sent.join(named, on=["host", "prefix"], how="inner")


def _mostly_allowed(sent: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    if sent.is_empty():
        return EXPECTED.to_frame()
    entries = sent.with_columns(
        minute=pl.col("minute").cast(pl.Int64),
        inner_is_outside=is_outside(inventory, "remote_ip"),
        outer_is_outside=is_outside(inventory, "outer_ip"),
    )
    bytes_of = pl.col("sent").cast(pl.Int128)
    sums = (
        approve(entries, inventory)
        .group_by("host", "group", day=pl.col("minute") // DAY_US)
        .agg(all=bytes_of.sum(), allowed=bytes_of.filter(pl.max_horizontal("approval", "expired") >= 0).sum())
    )
    return sums.filter(pl.col("allowed") * EXPECTED_SHARE >= pl.col("all")).select(list(EXPECTED))


def judged(episodes: Sequence[Sequence[Row]], known: Context, inventory: Inventory) -> list[list[Judged]]:
    """Every row of every episode with what bears on its level; rows of an episode in order of time."""
    is_expected = set(known.expected.iter_rows())
    plain = [list(_with_totals(rows, is_expected, inventory)) for rows in episodes]
    rates = _rates(plain, known, inventory)
    return [
        [each._replace(rate=rates.get((number, place))) for place, each in enumerate(rows)]
        for number, rows in enumerate(plain)
    ]


def level_of(each: Judged, models: Sequence[Model], budget: float) -> Level:
    """At most high.

    A tunnel is medium in itself, and high once the bytes in it could hold a model. All else is information, and medium
    where such a score is as rare as the budget asks and its bytes are what the ledger mentions; high where it is ten
    times rarer and the bytes could be all of a model.
    """
    is_complete = reaches(each.total, models, COMPLETE_FRACTION)
    if each.row["detector"] == TUNNELS:
        return Level.HIGH if is_complete else Level.MEDIUM
    if each.rate is None or each.rate.per_host_day > budget / len(CALIBRATED):
        return Level.INFO
    is_rare = each.rate.per_host_day * RARER_FOR_HIGH <= budget / len(CALIBRATED)
    return Level.HIGH if is_rare and is_complete else Level.MEDIUM


def reaches(total: int, models: Sequence[Model], fraction: int) -> bool:
    """Whether `total` is at least 1/`fraction` of some model; all of it where its size is only assumed."""
    return any(total * (1 if model.is_assumed else fraction) >= model.bytes for model in models)


def _with_totals(rows: Iterable[Row], is_expected: set[tuple[Any, ...]], inventory: Inventory) -> Iterator[Judged]:
    total = 0
    for row in rows:
        total += row["bytes"]
        yield Judged(row, total, (row["host"], row["group"], _day(row)) in is_expected, None)


def _rates(episodes: Sequence[Sequence[Judged]], known: Context, inventory: Inventory) -> dict[tuple[int, int], Rate]:
    """By episode and row: rates of those that could matter, each by the days before its own."""
    held = _once(lambda host: [inventory.model(model) for model in inventory.models_of(host)])
    by_day: dict[int, list[tuple[int, int, Peak]]] = {}
    for number, rows in enumerate(episodes):
        for place, each in enumerate(rows):
            if _matters(each, held(each.row["host"])):
                peak = _peak(rows[0].row, each.row, inventory)
                by_day.setdefault(_day(each.row), []).append((number, place, peak))
    calibrator: Calibrator = registry.calibrator()
    host_days = _host_days(known, episodes, inventory)
    spans = _spans(known.open)
    found: dict[tuple[int, int], Rate] = {}
    for day in sorted({*host_days, *by_day}):
        today = by_day.get(day, [])
        found |= {(number, place): calibrator.rate(peak) for number, place, peak in today}
        unexplained = [peak for number, place, peak in today if not _is_tied(episodes[number][place].row, spans)]
        calibrator.learn(day, host_days.get(day, {}), CALIBRATED, unexplained)
    return found


def _matters(each: Judged, models: Sequence[Model]) -> bool:
    return each.row["detector"] in CALIBRATED and not each.is_expected and reaches(each.total, models, STRONG_FRACTION)


def _peak(first: Row, row: Row, inventory: Inventory) -> Peak:
    host = str(row["host"])
    episode = f"{host} {row['group']} {first['window_start']:%FT%TZ}"
    return Peak(row["detector"], inventory.role_of(host), host, episode, row["score"])


def _host_days(known: Context, episodes: Sequence[Sequence[Judged]], inventory: Inventory) -> dict[int, Counter[str]]:
    """By day and role, how many hosts were watched."""
    seen = set(known.watched.iter_rows()) or {(each.row["host"], _day(each.row)) for rows in episodes for each in rows}
    role_of = _once(inventory.role_of)
    days: dict[int, Counter[str]] = {}
    for host, day in seen:
        days.setdefault(day, Counter())[role_of(host)] += 1
    return days


def _spans(spans: Iterable[Open]) -> dict[str, list[Open]]:
    by_host: dict[str, list[Open]] = {}
    for span in spans:
        by_host.setdefault(span.host, []).append(span)
    return by_host


def _is_tied(row: Row, spans: Mapping[str, Sequence[Open]]) -> bool:
    """Whether the ledger had a finding about the host open when the row's day was over: the row may be a part of it."""
    is_over = (_day(row) + 1) * DAY_US
    return any(span.begin < is_over and _us(row["first"]) <= span.end for span in spans.get(row["host"], ()))


def _once(ask: Callable[[str], Any]) -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def answer(name: str) -> Any:
        if name not in known:
            known[name] = ask(name)
        return known[name]

    return answer


def _day(row: Row) -> int:
    return int((row["window_start"] - EPOCH).days)


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
