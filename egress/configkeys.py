"""Every key of `egress.toml`, declared once: how it is read, what it means, what stands where it is left out.

Reading, the template of `egress init` and `docs/configuration.md` all derive from these sections.
"""

from __future__ import annotations

from egress import configvalues as read
from egress import passwords
from egress.config import DAY_US, Detect
from egress.configtable import Key, Section
from egress.kafkakeys import KAFKA
from egress.suppressionkeys import SUPPRESSIONS


def _id(meaning: str, example: str) -> Key:
    return Key("id", read.identifier, meaning, example, is_required=True)


_PATTERNS = read.list_of(read.text)
_SOME_PATTERNS = read.list_of(read.text, at_least=1)
_ABSENT = "none"

TOP = Section(
    "",
    "What stands before the first section.",
    (
        Key(
            "lifecycle",
            read.text,
            "file of lifecycle events (retirements, manifests, reviews), relative to this file",
            '"lifecycle.jsonl"',
            default="",
            shown_default=_ABSENT,
        ),
    ),
)

FLEET = Section(
    "fleet",
    "What is inside. Everything else is outside.",
    (
        Key(
            "internal",
            read.list_of(read.network),
            "networks inside the perimeter; what goes anywhere else has left",
            '["10.0.0.0/8", "fd00::/8"]',
            default=(),
            shown_default="the hosts' own addresses",
            is_filled=True,
        ),
        Key(
            "resolvers",
            read.list_of(read.address),
            "DNS resolvers whose answers count as evidence for names",
            '["10.0.0.53"]',
            default=(),
            shown_default="no answer is evidence",
        ),
        Key(
            "disjoint",
            _PATTERNS,
            "sensors (collector/sensor, globs) that never see the same packet: their sums add up",
            '["netflow/edge-*"]',
            default=(),
            shown_default="the sensor that saw most counts",
        ),
    ),
    is_filled=True,
)

HOSTS = Section(
    "fleet.hosts",
    "A watched machine. However it is addressed, it is one host.",
    (
        _id("name that stays when addresses change", '"gpu-01"'),
        Key(
            "addresses",
            read.list_of(read.host_address),
            "all its addresses, IPv4 and IPv6",
            '["10.77.1.10", "fd77:1::10"]',
            default=(),
            shown_default="known only to the host's own collector",
            is_filled=True,
        ),
        Key(
            "role",
            read.identifier,
            "what it does; hosts of one role are compared with each other",
            '"inference"',
            default="",
            shown_default=_ABSENT,
        ),
        Key(
            "tolerated_bytes_per_day",
            read.size,
            "unapproved bytes a UTC day that the site accepts of this host",
            "100_000_000",
            shown_default="what its role tolerates",
        ),
        Key(
            "transit",
            read.claim,
            "true for a proxy, balancer or NAT: it passes on what others sent and is not charged for it",
            "true",
            default=False,
            shown_default="false",
        ),
    ),
    is_list=True,
    is_filled=True,
)

ROLES = Section(
    "fleet.roles",
    "What a site accepts of all hosts of one role.",
    (
        _id("the role, as hosts name it", '"agent"'),
        Key(
            "tolerated_bytes_per_day",
            read.size,
            "unapproved bytes a UTC day that the site accepts of each host of this role; nothing is saved up",
            "500_000_000",
            default=0,
            shown_default="0",
        ),
    ),
    is_list=True,
)

MODELS = Section(
    "models",
    "A protected model. Without any, every private address is taken to hold one of `detect.assumed_model_bytes`.",
    (
        _id("name of the model", '"llama-70b"'),
        Key(
            "bytes",
            read.positive_size,
            "native size of all weight files together",
            "141_000_000_000",
            is_required=True,
        ),
        Key(
            "holders",
            _PATTERNS,
            "hosts that hold it: ids, globs, `role:NAME`; a host that receives it is charged for it as well",
            '["gpu-*"]',
            default=(),
            shown_default="none known",
            is_filled=True,
        ),
        Key(
            "shards",
            read.list_of(read.positive_size),
            "sizes of single files: a transfer of just that size weighs more",
            "[4_990_000_000, 4_970_000_000]",
            default=(),
            shown_default=_ABSENT,
        ),
        Key(
            "delta_of",
            read.identifier,
            "public model that this one was tuned from, where only the difference is secret",
            '"llama-70b-base"',
            default="",
            shown_default=_ABSENT,
        ),
        Key(
            "status",
            read.one_of("active", "retiring", "retired"),
            "active, retiring or retired; while it is retiring, every level counts one higher",
            '"active"',
            default="active",
            shown_default="active",
        ),
        Key(
            "tolerated_bytes_per_day",
            read.size,
            "cap on what all its holders together may use of their tolerance a UTC day",
            "1_000_000_000",
            shown_default="no cap",
        ),
    ),
    is_list=True,
    is_filled=True,
)

