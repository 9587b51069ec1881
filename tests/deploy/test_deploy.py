"""What is shipped to run Egress: checked as far as it can be without the engines that run it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from egress import cli, configfile

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = DEPLOY / "kubernetes" / "egress.yaml"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
KUBERNETES = "1.34"
MOST_EXPOSED = 2.0
"""`systemd-analyze security` calls up to 2 of 10 well protected; what is left is the network that the services need."""


def commands_of_units() -> Iterator[tuple[str, list[str]]]:
    for unit in UNITS:
        text = unit.read_text().replace("\\\n", " ")
        start = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
        assert start
        yield unit.name, shlex.split(start[1])[1:]


def commands_of_manifests() -> Iterator[tuple[str, list[str]]]:
    for manifest in yaml.safe_load_all(MANIFESTS.read_text()):
        for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if "command" not in container:
                yield f"{manifest['kind']} {container['name']}", container["args"]


def commands_of_compose() -> Iterator[tuple[str, list[str]]]:
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        if service["image"].startswith("egress"):
            yield f"compose {name}", service["command"]


COMMANDS = [*commands_of_units(), *commands_of_manifests(), *commands_of_compose()]


@pytest.mark.parametrize("words", [words for _, words in COMMANDS], ids=[where for where, _ in COMMANDS])
def test_every_command_is_one_that_egress_understands(words: list[str]) -> None:
    assert cli.parser().parse_args(words).run


@pytest.mark.service
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_exposes_little(unit: Path, require: Callable[[str, str], str]) -> None:
    program = require("systemd-analyze", "apt-get install systemd")
    rated = subprocess.run([program, "security", "--offline=true", unit], capture_output=True, text=True, check=True)
    rating = re.search(r"exposure level for .*: ([0-9.]+)", rated.stdout)
    assert rating
    assert float(rating[1]) <= MOST_EXPOSED


@pytest.mark.service
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_holds_no_unknown_word(unit: Path, require: Callable[[str, str], str], tmp_path: Path) -> None:
    """Only the program is not where the unit expects it: it is not installed here."""
    program = require("systemd-analyze", "apt-get install systemd")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/egress/.venv/bin/egress", "/bin/true"))
    verified = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if unit.name in line] == []


@pytest.mark.slow
def test_manifests_are_what_kubernetes_takes() -> None:
    import kubernetes_validate

    for manifest in yaml.safe_load_all(MANIFESTS.read_text()):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_compose_file_is_one() -> None:
    from compose_spec import PyCompose

    merged = yaml.safe_dump(_without_extensions(yaml.safe_load(COMPOSE.read_text())))
    assert {"detect", "store", "kafka-1"} <= set(PyCompose.from_yaml(merged).service_names())


def test_shipped_configurations_are_accepted(tmp_path: Path) -> None:
    manifests = yaml.safe_load_all(MANIFESTS.read_text())
    (config,) = (each for each in manifests if each["kind"] == "ConfigMap")
    inside = tmp_path / "egress.toml"
    inside.write_text(config["data"]["egress.toml"])
    assert configfile.load(inside).kafka
    assert configfile.load(COMPOSE.with_name("egress.toml")).kafka


def _without_extensions(file: dict[str, Any]) -> dict[str, Any]:
    """The reader of YAML has merged them already."""
    return {key: value for key, value in file.items() if not key.startswith("x-")}
