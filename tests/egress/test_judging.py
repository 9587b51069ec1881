"""The judge of a stream: whatever the schedule, its last word is what replay says of the same flows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import declared, findingjson, registry
from egress.config import Approval, Config, LifecycleEvent, Receipt
from egress.detect import Detectors, Engine
from egress.inventory import Inventory
from egress.judging import Judge, digest_of, value_of
from egress.schema import TIME
from tests.egress.strategies import DAY, HOUR, MINUTE, MODEL_BYTES, NOON, Transfer, few, flows_of, site, traffic
from tests.egress.streams import Publication, grown, lines, shuffled
from tests.egress.witness import witnesses

SITE = site("h1", "h2")
THEFT = [Transfer(sent=MODEL_BYTES // 10, start=NOON + n * MINUTE) for n in range(12)]
RELAYED = [
    Transfer(dst="10.0.2.1", sent=MODEL_BYTES, start=NOON),
    Transfer(src="10.0.2.1", dst="203.0.113.5", sent=MODEL_BYTES, start=NOON + HOUR),
]


def replayed(config: Config, transfers: list[Transfer], detectors: Detectors = witnesses) -> list[str]:
    engine = Engine(Inventory(config), detectors)
    engine.feed(flows_of(transfers))
    return lines(engine.findings())


def judge_of(config: Config, detectors: Detectors = witnesses) -> Judge:
    return Judge(Inventory(config), detectors)


def said_of(transfers: list[Transfer], partitions: int = 3, seed: int = 0) -> list[Publication]:
    inventory = Inventory(SITE)
    return shuffled(inventory.attribute(flows_of(transfers)), inventory, partitions, seed)


def fed(judge: Judge, said: list[Publication]) -> Judge:
    for kind, frame in said:
        judge.join(kind, frame)
    return judge


def restarted(
    judge: Judge,
    config: Config = SITE,
    bus: dict[str, bytes] | None = None,
    saved: dict[str, bytes | None] | None = None,
) -> Judge:
    """Another process, with what the first and those before it `saved`, and with what lies on the bus."""
    kept = {} if saved is None else saved
    kept |= dict(judge.state())
    other = judge_of(config)
    assert other.restore([(key, value) for key, value in kept.items() if value is not None]) == []
    for uid, value in (bus or {}).items():
        other.saw(uid, value)
    return other


@pytest.mark.slow
@few
@given(traffic, st.integers(1, 5), st.integers(0, 2**32))
def test_any_schedule_ends_at_what_replay_says(dealt: list[Transfer], partitions: int, seed: int) -> None:
    """Partitions, tasks that die and come back, publications doubled and out of order."""
    judge = fed(judge_of(SITE), said_of(dealt, partitions, seed))
    assert lines(judge.findings()) == replayed(SITE, dealt)


@pytest.mark.slow
@settings(few, max_examples=20)
@given(traffic, st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_hosts_may_change_their_partition(dealt: list[Transfer], before: int, after: int, seed: int) -> None:
    """More partitions: what two tasks saw of one host in one minute adds up; restarted on the way."""
    inventory, judge, saved = Inventory(SITE), judge_of(SITE), dict[str, bytes | None]()
    for number, (task, (kind, frame)) in enumerate(
        grown(inventory.attribute(flows_of(dealt)), inventory, before, after, seed)
    ):
        judge.join(kind, frame, task)
        if number % 7 == 6:
            judge = restarted(judge, saved=saved)
    assert lines(judge.findings()) == replayed(SITE, dealt)


@pytest.mark.slow
def test_a_theft_in_one_minute_is_seen_whole_by_two_tasks() -> None:
    """The larger of the two sums would be half of it."""
    inventory, judge = Inventory(SITE), judge_of(SITE, registry.detectors)
    theft = [Transfer(sent=MODEL_BYTES // 10, start=NOON) for _ in range(10)]
    said = grown(inventory.attribute(flows_of(theft)), inventory, 1, 5, 0)
    for task, (kind, frame) in said:
        judge.join(kind, frame, task)

    assert len({task for task, (_, frame) in said if frame.height}) == 2
    assert lines(judge.findings()) == replayed(SITE, theft, registry.detectors)


@pytest.mark.slow
@settings(few, max_examples=10)
@given(traffic, st.integers(1, 5), st.integers(0, 2**32))
def test_the_bus_holds_what_replay_says_at_the_end(dealt: list[Transfer], partitions: int, seed: int) -> None:
    """Judged now and then on the way, restarted at any moment: what was said too early is said again or withdrawn."""
    rng, judge, bus, saved = random.Random(seed), judge_of(SITE), dict[str, bytes](), dict[str, bytes | None]()
    for kind, frame in said_of(dealt, partitions, seed):
        judge.join(kind, frame)
        if rng.random() < 0.3:
            say(judge, bus)
        if rng.random() < 0.1:
            judge = restarted(judge, bus=bus, saved=saved)
    say(judge, bus)
    found = [findingjson.decode(value.decode()) for value in bus.values()]
    assert sorted(lines(found)) == sorted(replayed(SITE, dealt))


def say(judge: Judge, bus: dict[str, bytes]) -> None:
    changes = judge.judge()
    bus |= {finding.uid: value_of(finding) for finding in changes.publish}
    for uid in changes.withdraw:
        del bus[uid]


@pytest.mark.slow
@pytest.mark.parametrize("transfers", [THEFT, RELAYED], ids=["theft", "relayed"])
def test_thefts_are_found_over_partitions(transfers: list[Transfer]) -> None:
    """The strategies seldom steal: here something is found for certain, over two hosts of two partitions."""
    expected = replayed(SITE, transfers, registry.detectors)
    assert expected
    for seed in range(3):
        judge = judge_of(SITE, registry.detectors)
        assert lines(fed(judge, said_of(transfers, 2 + seed, seed)).findings()) == expected


def test_what_was_said_is_not_said_again() -> None:
    judge = fed(judge_of(SITE), said_of(THEFT))
    assert len(judge.judge().publish) == 1
    assert judge.judge().publish == []


@pytest.mark.slow
def test_a_finding_that_grew_is_said_again() -> None:
    judge = fed(judge_of(SITE), said_of(THEFT[:6]))
    first = judge.judge().publish
    more = fed(judge, said_of(THEFT)).judge()
    assert [finding.uid for finding in more.publish] == [finding.uid for finding in first]
    assert more.publish[0].bytes > first[0].bytes


@pytest.mark.slow
def test_an_episode_that_began_earlier_replaces_the_one_that_was_said() -> None:
    """Its id follows from its start, so a late batch makes another of it: the first has to go."""
    judge = fed(judge_of(SITE), said_of(THEFT[6:]))
    (early,) = judge.judge().publish
    changes = fed(judge, said_of(THEFT)).judge()
    assert changes.withdraw == [early.uid]
    assert [finding.start for finding in changes.publish] == [NOON]


def test_what_another_judge_left_on_the_bus_is_put_right() -> None:
    """One that was thought dead writes an old finding, and a wrong one, after this one has spoken."""
    judge = fed(judge_of(SITE), said_of(THEFT))
    (finding,) = judge.judge().publish
    judge.saw(finding.uid, value_of(replace(finding, bytes=1)))
    judge.saw("of nobody", b"{}")
    changes = judge.judge()
    assert changes.publish == [finding]
    assert changes.withdraw == ["of nobody"]


def test_its_own_words_on_the_bus_change_nothing() -> None:
    judge = fed(judge_of(SITE), said_of(THEFT))
    for finding in judge.judge().publish:
        judge.saw(finding.uid, value_of(finding))
    assert judge.judge().publish == []


def test_where_packets_were_read_is_no_news() -> None:
    """A file's name and a topic's offset differ, and stand in the value all the same."""
    (finding,) = fed(judge_of(SITE), said_of(THEFT)).judge().publish
    moved = replace(finding, evidence=tuple({**seen, "origin": "t/0", "position": 7} for seen in finding.evidence))
    assert digest_of(moved) == digest_of(finding)
    assert value_of(moved) != value_of(finding)


def test_only_what_changed_is_saved_again() -> None:
    """Two days; then a row more in the second: sums of the first day are left alone."""
    first, second = Transfer(sent=5000), Transfer(sent=5000, start=NOON + DAY)
    judge = fed(judge_of(SITE), said_of([first, second], 1))
    saved = {key for key, _ in judge.state()}
    again = {key for key, _ in fed(judge, said_of([second, replace(second, sent=9000)], 1)).state()}
    sums = {key for key in saved if key.startswith(("cells/", "signals/"))}
    assert len(sums) == 4
    assert len(sums & again) == 2


@pytest.mark.slow
def test_sums_that_were_saved_at_different_moments_join() -> None:
    """A snapshot is written piece by piece: some are newer than others, and some are there twice."""
    judge = fed(judge_of(SITE), said_of(THEFT[:6]))
    old = [(key, value) for key, value in judge.state() if value is not None]
    new = [(key, value) for key, value in fed(judge, said_of(THEFT)).state() if value is not None]
    other = judge_of(SITE)
    other.restore([*old, *[piece for piece in new if piece[0].startswith("cells/")]])
    assert lines(fed(other, said_of(THEFT)).findings()) == replayed(SITE, THEFT)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_lifecycle_events_act_as_if_they_stood_in_the_file(moment: str) -> None:
    """They act at their own time, whenever they come."""
    event = LifecycleEvent(NOON, "retire_requested", model="m", by="alice")
    in_file = replace(SITE, lifecycle=(event,))
    said = said_of(THEFT)
    judge = judge_of(SITE)
    for number, (kind, frame) in enumerate(said):
        if number == {"before": 0, "between": len(said) // 2}.get(moment):
            judge.learn_of([event])
        judge.join(kind, frame)
    judge.learn_of([event])
    assert lines(restarted(judge).findings()) == replayed(in_file, THEFT)
    assert replayed(in_file, THEFT) != replayed(SITE, THEFT)


@pytest.mark.slow
def test_receipts_act_as_if_they_stood_in_the_file() -> None:
    copy = Transfer(sent=6_000_000, dst="198.51.100.10")
    other = Transfer(sent=100, start=NOON + 3 * DAY)
    receipt = Receipt(NOON + HOUR, "backup", "h1", "a", 6_000_000)

    def site_with(*receipts: Receipt) -> Config:
        approval = Approval("backup", ("h1",), 10**9, NOON + 9 * DAY, "o", "t", names=("*",), receipts=receipts)
        network = Inventory(SITE).config.fleet.internal[0]
        outside = replace(approval, names=(), networks=(network.supernet(new_prefix=1),))
        return replace(SITE, approvals=(outside,))

    judge = fed(judge_of(site_with()), said_of([copy, other]))
    before = lines(judge.findings())
    judge.learn_of([receipt])
    assert before == replayed(site_with(), [copy, other])
    assert lines(judge.findings()) == replayed(site_with(receipt), [copy, other]) != before


def test_events_of_one_time_keep_the_order_in_which_they_were_said() -> None:
    """As lines of a file do."""
    first = LifecycleEvent(NOON, "retire_verified", model="m")
    second = LifecycleEvent(NOON, "retire_requested", model="m")
    judge = judge_of(replace(SITE, lifecycle=(LifecycleEvent(NOON, "deployed", model="m"),)))
    judge.learn_of([first, second])
    judge.learn_of([first])
    said = [event.event for event in judge.inventory.config.lifecycle]
    assert said == ["deployed", "retire_verified", "retire_requested"]


@pytest.mark.slow
def test_a_detector_of_another_version_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its saved state is refused in words; the sums are there, so nothing is lost."""
    judge = fed(judge_of(SITE), said_of(THEFT))
    judge.judge()
    saved = [(key, value) for key, value in judge.state() if value is not None]
    monkeypatch.setattr("egress.folding.__version__", "other")
    other = judge_of(SITE)
    (complaint,) = other.restore(saved)
    assert "needed" in complaint
    assert lines(other.findings()) == replayed(SITE, THEFT)


