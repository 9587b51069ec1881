"""From captures to findings, with the captures that the project ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from egress import cli, configfile
from egress.contracts import Count, Level, ReadSettings, Tally
from egress.features import FEATURES
from egress.replay import Outcome, Request, replay

pytestmark = pytest.mark.slow
"""The metering kernel takes seconds to compile where its cache is cold."""


@pytest.fixture
def request_of_demo(data: Path, tmp_path: Path) -> Request:
    demo = data / "demo"
    config = configfile.load(demo / "egress.toml")
    settings = ReadSettings(resolvers=config.fleet.resolvers)
    return Request(tuple(sorted(demo.glob("*.pcap"))), config, settings, findings_file=tmp_path / "findings.jsonl")


def written(request: Request) -> tuple[Outcome, bytes]:
    outcome = replay(request)
    assert request.findings_file is not None
    return outcome, request.findings_file.read_bytes()


def test_the_demo_finds_both_thefts_and_nothing_else(request_of_demo: Request) -> None:
    """A copy hidden in an approved job, and a pull from outside; the ordinary day stays silent."""
    outcome, lines = written(request_of_demo)

    grave = {finding.host for finding in outcome.findings if finding.level >= Level.HIGH}
    assert grave == {"gpu-07", "agent-03"}
    assert len(lines.splitlines()) == len(outcome.findings)


@pytest.mark.parametrize("settings", [{"chunk_bytes": 1 << 12}, {"chunk_bytes": 70_001}, {"threads": 1}])
def test_how_it_is_read_changes_no_byte_of_the_findings(request_of_demo: Request, settings: dict[str, int]) -> None:
    """Chunk sizes and threads are matters of speed alone."""
    _, expected = written(request_of_demo)

    _, lines = written(replace(request_of_demo, settings=replace(request_of_demo.settings, **settings)))

    assert lines == expected


def test_the_order_in_which_inputs_are_named_changes_nothing(request_of_demo: Request) -> None:
    """A shell's glob is not evidence."""
    _, expected = written(request_of_demo)

    _, lines = written(replace(request_of_demo, paths=tuple(reversed(request_of_demo.paths))))

    assert lines == expected


def test_flows_that_a_replay_leaves_give_the_same_findings(request_of_demo: Request, tmp_path: Path) -> None:
    """The Parquet file is an input as good as the captures."""
    flows = tmp_path / "flows.parquet"
    _, expected = written(replace(request_of_demo, flows_file=flows))

    _, lines = written(replace(request_of_demo, paths=(flows,)))

    assert lines == expected
    assert pl.read_parquet_schema(flows)["src_ip"] == pl.Binary


def test_what_each_host_did_in_each_hour_is_left_on_request(request_of_demo: Request, tmp_path: Path) -> None:
    """What left is told alike by findings and by features: nothing that was charged is missing there."""
    features = tmp_path / "new" / "features.parquet"

    outcome = replay(replace(request_of_demo, features_file=features))

    told = pl.read_parquet(features)
    pulled = next(finding for finding in outcome.findings if finding.host == "agent-03")
    assert tuple(told.columns) == FEATURES.names
    assert told.filter(pl.col("host") == "agent-03")["answered"].sum() >= pulled.bytes > 0


def test_everything_read_is_metered_or_skipped_with_a_reason(request_of_demo: Request) -> None:
    """In frames and in bytes, exactly."""
    tally = replay(request_of_demo).tally

    assert tally.read == sum(tally.skipped.values(), tally.metered)
    assert tally.read == Count(sum(one.frames for one in tally.inputs), sum(one.wire_bytes for one in tally.inputs))


def test_stopping_keeps_what_was_read(request_of_demo: Request) -> None:
    """What Ctrl-C leaves is a consistent part, and says so."""
    batches: list[Tally] = []

    def stop_at_second(tally: Tally) -> bool:
        batches.append(tally)
        return len(batches) < 2

    outcome = replay(replace(request_of_demo, settings=ReadSettings(chunk_bytes=1 << 12)), stop_at_second)

    assert outcome.was_interrupted
    assert 0 < outcome.tally.read.frames < replay(request_of_demo).tally.read.frames


def test_an_input_of_no_known_kind_is_said_and_the_others_are_used(request_of_demo: Request, tmp_path: Path) -> None:
    """A stray README in a folder of captures must not cost the folder."""
    stray = tmp_path / "README"
    stray.write_text("not a capture")

    outcome = replay(replace(request_of_demo, paths=(stray, *request_of_demo.paths)))

    assert "neither a capture nor a flow file" in outcome.tally.examples[0].what
    assert outcome.findings == replay(request_of_demo).findings


def test_exit_codes_and_json_are_for_scripts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 without --fail-on, 1 with it; the last line of standard output is one JSON object."""
    demo = [str(data / "demo"), "--config", str(data / "demo" / "egress.toml"), "--json"]

    assert cli.main(["replay", *demo]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert cli.main(["replay", *demo, "--fail-on", "high"]) == 1
    assert sum(summary["findings"].values()) >= 2


def test_a_replay_in_which_nothing_could_be_read_ends_with_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty answer must not look like a clean one."""
    (tmp_path / "x.pcap").write_bytes(b"nonsense")

    assert cli.main(["replay", str(tmp_path / "x.pcap")]) == 3
    assert "x.pcap" in capsys.readouterr().err


def test_traffic_between_strangers_is_said_to_be_charged_to_nobody(request_of_demo: Request) -> None:
    """A perimeter that misses the hosts must not look like a clean fleet."""
    fleet = replace(request_of_demo.config.fleet, internal=(), hosts=())

    outcome = replay(replace(request_of_demo, config=replace(request_of_demo.config, fleet=fleet)))

    assert outcome.findings == ()
    assert outcome.unwatched.frames == outcome.rows
    assert outcome.unwatched.bytes > 2 * 24_000_416
