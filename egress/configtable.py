"""A table that people write, declared as keys: read in one place, with every problem named by its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `example` is its value as written, `shown_default` what the documentation says of leaving it out."""

    name: str
    read: Callable[[object], object]
    """Gives the checked value, or raises ValueError: each argument ends a sentence that begins with the place."""
    meaning: str
    example: str
    is_required: bool = False
    default: object = None
    shown_default: str = ""
    is_filled: bool = False
    """True: the template sets it although it is not required."""
    refused: str = ""
    """Not empty: whoever writes this key gets this advice instead."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table; `is_list`: there may be several, `[[name]]`."""

    name: str
    meaning: str
    keys: tuple[Key, ...]
    is_list: bool = False
    is_filled: bool = False
    """True: the template starts with one; others are there commented out."""

    @property
    def heading(self) -> str:
        if not self.name:
            return ""
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]"


def read_table(
    table: object, section: Section, place: str, problems: list[str], *, subsections: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """The section's values by key, defaults filled in; None where one is missing or wrong, with `problems` extended.

    `place` is what stands before the key's name in a message, such as `egress.toml: fleet.`; keys in `subsections`
    are left to the caller.
    """
    if not isinstance(table, Mapping):
        problems.append(f"{place[:-1]} must be a table, with keys")
        return None
    known = {key.name: key for key in section.keys}
    found = [
        _unknown(name, [*known, *subsections], place)
        for name in table
        if name not in known | dict.fromkeys(subsections)
    ]
    values: dict[str, Any] = {}
    for key in section.keys:
        if key.name not in table:
            values[key.name] = key.default
            if key.is_required:
                found.append(f"{place}{key.name} is missing; it is {key.meaning}, such as {key.example}")
            continue
        if key.refused:
            found.append(f"{place}{key.name}: {key.refused}")
            continue
        try:
            values[key.name] = key.read(table[key.name])
        except ValueError as problem:
            found.extend(_placed(f"{place}{key.name}", str(sentence)) for sentence in problem.args)
    problems.extend(found)
    return None if found else values


def _placed(place: str, sentence: str) -> str:
    return f"{place}{sentence}" if sentence.startswith("[") else f"{place} {sentence}"


def _unknown(name: object, known: list[str], place: str) -> str:
    shown = name if isinstance(name, str) and name.isprintable() else repr(name)
    near = get_close_matches(str(name), known, n=1)
    return f"{place}{shown} is not known; " + (
        f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
    )
