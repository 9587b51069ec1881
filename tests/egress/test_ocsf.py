"""Findings as OCSF events: valid by the published schema, equal byte for byte, harmless to read."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from egress import ocsf
from egress.contracts import Destination, Finding, Level, ModelShare

TEN = 1_795_341_600_000_000
"""2026-11-22 10:00 UTC."""

SEEN = {
    "src_ip": "10.77.1.10",
    "src_port": 54913,
    "dst_ip": "198.51.100.17",
    "dst_port": 53,
    "proto": 17,
    "name": "t.example.org",
    "bytes": 2_139_565,
    "origin": "/captures/a.pcap",
    "position": 1,
}

FINDING = Finding(
    uid="0123456789abcdef0123456789abcdef",
    detector="ledger",
    subject="host:gpu-01",
    host="gpu-01",
    level=Level.HIGH,
    title="17 % of llama-70b left gpu-01",
    bytes=24_000_352_000,
    window="1h",
    start=TEN - 1,
    first_seen=TEN - 1,
    last_seen=TEN + 50_000_999,
    level_times={Level.HIGH: TEN + 40_000_000, Level.MEDIUM: TEN},
    models=(ModelShare("llama-70b", 24_000_352_000, 141_000_000_000),),
    destinations=(Destination("198.51.100.0/24", "unapproved", 24_000_352_000, ("198.51.100.10",)),),
    path=("gpu-01", "198.51.100.10"),
    reasons=("no approval names 198.51.100.0/24",),
    evidence=(SEEN,),
    revision=3,
)


@cache
def validator() -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema("detection_finding")
    return Draft202012Validator(schema)


def errors(event: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(event)]


def test_event_has_its_fixed_places() -> None:
    """What others parse: time, severity, activity, and what OCSF has no place for."""
    event = ocsf.event(FINDING)

    assert event["time"] == (TEN + 40_000_000) // 1000
    assert (event["severity_id"], event["severity"]) == (4, "High")
    assert (event["activity_id"], event["type_uid"], event["class_uid"]) == (2, 200402, 2004)
    assert event["device"]["hostname"] == "gpu-01"
    assert event["finding_info"]["analytic"]["name"] == "ledger"
    assert [resource["uid"] for resource in event["resources"]] == ["llama-70b"]
    assert event["unmapped"]["egress"] == {
        "host": "gpu-01",
        "subject": "host:gpu-01",
        "bytes": 24_000_352_000,
        "window": "1h",
        "detector": "ledger",
        "models": [{"id": "llama-70b", "fraction": 0.1702, "of_4bit": 0.6079}],
        "destinations": [
            {
                "group": "198.51.100.0/24",
                "account": "unapproved",
                "addresses": ["198.51.100.10"],
                "names": [],
                "bytes": 24_000_352_000,
            }
        ],
        "path": ["gpu-01", "198.51.100.10"],
        "level_times": {"medium": "2026-11-22T10:00:00Z", "high": "2026-11-22T10:00:40Z"},
        "reasons": ["no approval names 198.51.100.0/24"],
        "revision": 3,
    }


@pytest.mark.parametrize(
    ("state", "activity"),
    [({"revision": 1}, 1), ({"revision": 2}, 2), ({"revision": 1, "is_closed": True}, 3)],
    ids=["created", "updated", "closed"],
)
def test_activity_follows_the_episode(state: dict[str, Any], activity: int) -> None:
    event = ocsf.event(replace(FINDING, **state))

    assert (event["activity_id"], event["type_uid"]) == (activity, 200400 + activity)
    assert errors(event) == []


def test_evidence_names_the_conversation_but_not_where_it_was_read() -> None:
    """Locations change with how an input is cut; the event must not."""
    (evidence,) = ocsf.event(FINDING)["evidences"]

    assert evidence["dst_endpoint"] == {"ip": "198.51.100.17", "port": 53, "hostname": "t.example.org"}
    assert evidence["connection_info"]["protocol_num"] == 17
    assert "/captures" not in ocsf.line(ocsf.event(FINDING))


def techniques(finding: Finding) -> set[str]:
    attacks = ocsf.event(finding)["finding_info"]["attacks"]
    return {attack.get("sub_technique", attack["technique"])["uid"] for attack in attacks}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"title": "DNS tunnel to 198.51.100.0/24"}, {"T1048.003", "T1572", "AML.T0025"}),
        ({"title": "ICMP tunnel to 198.51.100.0/24", "evidence": ()}, {"T1048.003", "T1572", "AML.T0025"}),
        ({"title": "WireGuard tunnel to 198.51.100.0/24", "evidence": ()}, {"T1048", "T1572", "AML.T0025"}),
        ({"evidence": (SEEN | {"dst_port": 443},)}, {"T1048.002", "AML.T0025"}),
        ({"evidence": (SEEN | {"dst_port": 80},)}, {"T1048.003", "AML.T0025"}),
        ({"evidence": (SEEN | {"dst_port": 4000},)}, {"T1048", "AML.T0025"}),
        ({"evidence": (), "window": "30d"}, {"T1048", "T1030", "AML.T0025"}),
    ],
    ids=["dns tunnel", "icmp tunnel", "encrypted tunnel", "tls", "http", "unknown", "slow"],
)
def test_techniques_follow_the_facts(change: dict[str, Any], expected: set[str]) -> None:
    assert techniques(replace(FINDING, **change)) == expected


def test_line_is_canonical() -> None:
    """One line of ASCII, keys sorted, the same whatever order the finding's mappings had."""
    turned = replace(FINDING, level_times=dict(reversed(FINDING.level_times.items())))

    line = ocsf.line(ocsf.event(FINDING))

    assert line == ocsf.line(ocsf.event(turned))
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == ocsf.event(FINDING)
    assert line.startswith('{"activity_id":2,"activity_name":"Update","category_name":"Findings","category_uid":2,')