def test_no_flows_are_no_findings() -> None:
    assert judge_of(SITE).judge().publish == []
    assert restarted(judge_of(SITE)).judge().publish == []


def test_a_kind_that_nobody_sums_is_refused() -> None:
    with pytest.raises(KeyError):
        judge_of(SITE).join("other", pl.DataFrame())


MakeEvents = Callable[[], list[declared.Declared]]


@pytest.mark.parametrize(
    "said",
    [
        LifecycleEvent(NOON + 1, "retire_requested", model="m", by="alice", ticket="OPS-1"),
        LifecycleEvent(NOON, "manifest", host="h1", job="j", to=("203.0.113.0/24",), files=(("a.bin", 7), ("b", 0))),
        LifecycleEvent(NOON, "review", host="h*", until=NOON + 5, by="bob", destinations=("x.example",), note="ok"),
        Receipt(NOON, "backup", "h1", "a", 0),
    ],
)
def test_declared_lines_are_read_as_what_they_were(said: declared.Declared) -> None:
    assert declared.parse(declared.line(said)) == said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Expecting value"),
        ("[]", "must be a table"),
        ("[" * 100_000, "nested too deeply"),
        ('{"event": "review", "time": "2026-11-20T10:00:00Z", "by": "x"}', "host or model"),
        ('{"event": "stolen", "time": "2026-11-20T10:00:00Z"}', "event"),
        ('{"time": "2026-11-20T10:00:00Z", "approval": "a", "host": "h", "object": "o", "bytes": -1}', "bytes"),
        ('{"time": "yesterday"}', "time"),
    ],
)
def test_declared_lines_that_cannot_be_are_refused(text: str, complaint: str) -> None:
    """They go to the dead letters with these words."""
    with pytest.raises(ValueError, match=complaint):
        declared.parse(text)


def test_times_on_the_bus_stay_whole() -> None:
    """Microseconds, and zones: a review ends when it said."""
    event = declared.parse('{"time":"2026-11-20T10:00:00.000001+02:00","event":"deployed","model":"m"}')
    assert pl.Series([event.time]).cast(TIME).dt.hour().item() == 8
    assert event.time % 10 == 1
