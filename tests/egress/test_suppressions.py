"""Rules that keep findings of detectors out of the queue: what they cover, until when, and who can see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from egress import alarms, cli, configfile, ocsf, report
from egress.addresses import bytes_of, network_of
from egress.config import DAY_US, Config, Fleet, Host, Suppression
from egress.contracts import Destination, Finding, InputTally, Level, Tally
from egress.errors import ConfigError
from egress.findingjson import decode, encode
from egress.inventory import Inventory
from egress.replay import Outcome
from egress.suppressions import suppress

NOON = 1_795_348_800_000_000
RULE = Suppression(
    id="nightly-build",
    detectors=("volume", "edges"),
    hosts=("role:dev",),
    expires=NOON + DAY_US,
    owner="dora@example.org",
    reason="builds at night",
    to=(network_of("198.51.100.0/22"),),
)
FLEET = Fleet(
    hosts=(Host("dev-01", (bytes_of("10.0.0.1"),), "dev"), Host("gpu-01", (bytes_of("10.0.0.2"),), "inference"))
)
FINDING = Finding(
    uid="a" * 32,
    detector="volume",
    subject="host:dev-01",
    host="dev-01",
    level=Level.MEDIUM,
    title="unusual volume to 198.51.100.0/24",
    bytes=10**9,
    window="1h",
    start=NOON,
    first_seen=NOON,
    last_seen=NOON + 1,
    level_times={Level.MEDIUM: NOON},
    destinations=(Destination("198.51.100.0/24", "unjudged", 10**9),),
    reasons=("much",),
)
RULE_AS_WRITTEN = """
[[suppressions]]
id = "nightly-build"
detectors = ["volume"]
hosts = ["dev-*"]
expires = 2026-11-01
owner = "dora@example.org"
reason = "builds are pushed at night"
"""


def suppressed(finding: Finding = FINDING, **rule: object) -> Finding:
    site = Inventory(Config(fleet=FLEET, suppressions=(replace(RULE, **rule),)))  # type: ignore[arg-type]  # test values
    (found,) = suppress([finding], site)
    return found


def outcome(*found: Finding) -> Outcome:
    return Outcome(found, Tally(inputs=(InputTally("x", "", 0, 0, 0),)), 0, 0)


def test_a_suppressed_finding_is_kept_and_says_by_whom_and_why() -> None:
    assert suppressed() == replace(
        FINDING,
        suppressed_by="nightly-build",
        reasons=(
            "much",
            "suppressed by rule nightly-build of dora@example.org until 2026-11-23T12:00:00Z: builds at night",
        ),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"host": "gpu-01"},
        {"detector": "drip"},
        {"level": Level.HIGH},
        {"destinations": (Destination("192.0.2.0/24", "unjudged", 1),)},
        {"destinations": (*FINDING.destinations, Destination("192.0.2.0/24", "unjudged", 1))},
        {"destinations": ()},
        {"last_seen": RULE.expires},
    ],
    ids=["host", "detector", "level", "place", "one place of two", "places without a name", "after it expired"],
)
def test_what_a_rule_does_not_name_stays_in_the_queue(other: dict[str, object]) -> None:
    finding = replace(FINDING, **other)  # type: ignore[arg-type]  # test values

    assert suppressed(finding) == finding


def test_a_rule_without_networks_covers_several_destinations() -> None:
    assert suppressed(replace(FINDING, destinations=()), to=()).suppressed_by == "nightly-build"


@pytest.mark.parametrize("detector", ["ledger", "coverage"])
def test_what_counts_bytes_is_never_suppressed(detector: str) -> None:
    """Not even by a rule that got past the configuration's checks."""
    finding = replace(FINDING, detector=detector)

    assert suppressed(finding, detectors=(detector,)) == finding


@pytest.mark.parametrize("detector", ["ledger", "coverage"])
def test_a_configuration_that_would_silence_it_is_refused(detector: str, tmp_path: Path) -> None:
    file = tmp_path / "egress.toml"
    file.write_text(RULE_AS_WRITTEN.replace("volume", detector))

    with pytest.raises(ConfigError, match=rf"suppressions\[0\].detectors\[0\] is '{detector}', which no rule silences"):
        configfile.load(file)


def test_a_rule_has_an_end_an_owner_and_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "egress.toml"
    file.write_text('[[suppressions]]\nid = "x"\ndetectors = ["volume"]\nhosts = ["*"]\n')

    with pytest.raises(ConfigError) as refused:
        configfile.load(file)

    assert all(f"suppressions[0].{name} is missing" in str(refused.value) for name in ("expires", "owner", "reason"))


def test_check_says_which_rules_have_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "egress.toml"
    file.write_text(RULE_AS_WRITTEN)
    said = "nightly-build of dora@example.org expired on 2026-11-01; renew it or remove it"

    assert cli.main(["check", str(file), "--on", "2026-10-31T23:59:59Z"]) == 0
    assert said not in capsys.readouterr().out
    assert cli.main(["check", str(file), "--on", "2026-11-01T00:00:00Z"]) == 0
    assert f"suppressions: {said}" in capsys.readouterr().out


def test_others_tools_are_told_that_it_is_suppressed() -> None:
    """OCSF status 3."""
    event = ocsf.event(suppressed())

    assert (event["status_id"], event["status"]) == (3, "Suppressed")


def test_the_table_counts_what_it_does_not_show() -> None:
    console = Console(record=True, width=160)

    report.show(outcome(suppressed()), console)

    said = console.export_text()
    assert "No findings." in said
    assert "1 suppressed by rules (nightly-build: 1)" in said
    assert "unusual volume" not in said


def test_a_summary_counts_it_apart() -> None:
    summary = outcome(suppressed(), FINDING).summary(0.0)

    assert summary["findings"] == {"info": 0, "medium": 1, "high": 0, "critical": 0}
    assert summary["suppressed"] == 1


def test_it_raises_no_alarm_in_an_evaluation() -> None:
    assert alarms.of_findings([suppressed()], [], []).is_empty()


def test_it_is_stored_as_it_is() -> None:
    assert decode(encode(suppressed())) == suppressed()