APPROVALS = Section(
    "approvals",
    "Bytes that may leave: from whom, to where, how many, until when, and who says so. Has `to`, `serve` or both.",
    (
        _id("name of the approval; receipts refer to it", '"checkpoints"'),
        Key(
            "hosts",
            _SOME_PATTERNS,
            "who may send: ids, globs, `role:NAME`",
            '["role:training"]',
            is_required=True,
        ),
        Key(
            "to",
            read.list_of(read.destination, at_least=1),
            "where to: addresses, networks, server names with `*`",
            '["203.0.113.0/24", "*.backup.example.org"]',
            default=(),
            shown_default="whoever connects to `serve`",
        ),
        Key(
            "serve",
            read.list_of(read.port, at_least=1),
            "ports on which the host answers; replies to whoever connects are approved",
            "[443]",
            default=(),
            shown_default="no replies",
        ),
        Key(
            "bytes_per_day",
            read.size,
            "cap for each host and UTC day; what exceeds it is unapproved",
            "2_000_000_000_000",
            is_required=True,
        ),
        Key(
            "bytes_per_peer_per_day",
            read.size,
            "cap for each peer (a /24 or /48) and UTC day",
            "50_000_000",
            shown_default="no cap",
        ),
        Key(
            "trust_names",
            read.claim,
            "true: believe the name that the sender claims (SNI, HTTP Host) without a resolver's answer",
            "true",
            default=False,
            shown_default="false",
        ),
        Key(
            "receipts",
            read.text,
            "file of the destination's receipts, relative to this file",
            '"receipts.jsonl"',
            default="",
            shown_default="none: the bytes stay unproven",
        ),
        Key(
            "receipt_deadline",
            read.duration,
            "how long a receipt may take; after it, bytes without one are unapproved",
            '"24h"',
            default=DAY_US,
            shown_default="24h",
        ),
        Key(
            "expires",
            read.day,
            "first UTC day on which it no longer holds",
            "2027-01-01",
            is_required=True,
        ),
        Key("owner", read.text, "who answers for it", '"platform@example.org"', is_required=True),
        Key("ticket", read.text, "where it was decided", '"OPS-123"', is_required=True),
    ),
    is_list=True,
)

DETECT = Section(
    "detect",
    "How findings are made.",
    (
        Key(
            "assumed_model_bytes",
            read.positive_size,
            "size of the model that every private address is taken to hold where no model is declared",
            "100_000_000",
            default=Detect().assumed_model_bytes,
            shown_default="100_000_000",
        ),
        Key(
            "budget",
            read.fraction,
            "false alarms per host and day that detectors may add to the queue (findings of medium and above): 0.01 is "
            "one a day for a hundred hosts; what the ledger says is not rationed",
            "0.01",
            default=Detect().budget,
            shown_default="0.01",
        ),
        Key(
            "late_after",
            read.duration_between("1m", "30d"),
            "how far a row may lie behind the newest of its host and sensor and still count when it happened; one that "
            "comes later counts as of now less this, marked. `egress detect` keeps sums in memory for so long",
            '"24h"',
            default=Detect().late_after,
            shown_default="2h",
        ),
        Key(
            "snapshot_every",
            read.duration_between("1s", "1h"),
            "how often `egress detect` writes down where it is: whoever takes over reads so much again",
            '"30s"',
            default=Detect().snapshot_every,
            shown_default="1m",
        ),
    ),
)

CLICKHOUSE = Section(
    "clickhouse",
    "A ClickHouse server for commands that run for long; `replay`, `findings` and `ledger` take `--store URL`.",
    (
        Key(
            "url", read.text, "address of its HTTP interface", '"https://clickhouse.example.org:8443"', is_required=True
        ),
        Key(
            "database",
            read.identifier,
            "database that holds the tables",
            '"egress"',
            default="egress",
            shown_default="egress",
        ),
        Key("user", read.text, "who signs in", '"egress"', default="default", shown_default="default"),
        *passwords.keys("EGRESS_CLICKHOUSE_PASSWORD", "clickhouse.password"),
    ),
)

SECTIONS = (TOP, FLEET, HOSTS, ROLES, MODELS, APPROVALS, DETECT, SUPPRESSIONS, CLICKHOUSE, KAFKA)
