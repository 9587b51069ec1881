"""Pages that derive from code are up to date, and what they show works."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from egress import cli
from tests.services.broker import make_topic

ROOT = Path(__file__).resolve().parents[2]
EGRESS = Path(sys.executable).with_name("egress")
SHORT_ID = "3fa2b1"
"""Stands for a finding's id in the help; no replay makes it."""


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    spec = spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def leaves(generate: ModuleType) -> dict[str, argparse.ArgumentParser]:
    return dict(generate.leaves(cli.parser()))


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    """Whoever changes a column, an option or a key runs `make docs`."""
    stale = [name for name, text in generate.pages().items() if (ROOT / "docs" / name).read_text() != text]

    assert stale == []


def test_every_command_and_argument_says_what_it_is_for(leaves: dict[str, argparse.ArgumentParser]) -> None:
    """Help without a sentence is no help."""
    silent = [
        f"{name}: {action.dest}" for name, parser in leaves.items() for action in parser._actions if not action.help
    ]

    assert silent == []


def test_every_command_ends_its_help_with_an_example_of_itself(leaves: dict[str, argparse.ArgumentParser]) -> None:
    """The last line of `--help` can be typed."""
    without = [
        name for name, parser in leaves.items() if not parser.format_help().splitlines()[-1].strip().startswith(name)
    ]

    assert without == []


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_every_command_in_a_page_is_one(page: str) -> None:
    """What people copy is understood."""
    lines = [line.partition("#")[0].rstrip(" &") for line in (ROOT / page).read_text().splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("    egress ")]

    for words in commands:
        cli._parsed(words)  # exits where a word or an option is unknown

    assert len(commands) > 5


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A folder with the files that the examples name, and a store with one replay in it."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copy(data / "demo" / "checkpoint_job_hides_a_copy.pcap", desk / "capture.pcap")
    shutil.copy(data / "demo" / "lifecycle.jsonl", desk)
    declared = (data / "demo" / "egress.toml").read_text()
    (desk / "egress.toml").write_text(declared.replace("gpu-07", "gpu-01").replace("atlas-12m", "llama-70b"))
    manifest = (desk / "lifecycle.jsonl").read_text()
    (desk / "lifecycle.jsonl").write_text(manifest.replace("gpu-07", "gpu-01"))
    (desk / "beats.jsonl").write_text(
        '{"time": "2026-11-23T14:10:50Z", "host": "gpu-01", "sensor": "sockets", "seq": 0}'
    )
    run(desk, "egress replay capture.pcap --store egress-store --quiet")
    return desk


def run(desk: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = [str(EGRESS), *shlex.split(command)[1:]]
    return subprocess.run(words, cwd=desk, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def first_finding(desk: Path) -> Callable[[], str]:
    def find() -> str:
        listed = run(desk, "egress findings list --store egress-store --json").stdout.splitlines()
        uid = json.loads(listed[0])["finding_info"]["uid"]
        assert isinstance(uid, str)
        return uid

    return find


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "replay",
        "findings list",
        "findings show",
        "ledger show",
        "ledger certify",
        "init",
        "check",
        "simulate",
        "evaluate",
    ],
)
def test_the_example_in_the_help_works(
    name: str, desk: Path, leaves: dict[str, argparse.ArgumentParser], first_finding: Callable[[], str]
) -> None:
    """What the last line of `--help` promises: exit code 0 (clean) or 1 (found), and nothing on stderr but progress."""
    example = leaves[f"egress {name}"].format_help().splitlines()[-1].strip()
    if SHORT_ID in example:
        example = example.replace(SHORT_ID, first_finding())
    if name == "init":
        example = example.replace("egress.toml", "another.toml")
    if name == "evaluate":
        run(desk, leaves["egress simulate"].format_help().splitlines()[-1].strip())

    done = run(desk, example)

    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("name", ["collect goflow", "detect", "store"])
def test_the_example_of_a_service_runs_until_it_is_stopped(
    name: str, desk: Path, leaves: dict[str, argparse.ArgumentParser], broker: str
) -> None:
    """It starts against a bus as `egress init --kafka` makes it, says what it works on, and ends when asked to."""
    example = leaves[f"egress {name}"].format_help().splitlines()[-1].strip()
    words = [str(EGRESS), *shlex.split(re.sub(r"(--metrics \S+):\d+", r"\1:0", example))[1:]]
    environment = {**os.environ, "EGRESS_KAFKA": broker}
    subprocess.run([EGRESS, "init", "--kafka"], cwd=desk, env=environment, check=True, timeout=60)
    make_topic(broker, "flow-messages")

    with subprocess.Popen(words, cwd=desk, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = list(itertools.takewhile(lambda line: "event=assigned" not in line, process.stderr))
        process.terminate()
        said += process.stderr

    assert process.returncode == 0, said
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("name", ["collect file", "status"])
def test_the_example_that_needs_a_bus_works(
    name: str, desk: Path, leaves: dict[str, argparse.ArgumentParser], broker: str
) -> None:
    """Against a bus as `egress init --kafka` makes it, with exit code 0, or 1 where nobody reads what is there."""
    example = leaves[f"egress {name}"].format_help().splitlines()[-1].strip()
    environment = {**os.environ, "EGRESS_KAFKA": broker}
    subprocess.run([EGRESS, "init", "--kafka"], cwd=desk, env=environment, check=True, timeout=60)

    words = [str(EGRESS), *shlex.split(example)[1:]]
    done = subprocess.run(words, cwd=desk, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_among_those_whose_example_is_run(leaves: dict[str, argparse.ArgumentParser]) -> None:
    """A new command must be added to one of the lists above."""
    tests = (
        test_the_example_in_the_help_works,
        test_the_example_of_a_service_runs_until_it_is_stopped,
        test_the_example_that_needs_a_bus_works,
    )
    marks = [mark for test in tests for mark in test.pytestmark]  # type: ignore[attr-defined]
    listed = [name for mark in marks if mark.name == "parametrize" for name in mark.args[1]]

    assert {f"egress {name}" for name in listed} == set(leaves)
