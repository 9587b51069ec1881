"""First contacts that carry bulk: a destination, server name or port that this host, or the whole fleet, never used.

A first contact alone is normal and only remembered; so is everything in a host's first hours, when all is new. What
counts is bulk sent to something young: contact first and send later does not help within a day. What was met while a
finding of the host is in the queue grows no older by that, and is no acquaintance of the fleet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import polars as pl

from egress.cells import DAY_US, HOUR_US, MOST
from egress.destinations import registrable
from egress.words import at, moment, size
from models.byhost import forget
from models.outside import Traffic, bulk
from models.reading import Line, Once, Reader, Rows, scores
from models.state import pack, unpack

VERSION = "2"
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
DOMAINS_KEPT = 65_536
PORTS_KEPT = 4_096

Facet = tuple[str, str]
"""What kind of contact, and with what: ("name", "example.org")."""


class Contact(NamedTuple):
    """Times in UTC microseconds; `sent` and `told` count from the first contact on."""

    first: int
    last: int
    sent: int = 0
    told: int = 0
    known: int = 0
    """The first window outside a finding in which it was used; 0: none yet."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one host."""

    since: int
    last: int
    contacts: dict[Facet, Contact] = field(default_factory=dict)


class Judged(NamedTuple):
    """One host of a window: what is known of it but for contacts, those used, and rows to tell."""

    host: str
    known: Known
    used: dict[Facet, Contact]
    rows: list[dict[str, object]]


class Novelty:
    """Contacts of each host, and since when anybody in the fleet has had them.

    A frame holds one window, windows come in order of time.
    """

    name = "novelty"

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._hosts: dict[str, Known] = {}
        self._fleet: dict[Facet, Contact] = {}
        self._judged = Once(self._judge)
        self._domains: dict[str, str] = {}
        """Registrable domains of names met lately: looking one up costs more than all else about a row."""

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row for each host and group to which bulk went over a young contact in this window."""
        return scores([row for each in self._judged(signals) for row in each.rows])

    def learn(self, signals: pl.DataFrame) -> None:
        fleet: dict[Facet, Contact] = {}
        for each in self._judged(signals):
            self._hosts[each.host] = each.known
            _use(each.known.contacts, each.used, MAX_CONTACTS)
            for facet, contact in each.used.items():
                if before := self._fleet.get(facet) or fleet.get(facet):
                    fleet[facet] = Contact(before.first, contact.last)
                elif contact.known:
                    fleet[facet] = Contact(contact.known, contact.last)
        _use(self._fleet, fleet, MAX_FLEET)
        self._judged.forget()
        forget(self._hosts, MAX_HOSTS, lambda known: known.last)

    def snapshot(self) -> bytes:
        hosts = {host: [known.since, known.last, _listed(known.contacts)] for host, known in self._hosts.items()}
        return pack(self.name, VERSION, {"hosts": hosts, "fleet": _listed(self._fleet)})

    def restore(self, state: bytes) -> None:
        self._judged.forget()
        body = unpack(self.name, VERSION, state)
        self._hosts = {
            host: Known(since, last, _contacts(contacts)) for host, (since, last, contacts) in body["hosts"].items()
        }
        self._fleet = _contacts(body["fleet"])

    def _judge(self, signals: pl.DataFrame) -> list[Judged]:
        if signals.is_empty():
            return []
        rows = self._reader.rows(signals)
        if len(self._domains) > DOMAINS_KEPT:
            self._domains.clear()
        judged: list[Judged] = []
        for traffic in self._reader.everywhere(signals).hosts:
            now = rows.start
            known = self._hosts.get(traffic.host)
            if known is None or now - known.last > FORGET_US:
                known = Known(now, now)
            sent = _sent(traffic, rows, self._domains)
            used = _used(known, sent, now, traffic.is_tied)
            young = {
                facet
                for facet in (used if _is_warm(known, now) else ())
                if sent[facet] and _may_be_told(used[facet], known, now, traffic)
            }
            carried = _carried(rows.lines_of(traffic.host), young, self._domains) if young else []
            told = [rows.window | {"host": traffic.host} | row for row in self._told(known, used, carried, now)]
            judged.append(Judged(traffic.host, Known(known.since, max(known.last, now), known.contacts), used, told))
        return judged

    def _told(
        self, known: Known, used: dict[Facet, Contact], carried: Sequence[Carried], now: int
    ) -> list[dict[str, object]]:
        """For each group its strangest young contact with bulk; `used` learns what is told of it."""
        strangest: dict[str, tuple[float, dict[str, object]]] = {}
        so_far: dict[Facet, Contact] = {}
        for each in carried:
            facet = each.facet
            contact = so_far.get(facet) or known.contacts.get(facet) or Contact(now, now)
            contact = contact._replace(last=now, sent=contact.sent + each.sent, known=used[facet].known)
            so_far[facet] = contact
            if not each.sent or contact.sent < bulk(each.model_bytes):
                continue
            so_far[facet] = contact._replace(told=contact.sent)
            others = self._known_to_others(facet, contact, now)
            score = _score(each, contact, known, others)
            if score > strangest.get(each.group, (0.0, {}))[0]:
                strangest[each.group] = score, _row(each, contact, score, _reason(each, contact, known, others))
        used |= so_far
        return [row for _, (_, row) in sorted(strangest.items())]

    def _known_to_others(self, facet: Facet, contact: Contact, now: int) -> bool:
        """Whether another host has had this contact for a day."""
        since = self._fleet.get(facet, contact).first
        return since < contact.first and now - since >= YOUNG_US


def _sent(traffic: Traffic, rows: Rows, domains: dict[str, str]) -> dict[Facet, int]:
    """What one host sent over each contact."""
    sent: dict[Facet, int] = {("destination", each.group): each.sent for each in traffic.exchanges}
    asked = [rows.of_host(name, traffic.host) for name in ("proto", "port", "served", "name", "sent")]
    for proto, port, served, name, amount in zip(*asked, strict=True):
        facet = _port(proto, port, served)
        sent[facet] = sent.get(facet, 0) + amount
        if name:
            facet = _name(name, domains)
            sent[facet] = sent.get(facet, 0) + amount
    return sent


def _used(known: Known, sent: Mapping[Facet, int], now: int, is_tied: bool) -> dict[Facet, Contact]:
    """Contacts with this window's traffic in."""
    new, begun = Contact(now, now), 0 if is_tied else now
    before = ((facet, known.contacts.get(facet, new), amount) for facet, amount in sent.items())
    return {
        facet: Contact(was.first, now, was.sent + amount, was.told, was.known or begun) for facet, was, amount in before
    }


