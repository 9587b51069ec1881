"""What people read about `egress.toml`: a template to start from, and the reference of every key."""

from __future__ import annotations

from collections.abc import Iterator

from egress.companions import COMPANIONS
from egress.configkeys import SECTIONS
from egress.configtable import Key, Section

_PREFACE = """# Configuration

Generated from `egress/configkeys.py`; do not edit.

One file, `egress.toml`, says what a site watches and what it approves; `egress init` writes one to start from, and
`egress check` reads it. Keys that are not listed here are refused. Sizes are bytes (`141_000_000_000`), durations text
(`"24h"`), dates without quotes and 00:00 UTC. Paths are relative to the file. Messages count list items from 0."""


def template() -> str:
    """An `egress.toml` to start from: an example of what must be there, and the rest commented out."""
    lines = ["# What Egress watches, and what the site approves. Every key is explained in docs/configuration.md."]
    for section in SECTIONS:
        lines += ["", *_template_of(section)]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The text of `docs/configuration.md`."""
    return "\n".join([_PREFACE, *map(_reference_of, (*SECTIONS, *COMPANIONS)), ""])


def _template_of(section: Section) -> Iterator[str]:
    yield f"# {section.meaning}"
    mark = "" if section.is_filled else "# "
    if section.heading:
        yield mark + section.heading
    for key in _written(section):
        is_set = section.is_filled and (key.is_required or key.is_filled)
        line = f"{key.name} = {key.example}"
        yield f"{line if is_set else '# ' + line}  # {key.meaning}"


def _reference_of(section: Section) -> str:
    lines = ["", f"## {_title(section)}", "", section.meaning, ""]
    lines += ["| key | meaning | example | without it |", "|---|---|---|---|"]
    for key in _written(section):
        without = "required" if key.is_required else key.shown_default
        lines.append(f"| `{key.name}` | {key.meaning} | `{key.example}` | {without} |")
    return "\n".join(lines)


def _title(section: Section) -> str:
    return section.name if section in COMPANIONS else section.heading or "Top of the file"


def _written(section: Section) -> list[Key]:
    return [key for key in section.keys if not key.refused]
