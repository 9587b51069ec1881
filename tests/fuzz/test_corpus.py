"""Inputs that the fuzzer kept: none of them breaks a reader, in machine code or in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LARGEST_CORPUS_BYTES = 1_000_000


def answers(**environment: str) -> dict[str, str]:
    """In a process of its own: an access outside of an array may end it."""
    command = [sys.executable, str(HERE / "answers.py")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.slow
def test_every_kept_input_gives_the_same_answer_in_machine_code_and_in_checked_python() -> None:
    """Python raises where machine code would read past the end, and keeps integers where it would wrap."""
    compiled = answers()

    checked = answers(NUMBA_DISABLE_JIT="1")

    assert compiled == checked
    assert len(compiled) > 20


def test_the_kept_corpus_is_small() -> None:
    """It travels with every clone: only what reaches something new is kept."""
    total = sum(path.stat().st_size for path in (HERE / "corpus").rglob("*") if path.is_file())

    assert 0 < total < LARGEST_CORPUS_BYTES
