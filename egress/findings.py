"""From scores to findings, and one finding where ledger and detectors speak of the same thing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Any

import polars as pl

from egress.addresses import bytes_of, text_of
from egress.config import DAY_US, Model
from egress.contracts import Destination, Finding, Level, ModelShare
from egress.destinations import peer_text
from egress.inventory import Inventory
from egress.schema import NO_ADDRESS
from egress.severity import TUNNELS, Context, Judged, judged, level_of
from egress.windows import WINDOW_US
from egress.words import EPOCH

EPISODE_GAP_US = DAY_US
"""Windows of one subject belong to one episode unless a day of silence lies between them (DESIGN 4, episodes)."""
UNJUDGED = "unjudged"
"""Stands where the account would: detectors do not charge."""
WINDOWS = (("1h", 3_600), ("1d", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400))
NEAR_US = WINDOW_US
"""How far apart ledger and detector may be and still mean one event: one window of signals."""


def from_scores(
    scores: pl.DataFrame, inventory: Inventory, until: int | None = None, known: Context | None = None
) -> list[Finding]:
    """Findings of detectors alone, worst first: one an episode of (host, detector, destination group).

    `until` is the event time (UTC microseconds) that has been seen: episodes that ended a day before it are closed.
    `known` is what calibration needs beside the scores.
    """
    every = judged(episodes(scores), known or Context(), inventory)
    return in_order(_finding(each, inventory, until) for each in every)


def episodes(scores: pl.DataFrame) -> list[list[Mapping[str, Any]]]:
    """Rows of SCORES in order of time, episode by episode: one becomes one finding."""
    ordered = scores.sort("host", "detector", "group", "window_start", "what", "reason", "score", "bytes")
    subjects = groupby(ordered.iter_rows(named=True), key=lambda row: (row["host"], row["detector"], row["group"]))
    return [rows for _, subject in subjects for rows in _episodes(subject)]


def fuse(charged: Sequence[Finding], detected: Sequence[Finding]) -> list[Finding]:
    """The ledger's findings, each with what detectors say about it as reasons, then detectors' own, all worst first.

    A detector's finding that concerns the same host, time and destination as one of the ledger's is no finding of
    its own any more. The level is the higher of both, and the title names a tunnel.
    """
    about = [_about_the_same(finding, detected) for finding in charged]
    absorbed = {seen.uid for every in about for seen in every}
    told = [_told(finding, every) for finding, every in zip(charged, about, strict=True)]
    return in_order([*told, *(seen for seen in detected if seen.uid not in absorbed)])


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first, then earliest, then by id."""
    return sorted(findings, key=lambda finding: (-finding.level, finding.start, finding.uid))


