"""What `make demo` promises: a copy hidden in an approved job and a model fetched from outside, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EGRESS = Path(sys.executable).with_name("egress")
HIGH = 4
"""OCSF's severity_id."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, object]], Path]:
    """Findings by host (the worst of each), and the folder with everything that the demo leaves."""
    folder = tmp_path_factory.mktemp("demo")
    captures = sorted((data / "demo").glob("*.pcap"))
    command = [EGRESS, "replay", *captures, "--config", data / "demo" / "egress.toml", "--store", folder / "store",
               "--findings", folder / "findings.jsonl", "--flows", folder / "flows.parquet"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    events.sort(key=lambda event: event["severity_id"])
    return {event["device"]["hostname"]: event for event in events}, folder


def truth(data: Path, name: str) -> dict[str, object]:
    loaded = json.loads((data / "demo" / "truth.json").read_text())[name]
    assert isinstance(loaded, dict)
    return loaded


def charged(event: dict[str, object]) -> int:
    return int(event["unmapped"]["egress"]["bytes"])  # type: ignore[index]


def test_the_copy_hidden_in_an_approved_job_is_charged_and_the_checkpoint_is_not(
    outcome: tuple[dict[str, dict[str, object]], Path], data: Path
) -> None:
    """The approval covers what the manifest names; the rest is the model, within 3 %."""
    event = outcome[0]["gpu-07"]
    model_bytes = truth(data, "checkpoint_job_hides_a_copy")["model_bytes"]

    assert event["severity_id"] >= HIGH
    assert charged(event) == pytest.approx(model_bytes, rel=0.03)


def test_a_model_fetched_from_outside_left_all_the_same(
    outcome: tuple[dict[str, dict[str, object]], Path], data: Path
) -> None:
    """Who opened the connection does not matter."""
    event = outcome[0]["agent-03"]
    model_bytes = truth(data, "outsider_pulls_model")["model_bytes"]

    assert event["severity_id"] >= HIGH
    assert charged(event) == pytest.approx(model_bytes, rel=0.03)


def test_the_demo_leaves_findings_flows_and_a_store(outcome: tuple[dict[str, dict[str, object]], Path]) -> None:
    """Three things to look further into, where the demo says they are."""
    folder = outcome[1]

    assert set(outcome[0]) == {"gpu-07", "agent-03"}
    assert (folder / "flows.parquet").stat().st_size > 0
    assert any((folder / "store").iterdir())


def test_an_ordinary_day_is_no_finding(data: Path, tmp_path: Path) -> None:
    """A download and some API calls, alone: nothing at medium or above."""
    command = [EGRESS, "replay", data / "demo" / "ordinary_day.pcap", "--config", data / "demo" / "egress.toml",
               "--fail-on", "medium", "--quiet"]  # fmt: skip

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
