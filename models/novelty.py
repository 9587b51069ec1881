"""First contacts that carry bulk: a destination, server name or port that this host, or the whole fleet, never used.

A first contact alone is normal and only remembered; so is everything in a host's first hours, when all is new. What
counts is bulk sent to something young: contact first and send later does not help within a day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import groupby
from typing import Any

import polars as pl

from egress.destinations import registrable
from egress.signals import SCORES, one_vantage
from egress.words import moment, size
from models.outside import bulk
from models.state import pack, unpack

VERSION = "1"
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

YOUNG_US = DAY_US
"""As long as a contact counts as new: whoever says hello first must wait a day before sending."""
WARM_UP_US = HOUR_US
"""A host known for less has met nobody yet: everything is new, and nothing of it will ever be told."""
FORGET_US = 30 * DAY_US
"""A host silent for longer starts afresh, so that one packet with a broken clock does not end its warm-up."""
WEIGHTS = {"destination": 1.0, "name": 0.7, "port": 0.5}
"""A new network says more than a new name in a known one, and that more than a new port."""
KNOWN_TO_FLEET = 0.5
"""... and half of it where another host has known it for a day."""
MAX_HOSTS = 16_384
MAX_CONTACTS = 2_048
"""Contacts remembered of one host, and ..."""
MAX_FLEET = 262_144
"""... of all hosts together; beyond, those used longest ago are forgotten, and would be new again."""

Facet = tuple[str, str]
"""What kind of contact, and with what: ("name", "example.org")."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Times in UTC microseconds; `sent` and `told` count from the first contact on."""

    first: int
    last: int
    sent: int = 0
    told: int = 0

    def used(self, now: int, sent: int) -> Contact:
        return Contact(self.first, now, self.sent + sent, self.told)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one host."""

    since: int
    last: int
    contacts: dict[Facet, Contact] = field(default_factory=dict)


Judged = tuple[str, Known, list[Facet], list[dict[str, object]]]


class Novelty:
    """Contacts of each host, and since when anybody in the fleet has had them.

    A frame holds one window, windows come in order of time.
    """

    name = "novelty"

    def __init__(self) -> None:
        self._hosts: dict[str, Known] = {}
        self._fleet: dict[Facet, Contact] = {}
        self._scored: tuple[pl.DataFrame, list[Judged]] | None = None
        """The last window that was scored and what came of it: usually the one to be learned next."""

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row for each host and group to which bulk went over a young contact in this window."""
        self._scored = signals, list(self._judged(signals))
        rows = [row for *_, told in self._scored[1] for row in told]
        return pl.DataFrame(rows, schema=SCORES.polars) if rows else SCORES.empty()

    def learn(self, signals: pl.DataFrame) -> None:
        is_scored = self._scored is not None and self._scored[0] is signals
        judged = self._scored[1] if self._scored and is_scored else list(self._judged(signals))
        self._scored = None
        for host, known, used, _ in judged:
            self._hosts[host] = known
            for facet in used:
                contact = known.contacts[facet]
                self._fleet[facet] = Contact(self._fleet.get(facet, contact).first, contact.last)
            if len(known.contacts) > MAX_CONTACTS:
                self._hosts[host] = replace(known, contacts=_latest(known.contacts, MAX_CONTACTS))
        self._fleet = _latest(self._fleet, MAX_FLEET)
        self._forget_hosts()

    def snapshot(self) -> bytes:
        hosts = {host: [known.since, known.last, _listed(known.contacts)] for host, known in self._hosts.items()}
        return pack(self.name, VERSION, {"hosts": hosts, "fleet": _listed(self._fleet)})

    def restore(self, state: bytes) -> None:
        self._scored = None
        body = unpack(self.name, VERSION, state)
        self._hosts = {
            host: Known(since, last, _contacts(contacts)) for host, (since, last, contacts) in body["hosts"].items()
        }
        self._fleet = _contacts(body["fleet"])

    def _judged(self, signals: pl.DataFrame) -> Iterator[Judged]:
        """Each host of this window: what is known of it with the window in, what it used, and rows to tell."""
        if signals.is_empty():
            return
        window = signals.select("window_start", "window_s").row(0, named=True)
        now = int(signals["window_start"].cast(pl.Int64)[0])
        for host, rows in _traffic(signals):
            known = self._hosts.get(host)
            if known is None or now - known.last > FORGET_US:
                known = Known(now, now)
            contacts = dict(known.contacts)
            told = [window | row for row in self._told(known, contacts, rows, now)]
            yield host, Known(known.since, max(known.last, now), contacts), [row[:2] for row in rows], told

    def _told(
        self, known: Known, contacts: dict[Facet, Contact], rows: Sequence[Traffic], now: int
    ) -> list[dict[str, object]]:
        """Adds this window's traffic to `contacts`; gives for each group its strangest young contact with bulk."""
        strangest: dict[str, tuple[float, dict[str, object]]] = {}
        nothing = Contact(now, now)
        for line in rows:
            facet, sent, model_bytes = line[:2], line[2], line[3]
            contact = contacts[facet] = contacts.get(facet, nothing).used(now, sent)
            if not sent or not _is_news(contact, known, now) or contact.sent < bulk(model_bytes):
                continue
            contacts[facet] = replace(contact, told=contact.sent)
            others = self._known_to_others(facet, contact, now)
            row = dict(zip(TRAFFIC, line, strict=True))
            score = _score(row, contact, known, others)
            if score > strangest.get(row["group"], (0.0, {}))[0]:
                strangest[row["group"]] = score, _row(row, contact, score, _reason(row, contact, known, others))
        return [row for _, (_, row) in sorted(strangest.items())]

    def _known_to_others(self, facet: Facet, contact: Contact, now: int) -> bool:
        """Whether another host has had this contact for a day."""
        since = self._fleet.get(facet, contact).first
        return since < contact.first and now - since >= YOUNG_US

    def _forget_hosts(self) -> None:
        if len(self._hosts) > MAX_HOSTS:
            by_age = sorted(self._hosts, key=lambda host: (self._hosts[host].last, host))
            for host in by_age[:-MAX_HOSTS]:
                del self._hosts[host]


