"""The JSON-lines files beside `egress.toml`: lifecycle events and receipts.

Every line that cannot be used is a problem with its file and line number; nothing is dropped without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from egress import configvalues as read
from egress.config import LifecycleEvent, Receipt
from egress.configtable import Key, Section, read_table

NEEDED = {
    "deployed": ("model",),
    "retire_requested": ("model",),
    "retire_approved": ("model",),
    "retire_executed": ("model",),
    "retire_verified": ("model",),
    "score": ("model",),
    "manifest": ("job", "host", "to", "files"),
    "review": ("by",),
}
"""Known events, and which keys each needs beside `time`; a review also needs a `host` or a `model`."""


def _manifest_file(value: object) -> tuple[str, int]:
    try:
        if isinstance(value, Mapping) and set(value) == {"path", "bytes"}:
            return read.text(value["path"]), read.size(value["bytes"])
    except ValueError:
        pass
    raise ValueError('must be an object with a `path` and its `bytes`, such as {"path": "a.bin", "bytes": 6000088}')


_TEXTS = read.list_of(read.text)
_TIME = Key("time", read.time, "when it happened, ISO 8601 with zone", '"2026-11-20T10:00:00Z"', is_required=True)

LIFECYCLE = Section(
    "lifecycle.jsonl",
    "One event a line, as a JSON object. `retire_*`, `deployed` and `score` need a `model`; a `manifest` needs `job`, "
    "`host`, `to` and `files`; a `review` needs `by` and a `host` or a `model`.",
    (
        _TIME,
        Key("event", read.one_of(*NEEDED), "one of " + ", ".join(NEEDED), '"retire_requested"', is_required=True),
        Key("model", read.text, "model it is about", '"llama-70b"', default=""),
        Key("host", read.text, "host it is about", '"gpu-01"', default=""),
        Key("job", read.text, "job that a manifest describes", '"migrate-7"', default=""),
        Key("to", _TEXTS, "where the job sends to: addresses, networks, names", '["203.0.113.0/24"]', default=()),
        Key(
            "files",
            read.list_of(_manifest_file, at_least=1),
            "what the job sends",
            '[{"path": "a.safetensors", "bytes": 6000088}]',
            default=(),
        ),
        Key("destinations", _TEXTS, "what a review looked at; none: all", '["203.0.113.0/24"]', default=()),
        Key(
            "until",
            read.time,
            "end of what a review covers: what left before the review is drained, what leaves after it is accepted; "
            "without it, its own time",
            '"2026-11-27T10:00:00Z"',
        ),
        Key("by", read.text, "who says so", '"alice"', default=""),
        Key("ticket", read.text, "where it was decided", '"OPS-9"', default=""),
        Key("note", read.text, "anything else", '"planned"', default=""),
    ),
)

RECEIPTS = Section(
    "receipts.jsonl",
    "One receipt a line: the word of an approval's destination that it holds what a host sent.",
    (
        _TIME,
        Key("approval", read.text, "approval it belongs to", '"checkpoints"', is_required=True),
        Key("host", read.text, "host that sent it", '"gpu-01"', is_required=True),
        Key("object", read.text, "what arrived", '"step-1"', is_required=True),
        Key("bytes", read.size, "how much of it", "6000088", is_required=True),
    ),
)

COMPANIONS = (LIFECYCLE, RECEIPTS)


def read_lifecycle(path: Path, problems: list[str]) -> tuple[LifecycleEvent, ...]:
    """Events by time, then by line. The same event on two lines is one: logs repeat themselves, manifests do not."""
    events = dict.fromkeys(LifecycleEvent(**fields) for fields in _lines(path, LIFECYCLE, problems, missing_for_event))
    return tuple(sorted(events, key=lambda event: event.time))


def read_receipts(path: Path, problems: list[str]) -> tuple[Receipt, ...]:
    """Receipts by time, then by line, of whatever approvals. A receipt that came twice proves its bytes once."""
    receipts = dict.fromkeys(Receipt(**fields) for fields in _lines(path, RECEIPTS, problems, _nothing_missing))
    return tuple(sorted(receipts, key=lambda receipt: receipt.time))


def missing_for_event(fields: Mapping[str, Any]) -> str:
    """What an event of this kind lacks, in words; empty: nothing."""
    event = fields["event"]
    missing = [name for name in NEEDED[event] if not fields[name]]
    if event == "review" and not fields["host"] and not fields["model"]:
        missing.append("host or model")
    return f"a {event} needs {', '.join(missing)}" if missing else ""


def _nothing_missing(fields: Mapping[str, Any]) -> str:
    return ""


def _lines(
    path: Path, section: Section, problems: list[str], missing: Callable[[Mapping[str, Any]], str]
) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        problems.append(f"{path}: cannot be read ({problem.strerror}); give its path relative to egress.toml")
        return
    except UnicodeDecodeError as problem:
        problems.append(f"{path}: byte {problem.start} is not UTF-8; the file must be UTF-8 text")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}: "
        try:
            table = json.loads(line)
        except ValueError as problem:
            problems.append(f"{place}not JSON ({problem}); one object a line")
            continue
        except RecursionError:
            problems.append(f"{place}nested too deeply; one object a line")
            continue
        fields = read_table(table, section, place, problems)
        if fields is None:
            continue
        lack = missing(fields)
        if lack:
            problems.append(f"{place}{lack}")
            continue
        yield fields
