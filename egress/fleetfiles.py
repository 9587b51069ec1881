"""Writes a made-up fleet's `egress.toml`, and its lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from egress.fleetplan import DELTAS, INTERNAL, MODELS, RESOLVER, Machine, Plan, shards
from egress.sitepolicy import GRANTS, Policy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time: int) -> str:
    """ISO 8601 of UTC microseconds."""
    return (EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")


def write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    """One object a line; whole numbers under `time`, `start`, `end`, `until` are written as moments."""
    times = ("time", "start", "end", "until")
    readable = (
        {key: moment(value) if key in times and isinstance(value, int) else value for key, value in line.items()}
        for line in lines
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in readable), encoding="utf-8")


def configuration(plan: Plan, policy: Policy, moved: Iterable[int]) -> str:
    """The text of `egress.toml`. Strings are plain names, so JSON's quoting is TOML's."""
    both = set(moved)
    return "\n".join(
        [
            'lifecycle = "lifecycle.jsonl"',
            _table("[fleet]", internal=INTERNAL, resolvers=(RESOLVER,)),
            *(_host(machine, machine.number in both) for machine in plan.machines),
            *(
                _table("[[fleet.roles]]", id=role, tolerated_bytes_per_day=most)
                for role, most in policy.tolerated.items()
            ),
            *(_model(model, plan) for model in MODELS),
            *(_approval(each, policy, plan) for each in GRANTS),
        ]
    )


def _host(machine: Machine, has_moved: bool) -> str:
    v4, second, v6 = machine.addresses
    addresses = (v4, second, v6) if has_moved else (v4, v6)
    return _table("[[fleet.hosts]]", id=machine.id, addresses=addresses, role=machine.role)


def _model(model: str, plan: Plan) -> str:
    holders = tuple(plan.machines[number].id for number in plan.holders(model))
    delta = {"delta_of": DELTAS[model]} if model in DELTAS else {}
    return _table("[[models]]", id=model, bytes=MODELS[model], holders=holders, shards=shards(model), **delta)


def _approval(name: str, policy: Policy, plan: Plan) -> str:
    grant = GRANTS[name]
    fields: dict[str, object] = {"id": name, "hosts": grant.hosts}
    fields |= {"to": grant.to} if grant.to else {}
    fields |= {"serve": grant.serve} if grant.serve else {}
    fields["bytes_per_day"] = policy.caps.get(name, 10_000_000)
    fields |= (
        {"bytes_per_peer_per_day": policy.peer_caps[name]} if grant.has_peer_cap and name in policy.peer_caps else {}
    )
    fields |= {"receipts": "receipts.jsonl"} if grant.has_receipts else {}
    expires = (EPOCH + timedelta(microseconds=plan.end, days=365)).date()
    return _table(
        "[[approvals]]",
        **fields,
        expires=expires,
        owner="platform@example.org",
        ticket=f"OPS-{len(name)}0{len(grant.hosts)}",
    )


def _table(heading: str, **fields: object) -> str:
    lines = [f"{name} = {_value(value)}" for name, value in fields.items()]
    return "\n".join([heading, *lines, ""])


def _value(value: object) -> str:
    if isinstance(value, str | int | tuple):
        return json.dumps(value)
    return str(value)
