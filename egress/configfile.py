"""Reads `egress.toml` and the files beside it into `config` records, or says everything that is wrong with them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, TypeVar

from egress import configkeys as keys
from egress.addresses import text_of
from egress.companions import read_lifecycle, read_receipts
from egress.config import Approval, ClickHouse, Config, Detect, Fleet, Host, Kafka, Model, Receipt, Role, Suppression
from egress.configcheck import expired, warnings
from egress.configdocs import reference, template
from egress.configtable import Section, read_table
from egress.errors import ConfigError
from egress.inventory import ASSUMED_MODEL, assumed_model
from egress.kafkakeys import KAFKA
from egress.suppressionkeys import SUPPRESSIONS

__all__ = ["assumed", "discover", "expired", "load", "reference", "template", "warnings"]

FILE_NAME = "egress.toml"
MAX_SHOWN_PROBLEMS = 50
"""Of a receipts file with a million broken lines, the first say as much as all."""

T = TypeVar("T", Host, Role, Model, Suppression)


def load(path: Path) -> Config:
    """What the file and its companions declare. Raises ConfigError with every problem found, one a line.

    Without a single model the result `is_assumed`: what else the file says holds, and every private address, or
    every address inside `fleet.internal`, is a host with an assumed model.
    """
    problems: list[str] = []
    config = _config(_parsed(path), path, problems)
    if problems:
        shown = problems[:MAX_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"{path}: and {len(problems) - len(shown)} more problems")
        raise ConfigError("\n".join(shown))
    return config


def assumed(assumed_model_bytes: int = Detect().assumed_model_bytes) -> Config:
    """What holds without any inventory: every private address is a host with one model of this size."""
    return Config(models=(assumed_model(assumed_model_bytes),), detect=Detect(assumed_model_bytes), is_assumed=True)


def discover(start: Path) -> Path | None:
    """The configuration in a folder, if there is one."""
    path = start / FILE_NAME
    return path if path.is_file() else None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}); `egress init` writes one") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: byte {problem.start} is not UTF-8; TOML is UTF-8 text") from problem
    except (ValueError, RecursionError) as problem:  # a number of 5,000 digits is a plain ValueError
        raise ConfigError(f"{path}: not TOML: {problem}") from problem


def _config(document: Mapping[str, Any], path: Path, problems: list[str]) -> Config:
    place = f"{path}: "
    sections = ("fleet", "models", "approvals", "detect", "suppressions", "clickhouse", "kafka")
    top = read_table(document, keys.TOP, place, problems, subsections=sections)
    fleet = _fleet(document.get("fleet", {}), place, problems)
    models = _all(document, keys.MODELS, place, problems, Model)
    approvals = _approvals(document, path, problems)
    detect = read_table(document.get("detect", {}), keys.DETECT, f"{place}detect.", problems)
    clickhouse = _clickhouse(document, path, problems)
    kafka = _kafka(document, path, problems)
    suppressions = _all(document, SUPPRESSIONS, place, problems, Suppression)
    _check_models(models, place, problems)
    lifecycle = read_lifecycle(path.parent / top["lifecycle"], problems) if top and top["lifecycle"] else ()
    found = Detect(**detect) if detect else Detect()
    if not models and not document.get("models"):
        models = (assumed_model(found.assumed_model_bytes),)
    is_assumed = any(model.is_assumed for model in models)
    return Config(fleet, models, approvals, lifecycle, found, is_assumed, clickhouse, kafka, suppressions)


def _fleet(table: object, place: str, problems: list[str]) -> Fleet:
    fleet = read_table(table, keys.FLEET, f"{place}fleet.", problems, subsections=("hosts", "roles"))
    within = table if isinstance(table, Mapping) else {}
    hosts = _all(within, keys.HOSTS, f"{place}fleet.", problems, Host)
    roles = _all(within, keys.ROLES, f"{place}fleet.", problems, Role)
    _check_addresses(hosts, f"{place}fleet.hosts", problems)
    if fleet is None:
        return Fleet(hosts=hosts, roles=roles)
    return Fleet(fleet["internal"], frozenset(fleet["resolvers"]), hosts, roles, fleet["disjoint"])


def _all(
    table: Mapping[str, Any], section: Section, place: str, problems: list[str], record: Callable[..., T]
) -> tuple[T, ...]:
    return tuple(record(**fields) for _, fields in _tables(table, section, place, problems))


def _tables(
    table: Mapping[str, Any], section: Section, place: str, problems: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, values) of each table of a list section that is as it must be."""
    name = section.name.rpartition(".")[2]
    items = table.get(name, [])
    if not isinstance(items, list):
        problems.append(f"{place}{name} must be a list of tables: write {section.heading}")
        return
    seen: set[str] = set()
    for index, item in enumerate(items):
        where = f"{place}{name}[{index}]."
        fields = read_table(item, section, where, problems)
        if fields is None:
            continue
        if fields["id"] in seen:
            problems.append(f"{where}id is {fields['id']!r}, which another has already; ids are unique")
        seen.add(fields["id"])
        yield where, fields