def test_finding_without_a_time_for_its_level_is_refused() -> None:
    with pytest.raises(ValueError, match="level high has no time"):
        ocsf.event(replace(FINDING, level_times={}))


times = st.integers(0, 4_102_444_800_000_000)
texts = st.text(max_size=20)
counts = st.integers(0, 2**63)
levels = st.sampled_from(list(Level))
models = st.builds(ModelShare, texts, counts, st.integers(1, 2**63), st.booleans())
places = st.builds(
    Destination, texts, st.sampled_from(["unapproved", "gap"]), counts, st.just(("2001:db8::1",)), st.tuples(texts)
)
conversations = st.fixed_dictionaries(
    {
        "src_ip": st.ip_addresses().map(str),
        "dst_ip": st.ip_addresses().map(str),
        "src_port": st.integers(0, 65535),
        "dst_port": st.integers(0, 65535),
        "proto": st.integers(0, 255),
        "bytes": counts,
        "name": texts,
    }
)


@st.composite
def any_finding(draw: st.DrawFn) -> Finding:
    level = draw(levels)
    return Finding(
        uid="0" * 32,
        detector=draw(st.sampled_from(["ledger", "volume", "novelty", "tunnels"])),
        subject=draw(texts),
        host=draw(texts),
        level=level,
        title=draw(texts),
        bytes=draw(counts),
        window=draw(st.sampled_from(["1h", "1d", "7d", "30d", "lifetime"])),
        start=draw(times),
        first_seen=draw(times),
        last_seen=draw(times),
        level_times=draw(st.dictionaries(levels, times)) | {level: draw(times)},
        models=tuple(draw(st.lists(models, max_size=2))),
        destinations=tuple(draw(st.lists(places, max_size=2))),
        path=tuple(draw(st.lists(texts, max_size=3))),
        reasons=tuple(draw(st.lists(texts, max_size=2))),
        evidence=tuple(draw(st.lists(conversations, max_size=2))),
        is_closed=draw(st.booleans()),
        revision=draw(st.integers(1, 99)),
    )


@settings(max_examples=40, deadline=None)
@given(any_finding())
@pytest.mark.slow
def test_every_finding_is_a_valid_and_harmless_event(finding: Finding) -> None:
    """By the published schema; and no text in it, once parsed, holds what acts on a terminal or turns a line round."""
    event = ocsf.event(finding)

    assert errors(event) == []
    assert json.loads(ocsf.line(event)) == event
    assert not [
        char for text in _texts(event) for char in text if char != " " and unicodedata.category(char)[0] in "CZ"
    ]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *_texts(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []
