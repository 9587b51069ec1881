"""Findings as OCSF Detection Findings (class 2004, schema 1.8.0), for everyone else's tools.

Nothing in an event says where packets were read, so equal findings give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from egress import __version__
from egress.contracts import Destination, Finding, Level, ModelShare
from egress.words import at, safe

SCHEMA_VERSION = "1.8.0"
CATEGORY_UID = 2
CLASS_UID = 2004
CREATE, UPDATE, CLOSE = 1, 2, 3
ACTIVITIES = {CREATE: "Create", UPDATE: "Update", CLOSE: "Close"}
SEVERITIES = {Level.INFO: "Informational", Level.MEDIUM: "Medium", Level.HIGH: "High", Level.CRITICAL: "Critical"}
NEW, SUPPRESSED, OTHER = 1, 3, 99
RULE, BEHAVIOURAL, STATISTICAL = 1, 2, 3
UNSEEN = ("coverage", "telemetry_gap", "epoch_rollback", "clock_skew", "late_data", "host_silent")
"""Detectors of what nobody saw, or saw wrongly: they speak of sensors, not of bytes that left."""
ANALYTIC_TYPES = {"ledger": RULE, "tunnels": RULE, "novelty": BEHAVIOURAL, **dict.fromkeys(UNSEEN, RULE)}
SIGNIFICANT_DIGITS = 4

EXFILTRATION = {"uid": "TA0010", "name": "Exfiltration"}
COMMAND_AND_CONTROL = {"uid": "TA0011", "name": "Command and Control"}
ALTERNATIVE = {"uid": "T1048", "name": "Exfiltration Over Alternative Protocol"}
ENCRYPTED = {"uid": "T1048.002", "name": "Exfiltration Over Asymmetric Encrypted Non-C2 Protocol"}
UNENCRYPTED = {"uid": "T1048.003", "name": "Exfiltration Over Unencrypted Non-C2 Protocol"}
ATLAS = {
    "tactic": {"uid": "AML.TA0010", "name": "Exfiltration"},
    "technique": {"uid": "AML.T0025", "name": "Exfiltration via Cyber Means"},
}
"""MITRE ATLAS: a model leaves by ordinary means of exfiltration, not by asking it questions (AML.T0024)."""
SIZE_LIMITS = {"tactic": EXFILTRATION, "technique": {"uid": "T1030", "name": "Data Transfer Size Limits"}}
TUNNELING = {"tactic": COMMAND_AND_CONTROL, "technique": {"uid": "T1572", "name": "Protocol Tunneling"}}
IMPAIRED = {
    "tactic": {"uid": "TA0005", "name": "Defense Evasion"},
    "technique": {"uid": "T1562", "name": "Impair Defenses"},
}
ENCRYPTED_PORTS = frozenset({22, 443, 853, 993, 8443})
UNENCRYPTED_PORTS = frozenset({20, 21, 23, 25, 53, 69, 80, 123, 8000, 8080})
ENCRYPTED_TUNNELS = ("IPsec", "ESP", "OpenVPN", "WireGuard")
SLOW_WINDOWS = frozenset({"7d", "30d", "lifetime"})
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "ipv6-icmp", 132: "sctp"}

Json = dict[str, Any]


def event(finding: Finding) -> Json:
    """The event of a finding's present state; strings in it hold nothing that could steer a terminal.

    Raises ValueError where the finding has no time for its own level.
    """
    activity = CLOSE if finding.is_closed else CREATE if finding.revision <= 1 else UPDATE
    return {
        "activity_id": activity,
        "activity_name": ACTIVITIES[activity],
        "category_uid": CATEGORY_UID,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"Detection Finding: {ACTIVITIES[activity]}",
        "time": _reached(finding) // 1000,
        "severity_id": int(finding.level),
        "severity": SEVERITIES[finding.level],
        **_status(finding),
        "message": safe(finding.title),
        "metadata": _metadata(finding),
        "finding_info": _finding_info(finding),
        **({"device": _device(finding.host)} if finding.host else {}),
        "resources": [_resource(model) for model in finding.models],
        "evidences": [_evidence(seen) for seen in finding.evidence],
        "unmapped": {"egress": _own(finding)},
    }


def line(event: Mapping[str, object]) -> str:
    """The event as one line of canonical JSON, ASCII only, without the line's end: equal events give equal bytes."""
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _reached(finding: Finding) -> int:
    if finding.level not in finding.level_times:
        raise ValueError(f"finding {finding.uid}: level {finding.level.word} has no time in level_times")
    return finding.level_times[finding.level]


def _status(finding: Finding) -> Json:
    if finding.suppressed_by:
        return {"status_id": SUPPRESSED, "status": "Suppressed"}
    if finding.is_closed:
        return {"status_id": OTHER, "status": "Closed without growth"}
    return {"status_id": NEW, "status": "New"}


