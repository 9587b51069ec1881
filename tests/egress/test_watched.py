"""Heartbeats beside captures in a replay, and against what a store holds in a certificate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egress import cli

pytestmark = pytest.mark.slow
"""The metering kernel takes seconds to compile where its cache is cold."""

SENT = 4_000_000
"""Bytes a heartbeat that the card of gpu-07 counts: five times what the captures show, for ten minutes."""


@pytest.fixture
def beats(tmp_path: Path) -> Path:
    """gpu-07's card sends more than anybody saw; the sensor of agent-03 is silent for 160 s."""
    lines = [
        {
            "time": 1_795_443_057_000_000 + 10_000_000 * number,
            "host": host,
            "sensor": "sockets",
            "epoch": 1,
            "seq": number,
            "nic_tx_bytes": 10**9 + SENT * number if host == "gpu-07" else None,
        }
        for host in ("gpu-07", "agent-03")
        for number in range(60)
        if host == "gpu-07" or not 10 <= number < 25
    ]
    path = tmp_path / "beats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_replay_takes_heartbeats_beside_captures(
    data: Path, beats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their findings stand among the others; what the captures show stays as it was."""
    demo, out = data / "demo", tmp_path / "findings.jsonl"
    captures = [str(path) for path in sorted(demo.glob("*.pcap"))]
    rest = ["--config", str(demo / "egress.toml"), "--json", "--findings", str(out)]

    assert cli.main(["replay", str(beats), *captures, *rest]) == 0
    with_beats = [json.loads(line) for line in out.read_text().splitlines()]
    assert cli.main(["replay", *captures, *rest]) == 0
    without = [json.loads(line) for line in out.read_text().splitlines()]

    unseen = [each for each in with_beats if each["finding_info"]["analytic"]["name"] == "coverage"]
    assert [each for each in with_beats if each not in unseen] == without
    assert {(each["device"]["hostname"], each["severity_id"]) for each in unseen} == {("gpu-07", 5), ("agent-03", 3)}
    read = json.loads(capsys.readouterr().out.splitlines()[0])
    assert read["read"]["bytes"] == read["metered"]["bytes"] == sum(one["wire_bytes"] for one in read["inputs"])


def test_a_certificate_counts_what_heartbeats_show(
    data: Path, beats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an hour in which nothing left by any flow, nothing is excluded if the card says otherwise."""
    demo, store = data / "demo", str(tmp_path / "store")
    config = ["--config", str(demo / "egress.toml")]
    capture = str(demo / "ordinary_day.pcap")
    assert cli.main(["replay", capture, *config, "--store", store, "--quiet"]) == 0
    ask = ["ledger", "certify", "--store", store, *config, "--model", "atlas-12m", "--host", "gpu-07", "--json"]
    capsys.readouterr()

    codes = [cli.main(ask), cli.main([*ask, "--heartbeats", str(beats)])]

    before, after = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert codes == [0, 1]
    assert (before["verdict"], after["verdict"]) == ("excluded", "unknown")
    assert before["bytes"]["gap"] == 0
    assert 0.8 * 59 * SENT < after["bytes"]["gap"] <= 59 * SENT
    assert any("beyond its flows" in assumption for assumption in after["assumptions"])


def test_a_file_that_is_no_heartbeat_file_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate must not rest on nothing."""
    demo, store = data / "demo", str(tmp_path / "store")
    capture = str(demo / "ordinary_day.pcap")
    config = ["--config", str(demo / "egress.toml")]
    assert cli.main(["replay", capture, *config, "--store", store, "--quiet"]) == 0

    code = cli.main(["ledger", "certify", "--store", store, *config, "--model", "atlas-12m", "--heartbeats", capture])

    assert code == 3
    assert "no heartbeat file" in capsys.readouterr().err