def _is_warm(known: Known, now: int) -> bool:
    """False: no contact of this host can have come after its warm-up."""
    return max(known.last, now) - known.since >= WARM_UP_US


def _may_be_told(contact: Contact, known: Known, now: int, traffic: Traffic) -> bool:
    is_young = (not contact.known or now - contact.known < YOUNG_US) and contact.first - known.since >= WARM_UP_US
    return is_young and contact.sent >= bulk(traffic.model_bytes)


def _score(carried: Carried, contact: Contact, known: Known, others: bool) -> float:
    """High for much, to something of weight that nobody knows, from a host that has long been known."""
    age = contact.first - known.since
    much = contact.sent / (contact.sent + bulk(carried.model_bytes))
    return WEIGHTS[carried.facet[0]] * (KNOWN_TO_FLEET if others else 1.0) * much * age / (age + DAY_US)


def _row(carried: Carried, contact: Contact, score: float, reason: str) -> dict[str, object]:
    return {
        "detector": Novelty.name,
        "group": carried.group,
        "what": "first contact with",
        "score": score,
        "bytes": contact.sent - contact.told,
        "first": at(carried.first),
        "last": at(carried.last),
        "low_address": carried.low_address,
        "high_address": carried.high_address,
        "reason": reason,
    }


def _reason(carried: Carried, contact: Contact, known: Known, others: bool) -> str:
    age = contact.first - known.since
    since = f"{age // DAY_US} days" if age >= DAY_US else f"{age // HOUR_US} hours"
    where = "outside" if carried.is_outside else "inside"
    fleet = "other hosts knew it" if others else "nor had any other host"
    return (
        f"{size(contact.sent)} sent {where} since first contact with {' '.join(carried.facet)} at "
        f"{moment(contact.first)}: never met in {since} before, {fleet}"
    )


class Carried(NamedTuple):
    """What one window carried over one contact of one host to one group; times in UTC microseconds."""

    facet: Facet
    group: str
    sent: int
    model_bytes: int
    is_outside: bool
    first: int
    last: int
    low_address: bytes
    high_address: bytes


def _carried(lines: Iterable[Line], facets: Collection[Facet], domains: dict[str, str]) -> list[Carried]:
    """What the lines of one host come to over some contacts, by contact and group, in order."""
    over: dict[tuple[Facet, str], list[Line]] = {}
    for line in lines:
        for facet in _facets(line, domains):
            if facet in facets:
                over.setdefault((facet, line.group), []).append(line)
    return [_over(facet, some) for (facet, _), some in sorted(over.items(), key=itemgetter(0))]


def _over(facet: Facet, lines: Sequence[Line]) -> Carried:
    line = lines[0]
    if len(lines) == 1:
        ends = line.low_address, line.high_address
        return Carried(facet, line.group, line.sent, line.model_bytes, line.is_outside, line.first, line.last, *ends)
    return Carried(
        facet,
        line.group,
        min(sum([each.sent for each in lines]), MOST),
        line.model_bytes,
        any(each.is_outside for each in lines),
        min([each.first for each in lines]),
        max([each.last for each in lines]),
        min([each.low_address for each in lines]),
        max([each.high_address for each in lines]),
    )


def _facets(line: Line, domains: dict[str, str]) -> Iterator[Facet]:
    """Contacts that a line is about."""
    yield "destination", line.group
    yield _port(line.proto, line.port, line.served)
    if line.name:
        yield _name(line.name, domains)


@lru_cache(PORTS_KEPT)
def _port(proto: int, port: int, served: bool) -> Facet:
    return "port", f"{proto}/{port} served" if served else f"{proto}/{port}"


def _name(name: str, domains: dict[str, str]) -> Facet:
    """`domains` holds names by registrable domain: storage and delivery networks make up a host name for everything."""
    domain = domains.get(name)
    if domain is None:
        domain = domains[name] = registrable(name) or name
    return "name", domain


def _use(contacts: dict[Facet, Contact], used: Mapping[Facet, Contact], most: int) -> None:
    """Adds contacts of the latest window. They stand in order of their last use, so the first are forgotten first."""
    for facet in sorted(used):
        contacts.pop(facet, None)
        contacts[facet] = used[facet]
    for facet in list(islice(contacts, max(0, len(contacts) - most))):
        del contacts[facet]


def _listed(contacts: dict[Facet, Contact]) -> list[list[Any]]:
    return sorted([*facet, *contact] for facet, contact in contacts.items())


def _contacts(listed: list[list[Any]]) -> dict[Facet, Contact]:
    contacts = {(facet, value): Contact(*numbers) for facet, value, *numbers in listed}
    return dict(sorted(contacts.items(), key=lambda item: (item[1].last, item[0])))
