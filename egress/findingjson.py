"""A finding as JSON and back: what the store keeps beside the columns that people query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from egress.contracts import Destination, Finding, Level, ModelShare

TEXTS = ("uid", "detector", "subject", "host", "title", "window")


def encode(finding: Finding) -> str:
    """All of the finding in one line, keys sorted: equal findings give equal text."""
    values = asdict(finding)
    values["level"] = finding.level.word
    values["level_times"] = {level.word: time for level, time in finding.level_times.items()}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def decode(text: str) -> Finding:
    """The finding that `encode` wrote. Raises KeyError, TypeError or ValueError for any other text."""
    values: dict[str, Any] = json.loads(text)
    if not all(isinstance(values[name], str) for name in TEXTS):
        raise TypeError("text is something else")
    return Finding(
        **{
            **values,
            "level": _level(values["level"]),
            "level_times": {_level(word): time for word, time in values["level_times"].items()},
            "models": tuple(ModelShare(**model) for model in values["models"]),
            "destinations": tuple(_destination(place) for place in values["destinations"]),
            "path": tuple(values["path"]),
            "reasons": tuple(values["reasons"]),
            "evidence": tuple(values["evidence"]),
        }
    )


def _level(word: str) -> Level:
    return Level[word.upper()]


def _destination(values: Mapping[str, Any]) -> Destination:
    return Destination(**{**values, "addresses": tuple(values["addresses"]), "names": tuple(values["names"])})
