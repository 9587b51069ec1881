"""Prints what every target answers to every kept input, one JSON object: `answers.py`; nothing may be raised."""

from __future__ import annotations

import json
from pathlib import Path

from targets import TARGETS

KEPT = Path(__file__).resolve().parent / "corpus"

answers = {
    f"{name}/{path.name}": repr(target(path.read_bytes()))
    for name, target in TARGETS.items()
    for path in sorted((KEPT / name).glob("*"))
}
print(json.dumps(answers))