def uid_of(detector: str, subject: str, start: int) -> str:
    """The id of an episode: the same whenever and wherever it is found again."""
    return sha256("\0".join((detector, subject, str(start))).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def evidence_line(finding: Finding) -> str:
    """Where the packets of a finding stand in the inputs, as one line of JSON without its end."""
    return _canonical({"uid": finding.uid, "evidence": finding.evidence})


def _episodes(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows of one subject in order of time, cut where nothing strange happened for `EPISODE_GAP_US`."""
    episode: list[Mapping[str, Any]] = []
    for row in rows:
        if episode and _us(row["first"]) - _us(episode[-1]["last"]) > EPISODE_GAP_US:
            yield episode
            episode = []
        episode.append(row)
    yield episode


def _finding(seen: Sequence[Judged], inventory: Inventory, until: int | None) -> Finding:
    rows = [each.row for each in seen]
    host, detector, group = (str(rows[0][name]) for name in ("host", "detector", "group"))
    models = [inventory.model(model_id) for model_id in inventory.models_of(host)]
    level_times = _risen(seen, models, inventory.config.detect.budget)
    total = seen[-1].total
    start, last = _us(rows[0]["window_start"]), max(_us(row["last"]) for row in rows)
    first = min(_us(row["first"]) for row in rows)
    destinations = _destinations(rows, group, total)
    return Finding(
        uid=uid_of(detector, f"host:{host}>{group}", start),
        detector=detector,
        subject=f"host:{host}",
        host=host,
        level=max(level_times),
        title=_title(rows, group),
        bytes=total,
        window=_shortest_window(last - first),
        start=start,
        first_seen=first,
        last_seen=last,
        level_times=level_times,
        models=_shares(models, total),
        destinations=destinations,
        path=(host, *(address for place in destinations for address in place.addresses[:1])),
        reasons=(*_reasons(rows), *_rarity(seen)),
        is_closed=until is not None and until - last > EPISODE_GAP_US,
        revision=len({row["window_start"] for row in rows}),
    )


def _risen(seen: Sequence[Judged], models: Sequence[Model], budget: float) -> dict[Level, int]:
    """When each level was first reached."""
    level_times: dict[Level, int] = {}
    for each in seen:
        level = level_of(each, models, budget)
        if not level_times or level > max(level_times):
            level_times[level] = _us(each.row["last"])
    return level_times


def _rarity(seen: Sequence[Judged]) -> Iterator[str]:
    """How rare the rarest score is, where that bears on the level and a day is over to compare it with."""
    rates = [each.rate for each in seen if each.rate and each.rate.per_host_day < 1]
    if rates:
        rarest = min(rates, key=lambda rate: rate.per_host_day)
        often = f"once in {1 / rarest.per_host_day:,.0f} host-days"
        yield f"such a score comes without a known cause {often} ({rarest.basis})"


def _title(rows: Sequence[Mapping[str, Any]], group: str) -> str:
    places = group or "several destinations"
    return "; ".join(f"{what} {places}" for what in dict.fromkeys(str(row["what"]) for row in rows))


def _shortest_window(span_us: int) -> str:
    return next((name for name, seconds in WINDOWS if span_us <= seconds * 1_000_000), "lifetime")


def _shares(models: Sequence[Model], total: int) -> tuple[ModelShare, ...]:
    shares = (ModelShare(model.id, total, model.bytes, model.is_assumed) for model in models)
    return tuple(sorted(shares, key=lambda share: (share.native_bytes, share.id)))


def _destinations(rows: Sequence[Mapping[str, Any]], group: str, total: int) -> tuple[Destination, ...]:
    if not group:
        return ()
    ends = {row["low_address"] for row in rows} | {row["high_address"] for row in rows}
    addresses = tuple(text_of(address) for address in sorted(ends) if address != NO_ADDRESS)
    return (Destination(group, UNJUDGED, total, addresses),)


def _reasons(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """For each thing seen the reason of its highest score, the latest of equals."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["what"] not in best or row["score"] >= best[row["what"]]["score"]:
            best[row["what"]] = row
    return tuple(str(row["reason"]) for row in best.values())


def _about_the_same(charged: Finding, detected: Sequence[Finding]) -> list[Finding]:
    hosts = {charged.host, *charged.path}
    near = [seen for seen in detected if seen.host in hosts and _is_near(charged, seen)]
    if not near:
        return []
    groups = {place.group for place in charged.destinations}
    groups |= {peer_text(bytes_of(address)) for place in charged.destinations for address in place.addresses}
    return [each for each in near if not each.destinations or any(place.group in groups for place in each.destinations)]


def _is_near(charged: Finding, seen: Finding) -> bool:
    return seen.first_seen <= charged.last_seen + NEAR_US and charged.first_seen <= seen.last_seen + NEAR_US


def _told(finding: Finding, seen: Sequence[Finding]) -> Finding:
    """The ledger's finding with what detectors add: reasons, the name of a tunnel, a higher level."""
    if not seen:
        return finding
    titles = [finding.title, *(other.title for other in seen if other.detector == TUNNELS)]
    reasons = [f"{other.detector}: {reason}" for other in seen for reason in other.reasons]
    return replace(
        finding,
        title="; ".join(dict.fromkeys(titles)),
        level=max(finding.level, *(other.level for other in seen)),
        level_times=_earliest([finding.level_times, *(other.level_times for other in seen)]),
        reasons=tuple(dict.fromkeys((*finding.reasons, *reasons))),
    )


def _earliest(all_times: Sequence[Mapping[Level, int]]) -> dict[Level, int]:
    """When each level was first reached by anyone; a level reached only after a higher one is not told."""
    earliest: dict[Level, int] = {}
    for level in sorted(Level, reverse=True):
        times = [times[level] for times in all_times if level in times]
        if times and min(times) < min(earliest.values(), default=min(times) + 1):
            earliest[level] = min(times)
    return dict(sorted(earliest.items()))


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain)


def _plain(value: object) -> str:
    """Times as ISO 8601 and addresses as text: all that evidence holds beyond JSON."""
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"evidence holds {value!r} ({type(value).__name__}), for which JSON has no form")
