"""From scores to findings, and one finding where ledger and detectors speak of the same thing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import findings
from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host, Model
from egress.contracts import Destination, Finding, Level
from egress.inventory import Inventory
from egress.signals import SCORES
from egress.words import EPOCH

NOON = 1_795_348_800_000_000
HOUR = 3_600_000_000
MODEL = Model("llama", 24_000_352, holders=("gpu-01",))
FLEET = Fleet(internal=(network_of("10.0.0.0/8"),), hosts=(Host("gpu-01", (bytes_of("10.77.1.10"),)),))
SITE = Inventory(Config(fleet=FLEET, models=(MODEL,)))
NOWHERE = Inventory(Config(is_assumed=True))


def score(at: int = NOON, sent: int = 1000, **others: object) -> dict[str, object]:
    """A window in which `tunnels` saw something."""
    time = EPOCH + timedelta(microseconds=at)
    row: dict[str, object] = {
        "window_start": time,
        "window_s": 300,
        "host": "gpu-01",
        "detector": "tunnels",
        "group": "198.51.100.0/24",
        "what": "DNS tunnel to",
        "score": 0.8,
        "bytes": sent,
        "first": time + timedelta(seconds=10),
        "last": time + timedelta(seconds=20),
        "low_address": bytes_of("198.51.100.17"),
        "high_address": bytes_of("198.51.100.17"),
        "reason": f"DNS: {sent} B",
    }
    return row | others


def found(*rows: dict[str, object], inventory: Inventory = SITE, until: int | None = None) -> list[Finding]:
    return findings.from_scores(pl.DataFrame(rows, schema=SCORES.polars), inventory, until)


def charged(**others: object) -> Finding:
    """What the ledger might say about the same host and time."""
    finding = Finding(
        uid="f" * 32,
        detector="ledger",
        subject="host:gpu-01",
        host="gpu-01",
        level=Level.INFO,
        title="up to 2 % of llama left gpu-01",
        bytes=500_000,
        window="1h",
        start=NOON,
        first_seen=NOON,
        last_seen=NOON + HOUR,
        level_times={Level.INFO: NOON},
        destinations=(Destination("example.org", "unapproved", 500_000, ("198.51.100.17",)),),
        path=("gpu-01", "198.51.100.17"),
        reasons=("500 kB in 1 h",),
    )
    return replace(finding, **others)  # type: ignore[arg-type]  # test values


def test_windows_of_one_destination_are_one_finding() -> None:
    """Their bytes add up, first and last packet span them, and the title names the tunnel."""
    (finding,) = found(score(NOON, 1000), score(NOON + HOUR, 500))

    assert finding.title == "DNS tunnel to 198.51.100.0/24"
    assert (finding.bytes, finding.window, finding.revision) == (1500, "1d", 2)
    assert finding.path == ("gpu-01", "198.51.100.17")
    assert finding.first_seen == NOON + 10_000_000
    assert finding.last_seen == NOON + HOUR + 20_000_000
    assert finding.destinations == (Destination("198.51.100.0/24", findings.UNJUDGED, 1500, ("198.51.100.17",)),)


def test_a_day_of_silence_ends_an_episode() -> None:
    """Two episodes have two ids; the first is closed once a day has passed since."""
    rows = score(NOON), score(NOON + 25 * HOUR)

    first, second = found(*rows, until=NOON + 25 * HOUR)

    assert first.uid != second.uid
    assert (first.is_closed, second.is_closed) == (True, False)


def test_a_tunnel_rises_to_high_when_a_model_could_be_inside() -> None:
    """1/16 of 24,000,352 B is 1,500,022; the time is that of the window that reached it."""
    (finding,) = found(score(NOON, 1_000_000), score(NOON + HOUR, 500_022))

    assert finding.level == Level.HIGH
    assert finding.level_times == {Level.MEDIUM: NOON + 20_000_000, Level.HIGH: NOON + HOUR + 20_000_000}


def test_a_tunnel_of_less_is_medium() -> None:
    (finding,) = found(score(NOON, 1_500_021))

    assert finding.level == Level.MEDIUM


def test_an_assumed_model_makes_a_tunnel_high_only_whole() -> None:
    """Nobody said that there is a model: 99 MB of an assumed 100 MB stay medium."""
    (small,) = found(score(NOON, 99_000_000), inventory=NOWHERE)
    (whole,) = found(score(NOON, 100_000_000), inventory=NOWHERE)

    assert (small.level, whole.level) == (Level.MEDIUM, Level.HIGH)


@pytest.mark.parametrize("detector", ["volume", "novelty"])
def test_statistics_alone_are_information(detector: str) -> None:
    """However strange, less than 1/64 of a model is no alarm; nor is much that is hardly strange."""
    strange = found(score(NOON, 375_000, detector=detector, score=1.0))
    much = found(score(NOON, 24_000_352, detector=detector, score=0.89))

    assert [finding.level for finding in strange + much] == [Level.INFO, Level.INFO]


def test_the_ledgers_finding_takes_a_tunnel_in() -> None:
    """Its title names the tunnel, its reasons say what was seen, and it is at least as bad."""
    (fused,) = findings.fuse([charged()], found(score(NOON, 400_000)))

    assert fused.uid == charged().uid
    assert fused.title == "up to 2 % of llama left gpu-01; DNS tunnel to 198.51.100.0/24"
    assert fused.reasons == ("500 kB in 1 h", "tunnels: DNS: 400000 B")
    assert fused.level == Level.MEDIUM
    assert fused.level_times == {Level.INFO: NOON, Level.MEDIUM: NOON + 20_000_000}


def test_the_ledgers_level_is_never_lowered() -> None:
    """And what a detector noticed of a lower level later is not told."""
    high = charged(level=Level.HIGH, level_times={Level.INFO: NOON, Level.HIGH: NOON + 5_000_000})

    (fused,) = findings.fuse([high], found(score(NOON, 400_000)))

    assert (fused.level, fused.level_times) == (Level.HIGH, high.level_times)


@pytest.mark.parametrize(
    "apart",
    [
        {"host": "gpu-02", "path": ("gpu-02",)},
        {"first_seen": NOON + 2 * HOUR, "last_seen": NOON + 3 * HOUR},
        {"destinations": (Destination("203.0.113.0/24", "unapproved", 1, ("203.0.113.9",)),)},
    ],
    ids=["host", "time", "destination"],
)
def test_other_hosts_times_and_places_stay_apart(apart: dict[str, object]) -> None:
    fused = findings.fuse([charged(**apart)], found(score(NOON)))

    assert sorted(finding.detector for finding in fused) == ["ledger", "tunnels"]


def test_volume_to_several_destinations_belongs_to_any() -> None:
    """A finding without a destination of its own concerns all that the host sent then; it lends no title."""
    (fused,) = findings.fuse([charged()], found(score(NOON, detector="volume", group="", what="unusual volume to")))

    assert fused.title == charged().title
    assert fused.reasons[-1] == "volume: DNS: 1000 B"


rows = st.builds(
    score,
    at=st.integers(0, 100).map(lambda hours: NOON + hours * HOUR),
    sent=st.integers(1, 2**62),
    host=st.sampled_from(["gpu-01", "10.0.0.9"]),
    detector=st.sampled_from(["tunnels", "volume", "novelty"]),
    group=st.sampled_from(["198.51.100.0/24", "2001:db8::/48", ""]),
    score=st.floats(0, 1),
)


@given(st.lists(rows, max_size=20), st.randoms())
def test_order_of_scores_does_not_matter(scores: list[dict[str, object]], random: object) -> None:
    """Same findings in the same order: worst first, then earliest, then by id."""
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' own Random

    one, other = found(*scores), found(*shuffled)

    assert one == other
    assert one == sorted(one, key=lambda finding: (-finding.level, finding.start, finding.uid))
    assert sum(finding.bytes for finding in one) == sum(int(str(row["bytes"])) for row in scores)
    assert len({finding.uid for finding in one}) == len(one)


def test_evidence_line_is_json_with_times_and_addresses_as_text() -> None:
    seen = {"src_ip": "10.77.1.10", "first": EPOCH + timedelta(microseconds=NOON), "position": 7}

    line = findings.evidence_line(charged(evidence=(seen,)))

    assert json.loads(line) == {
        "uid": "f" * 32,
        "evidence": [{"src_ip": "10.77.1.10", "first": "2026-11-22T12:00:00+00:00", "position": 7}],
    }