def _approvals(document: Mapping[str, Any], path: Path, problems: list[str]) -> tuple[Approval, ...]:
    tables = list(_tables(document, keys.APPROVALS, f"{path}: ", problems))
    files = sorted({fields["receipts"] for _, fields in tables if fields["receipts"]})
    receipts = {name: read_receipts(path.parent / name, problems) for name in files}
    return tuple(_approval(where, fields, receipts, problems) for where, fields in tables)


def _approval(
    where: str, fields: dict[str, Any], receipts: Mapping[str, Sequence[Receipt]], problems: list[str]
) -> Approval:
    to, name = fields.pop("to"), fields.pop("receipts")
    if not to and not fields["serve"]:
        problems.append(
            f"{where}to is missing; say where bytes may go in `to`, or on which ports it answers in `serve`"
        )
    return Approval(
        **fields,
        networks=tuple(item for item in to if isinstance(item, IPv6Network)),
        names=tuple(item for item in to if isinstance(item, str)),
        receipts=tuple(item for item in receipts[name] if item.approval == fields["id"]) if name else None,
    )


def _clickhouse(document: Mapping[str, Any], path: Path, problems: list[str]) -> ClickHouse | None:
    if "clickhouse" not in document:
        return None
    fields = read_table(document["clickhouse"], keys.CLICKHOUSE, f"{path}: clickhouse.", problems)
    if fields is None:
        return None
    del fields["password"]
    name = fields.pop("password_file")
    if name and fields["password_env"]:
        problems.append(f"{path}: clickhouse.password_file and password_env are both given; leave out one")
    return ClickHouse(**fields, password_file=path.parent / name if name else None)


def _kafka(document: Mapping[str, Any], path: Path, problems: list[str]) -> Kafka | None:
    if "kafka" not in document:
        return None
    fields = read_table(document["kafka"], KAFKA, f"{path}: kafka.", problems)
    if fields is None:
        return None
    del fields["password"]
    problems.extend(f"{path}: kafka.{problem}" for problem in _contradictions(fields))
    for name in ("ca", "cert", "key", "password_file"):
        fields[name] = path.parent / fields[name] if fields[name] else None
    return Kafka(**fields)


def _contradictions(fields: Mapping[str, Any]) -> Iterator[str]:
    """What cannot hold together in [kafka]."""
    for name in ("ca", "cert", "key"):
        if fields[name] and not fields["tls"]:
            yield f"{name} is given, but tls is not true; add `tls = true`, or leave out {name}"
    if bool(fields["cert"]) != bool(fields["key"]):
        yield "cert and key belong together; give both or none"
    if fields["password_env"] and fields["password_file"]:
        yield "password_file and password_env are both given; leave out one"
    has_password = fields["password_env"] or fields["password_file"]
    if fields["user"] and not has_password:
        yield "user is given without a password; name it in password_env or password_file"
    if has_password and not fields["user"]:
        yield "user is missing, but a password is named; say whose it is"
    if fields["user"] and fields["mechanism"] == "PLAIN" and not fields["tls"]:
        yield "mechanism PLAIN sends the password as it is; add `tls = true`, or use SCRAM-SHA-512"


def _check_addresses(hosts: Sequence[Host], place: str, problems: list[str]) -> None:
    owners: dict[bytes, str] = {}
    for host in hosts:
        for address in host.addresses:
            if owners.setdefault(address, host.id) != host.id:
                problems.append(
                    f"{place}: address {text_of(address)} belongs to {owners[address]} and to {host.id}; "
                    "give it to one of them"
                )


def _check_models(models: Sequence[Model], place: str, problems: list[str]) -> None:
    for model in models:
        if model.id == ASSUMED_MODEL:
            problems.append(
                f"{place}models: the id {ASSUMED_MODEL!r} stands for what is not declared; name it otherwise"
            )
        if any(shard > model.bytes for shard in model.shards):
            problems.append(f"{place}models: a shard of {model.id} is larger than the {model.bytes} bytes of all of it")
        if model.delta_of == model.id:
            problems.append(f"{place}models: {model.id} is delta_of itself; name the model that it was tuned from")