def _metadata(finding: Finding) -> Json:
    return {
        "version": SCHEMA_VERSION,
        "product": {"name": "Egress", "vendor_name": "Egress", "version": __version__},
        "uid": f"{finding.uid}-{finding.revision}",
    }


def _finding_info(finding: Finding) -> Json:
    return {
        "uid": finding.uid,
        "title": safe(finding.title),
        "desc": safe("; ".join((finding.title, *finding.reasons))),
        "first_seen_time": finding.first_seen // 1000,
        "last_seen_time": finding.last_seen // 1000,
        "analytic": {"name": finding.detector, "type_id": ANALYTIC_TYPES.get(finding.detector, STATISTICAL)},
        "attacks": _attacks(finding),
    }


def _attacks(finding: Finding) -> list[Json]:
    """ATT&CK and ATLAS techniques that the finding's own facts support, no more."""
    if finding.detector in UNSEEN:
        return [IMPAIRED]
    is_tunnel = " tunnel " in finding.title
    is_readable = is_tunnel and not any(f"{kind} tunnel " in finding.title for kind in ENCRYPTED_TUNNELS)
    ports = {seen.get("dst_port") for seen in finding.evidence}
    attacks: list[Json] = [{"tactic": EXFILTRATION, "technique": ALTERNATIVE}]
    if ports and ports <= ENCRYPTED_PORTS:
        attacks = [{"tactic": EXFILTRATION, "technique": ALTERNATIVE, "sub_technique": ENCRYPTED}]
    if is_readable or (ports and ports <= UNENCRYPTED_PORTS):
        attacks = [{"tactic": EXFILTRATION, "technique": ALTERNATIVE, "sub_technique": UNENCRYPTED}]
    if is_tunnel:
        attacks.append(TUNNELING)
    if finding.window in SLOW_WINDOWS:
        attacks.append(SIZE_LIMITS)
    return [*attacks, ATLAS] if finding.models else attacks


def _device(host: str) -> Json:
    return {"hostname": safe(host), "type_id": 0, "type": "Unknown"}


def _resource(model: ModelShare) -> Json:
    return {
        "uid": safe(model.id),
        "name": safe(model.id),
        "type": "AI model",
        "data": {"bytes": model.native_bytes, "is_assumed": model.is_assumed},
    }


def _evidence(seen: Mapping[str, object]) -> Json:
    """One of the largest conversations, without where in the input it stood."""
    protocol = int(str(seen.get("proto", 0)))
    evidence: Json = {
        "src_endpoint": _endpoint(seen, "src"),
        "dst_endpoint": _endpoint(seen, "dst"),
        "connection_info": {"direction_id": 0, "direction": "Unknown", "protocol_num": protocol},
        "data": {"bytes": int(str(seen.get("bytes", 0)))},
    }
    if protocol in PROTOCOL_NAMES:
        evidence["connection_info"]["protocol_name"] = PROTOCOL_NAMES[protocol]
    if seen.get("name"):
        evidence["dst_endpoint"]["hostname"] = safe(str(seen["name"]))
    return evidence


def _endpoint(seen: Mapping[str, object], side: str) -> Json:
    return {"ip": str(seen.get(f"{side}_ip", "")), "port": int(str(seen.get(f"{side}_port", 0)))}


def _own(finding: Finding) -> Json:
    """What OCSF has no place for, as DESIGN 8 fixes it."""
    return {
        "host": safe(finding.host),
        "bytes": finding.bytes,
        "window": finding.window,
        "detector": finding.detector,
        "models": [_model(model) for model in finding.models],
        "destinations": [_destination(place) for place in finding.destinations],
        "path": [safe(step) for step in finding.path],
        "level_times": {level.word: _moment(time) for level, time in sorted(finding.level_times.items())},
        "reasons": [safe(reason) for reason in finding.reasons],
        "revision": finding.revision,
        "subject": safe(finding.subject),
    }


def _model(model: ModelShare) -> Json:
    return {"id": safe(model.id), "fraction": _rounded(model.fraction), "of_4bit": _rounded(model.of_4bit)}


def _destination(place: Destination) -> Json:
    return {
        "group": safe(place.group),
        "account": place.account,
        "addresses": list(place.addresses),
        "names": [safe(name) for name in place.names],
        "bytes": place.bytes,
    }


def _rounded(fraction: float) -> float:
    return float(f"{fraction:.{SIGNIFICANT_DIGITS}g}")


def _moment(time_us: int) -> str:
    """ISO 8601 with `Z`; a fraction of a second only where there is one, so that no level seems earlier than it was."""
    text = at(time_us).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{time_us % 1_000_000:06d}Z" if time_us % 1_000_000 else f"{text}Z"
