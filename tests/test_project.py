"""What every clone promises: one command sets up, one tests, and nothing in the tree outgrows its place."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import egress
from egress.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
LARGEST_SAMPLE_BYTES = 300_000
IMPORTED_AS = {"kafka-python": "kafka", "protobuf": "google"}
"""Where the name of a package is not that of its module."""


def tracked() -> list[Path]:
    """The files that a clone gets; those of the working tree where git is absent."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_continuous_integration_runs_make_test_with_every_service_required() -> None:
    """What CI sees is what `make test` does, but for skipping."""
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]

    assert commands[-2:] == ["export EGRESS_REQUIRE_SERVICES=1", "exec make test </dev/null"]


def test_make_alone_lists_every_target_a_person_may_want() -> None:
    """`make` without a target is the help, and the help names demo, test and the rest."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    named = set(re.findall(r"^  make (\w+)", listed, re.MULTILINE))
    assert {"demo", "test", "fast", "check", "bench", "clean", "help"} <= named


def test_the_package_knows_the_version_that_is_declared() -> None:
    """Findings carry the version, so it must be the true one."""
    declared = project()["project"]

    assert isinstance(declared, dict)
    assert egress.__version__ == declared["version"]


def test_every_dependency_has_its_reason_beside_it() -> None:
    """A requirement in pyproject.toml without a comment is one that nobody can drop later."""
    requirement = re.compile(r'^    "[\w.\[\],-]+(\[.*\])?\s*[=<>~]=?.*",')
    lines = (ROOT / "pyproject.toml").read_text().splitlines()

    without_reason = [line for line in lines if requirement.match(line) and "#" not in line]

    assert without_reason == []


def test_the_message_about_a_missing_package_names_its_extra() -> None:
    """Every package of an extra is known by the name under which it is imported; of two extras, the first is named."""
    extras = project()["project"]["optional-dependencies"]  # type: ignore[index]
    declared = {
        IMPORTED_AS.get(name, name.replace("-", "_")): extra
        for extra, requirements in reversed(extras.items())
        for name in (re.split(r"[\[<>=~]", requirement)[0] for requirement in requirements)
        if extra != "all"
    }

    assert declared == EXTRAS


@pytest.mark.slow
@pytest.mark.parametrize("package", ["numba", "clickhouse_connect"])
def test_a_command_without_its_package_says_what_to_install(package: str, tmp_path: Path) -> None:
    """No traceback: a host with few extras is a choice, not a defect."""
    capture = ROOT / "tests" / "data" / "demo" / "ordinary_day.pcap"
    program = f"import sys; sys.modules[{package!r}] = None; from egress.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "replay", capture, "--store", tmp_path / "store"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode in (2, 4)
    assert f"pip install 'egress[{EXTRAS[package]}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_tests_have_no_packages() -> None:
    """An `__init__.py` in tests/models would shadow the real `models`."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_sample_is_small() -> None:
    """Samples travel with every clone; large inputs are made by the test that needs them."""
    samples = [path for path in tracked() if path.is_relative_to(ROOT / "tests" / "data")]

    too_large = [str(path) for path in samples if path.stat().st_size > LARGEST_SAMPLE_BYTES]

    assert too_large == []


def test_every_decision_says_what_was_rejected_and_how_it_could_prove_wrong() -> None:
    """A decision without its alternatives cannot be reconsidered."""
    headings = ("## Context", "## Choice", "## Rejected", "## How we would notice that it was wrong")
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

    incomplete = [path.name for path in decisions if not all(heading in path.read_text() for heading in headings)]

    assert incomplete == []


def test_decisions_have_a_number_each() -> None:
    """Code refers to a decision by its number."""
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))]

    assert numbers == sorted(set(numbers))


def test_every_page_that_is_referred_to_exists() -> None:
    """A comment that sends its reader to docs/ sends them to a page."""
    page = re.compile(r"\bdocs/[\w./-]+?\.(?:md|svg|py)\b")
    texts = {path: path.read_text() for path in tracked() if path.suffix in {".py", ".md", ".toml"}}

    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts.items()
        for name in page.findall(text)
        if not (ROOT / name).exists()
    }

    assert missing == set()