def _is_news(contact: Contact, known: Known, now: int) -> bool:
    return now - contact.first < YOUNG_US and contact.first - known.since >= WARM_UP_US


def _score(row: dict[str, Any], contact: Contact, known: Known, others: bool) -> float:
    """High for much, to something of weight that nobody knows, from a host that has long been known."""
    age = contact.first - known.since
    much = contact.sent / (contact.sent + bulk(row["model_bytes"]))
    return WEIGHTS[row["facet"]] * (KNOWN_TO_FLEET if others else 1.0) * much * age / (age + DAY_US)


def _row(row: dict[str, Any], contact: Contact, score: float, reason: str) -> dict[str, object]:
    return {
        "host": row["host"],
        "detector": Novelty.name,
        "group": row["group"],
        "what": "first contact with",
        "score": score,
        "bytes": contact.sent - contact.told,
        **{name: row[name] for name in ("first", "last", "low_address", "high_address")},
        "reason": reason,
    }


def _reason(row: dict[str, Any], contact: Contact, known: Known, others: bool) -> str:
    age = contact.first - known.since
    since = f"{age // DAY_US} days" if age >= DAY_US else f"{age // HOUR_US} hours"
    where = "outside" if row["is_outside"] else "inside"
    fleet = "other hosts knew it" if others else "nor had any other host"
    return (
        f"{size(contact.sent)} sent {where} since first contact with {row['facet']} {row['value']} at "
        f"{moment(contact.first)}: never met in {since} before, {fleet}"
    )


Traffic = tuple[Any, ...]
"""What one window carried over one contact to one group, in the order of `TRAFFIC`."""
TRAFFIC = ("facet", "value", "sent", "model_bytes", "group", "is_outside", "first", "last", "low_address",
           "high_address", "host")  # fmt: skip

_SUMS = [
    pl.col("sent").sum(),
    pl.col("model_bytes", "last", "high_address", "is_outside").max(),
    pl.col("first", "low_address").min(),
]


def _traffic(signals: pl.DataFrame) -> Iterator[tuple[str, list[Traffic]]]:
    """By host, in order: what one window carried over each contact to each group."""
    rows = one_vantage(signals)
    port = pl.format("{}/{}{}", "proto", "port", pl.when("served").then(pl.lit(" served")).otherwise(pl.lit("")))
    facets = [
        rows.with_columns(facet=pl.lit("destination"), value="group"),
        rows.filter(pl.col("name") != "").with_columns(facet=pl.lit("name"), value=_domains(rows["name"])),
        rows.with_columns(facet=pl.lit("port"), value=port),
    ]
    place = ["host", "facet", "value", "group"]
    summed = pl.concat(facets, how="vertical").group_by(place).agg(_SUMS).sort(place)
    for host, lines in groupby(summed.select(TRAFFIC).iter_rows(), key=lambda line: str(line[-1])):
        yield host, list(lines)


def _domains(names: pl.Series) -> pl.Expr:
    """Names by registrable domain: storage and delivery networks make up a host name for everything."""
    known = {name: registrable(name) or name for name in names.unique() if name}
    return pl.col("name").replace_strict(known, default="", return_dtype=pl.String)


def _latest(contacts: dict[Facet, Contact], most: int) -> dict[Facet, Contact]:
    if len(contacts) <= most:
        return contacts
    by_age = sorted(contacts, key=lambda facet: (contacts[facet].last, facet))
    return {facet: contacts[facet] for facet in by_age[-most:]}


def _listed(contacts: dict[Facet, Contact]) -> list[list[Any]]:
    return sorted([*facet, *astuple(contact)] for facet, contact in contacts.items())


def _contacts(listed: list[list[Any]]) -> dict[Facet, Contact]:
    return {(facet, value): Contact(*numbers) for facet, value, *numbers in listed}
