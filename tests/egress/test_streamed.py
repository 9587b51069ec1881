"""Recorded transfers as a stream: tasks of several partitions and one judge say what replay says, byte for byte."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from egress import inputs, registry
from egress.config import Approval, Config
from egress.configfile import assumed, load
from egress.contracts import Batch, ReadSettings
from egress.inventory import Inventory
from egress.judging import Judge
from egress.partition import PartitionTask
from egress.replay import Request, replay
from egress.simulate import Simulation, kinds_of, simulate
from egress.taskstate import dump
from egress.taskstate import load as load_task
from egress.wire import FLOWS_V1, Header, decode, encode
from tests.corpus.test_recorded import INVENTORY
from tests.egress.streams import lines, partitions

LATE_AFTER = 6 * 3_600_000_000
MESSAGE_US = 10_000_000
"""The most that a message is about: what a sensor gathers for longer might come too late."""
Message = tuple[Header, pl.DataFrame]

pytestmark = pytest.mark.slow


def messages(paths: Sequence[Path], config: Config, number: int, rng: random.Random) -> list[list[Message]]:
    """Logs of the partitions: each host's rows cut anywhere, but for the two rows of one conversation."""
    inventory = Inventory(config)
    frames = [inventory.attribute(batch.flows) for batch in _batches(paths) if batch.flows.height]
    logs = []
    for rows in partitions(pl.concat(frames), number):
        hosts = [list(_cut(str(host), part, rng)) for (host,), part in rows.group_by("host", maintain_order=True)]
        log = [message for host in hosts for message in host]
        logs.append([*log, *rng.sample(log, len(log) // 4)])
    return logs


def _batches(paths: Sequence[Path]) -> Iterator[Batch]:
    for collector, claimed in inputs.sort(inputs.expand(paths)).claimed:
        yield from collector.read(claimed, ReadSettings())


def _cut(host: str, rows: pl.DataFrame, rng: random.Random) -> Iterator[Message]:
    flow_ids, begins, start, seq = rows["flow_id"].to_list(), rows["start"].cast(pl.Int64).to_list(), 0, 0
    while start < rows.height:
        longest = bisect_left(begins, begins[start] + MESSAGE_US, start + 1)
        end = min(longest, start + rng.choice([1, 10, 100, 2000]))
        while end < rows.height and flow_ids[end] == flow_ids[end - 1]:
            end += 1
        header = Header(FLOWS_V1, host, "replay", "", "content", seq, end - start)
        yield decode(*encode(rows[start:end], header))
        start, seq = end, seq + 1


def streamed(
    logs: Sequence[Sequence[Message]], config: Config, rng: random.Random, kept: dict[str, bytes] | None = None
) -> Judge:
    """Tasks go on in turn, and hand on what changed now and then; tasks and judge are killed and begin again."""
    kept = {} if kept is None else kept
    inventory = Inventory(config)
    tasks = [PartitionTask(inventory, LATE_AFTER) for _ in logs]
    states = [dump(task) for task in tasks]
    judge = Judge(inventory, registry.detectors)
    while any(task.next_offset < len(log) for task, log in zip(tasks, logs, strict=True)):
        number = rng.randrange(len(logs))
        for header, rows in logs[number][tasks[number].next_offset :][: rng.randrange(1, 5 + len(logs[number]) // 8)]:
            tasks[number].feed(header, rows, tasks[number].next_offset)
        if rng.random() < 0.4:
            hand_on(tasks[number], judge)
            states[number] = dump(tasks[number])
        if rng.random() < 0.1:
            tasks[number] = load_task(states[number], inventory, LATE_AFTER)
        if rng.random() < 0.05:
            judge.judge()
            judge = begun_again(judge, inventory, kept)
    for task in tasks:
        hand_on(task, judge)
    return judge


def hand_on(task: PartitionTask, judge: Judge) -> None:
    for kind, frame in task.take_changes().items():
        judge.join(kind, frame)


def begun_again(judge: Judge, inventory: Inventory, kept: dict[str, bytes]) -> Judge:
    """From what was saved: `kept`, as long as its keys are not saved again."""
    for key, value in judge.state():
        kept.pop(key, None)
        kept |= {} if value is None else {key: value}
    other = Judge(inventory, registry.detectors)
    assert other.restore(kept.items()) == []
    return other


def assert_streams_as_it_replays(paths: Sequence[Path], config: Config, seeds: Sequence[int]) -> None:
    found = replay(Request(tuple(paths), config)).findings
    assert found
    for seed in seeds:
        rng = random.Random(seed)
        judge = streamed(messages(paths, config, 1 + seed % 5, rng), config, rng)
        assert lines(judge.findings()) == lines(found)


@pytest.mark.parametrize("name", ["relay_agent", "slow_chunks", "vxlan_overlay", "put_over_ipv6"])
def test_a_capture_streams_as_it_replays(name: str, data: Path) -> None:
    assert_streams_as_it_replays([data / "recorded" / f"{name}.pcap"], assumed(), range(2))


def test_all_captures_together_stream_as_they_replay(data: Path) -> None:
    """Hosts of several captures, of several days, and two that saw the same transfer."""
    assert_streams_as_it_replays(sorted((data / "recorded").glob("*.pcap")), assumed(), range(3))


@pytest.mark.corpus
def test_captures_of_real_programs_stream_as_they_replay(corpus: Path, tmp_path: Path) -> None:
    """With an inventory: one host listed with two addresses, one model, thefts, a tunnel and what is benign."""
    inventory = tmp_path / "egress.toml"
    inventory.write_text(INVENTORY)
    assert_streams_as_it_replays(sorted((corpus / "recorded").glob("*.pcap")), load(inventory), range(3))


def test_a_fleet_with_heartbeats_and_events_streams_as_it_replays(tmp_path: Path) -> None:
    """Thefts, reboots, hosts with wrong clocks; heartbeats in any order, events and receipts at any moment."""
    start = 1_788_739_200_000_000
    simulate(Simulation(tmp_path, 5, 2, 1, start, kinds_of("burst,relay,piggyback-receipted,gap")))
    paths = [tmp_path / "flows.parquet", tmp_path / "heartbeats.parquet"]
    config = load(tmp_path / "egress.toml")
    found = lines(replay(Request(tuple(paths), config)).findings)
    beats = pl.concat([batch.heartbeats for batch in _batches(paths[1:]) if batch.heartbeats is not None])
    receipts = {each.id: each.receipts for each in config.approvals}
    rng = random.Random(5)

    without = replace(config, lifecycle=(), approvals=tuple(map(_without_receipts, config.approvals)))
    kept: dict[str, bytes] = {}
    judge = streamed(messages(paths[:1], without, 3, rng), without, rng, kept)
    for part in beats.sample(fraction=1, shuffle=True, seed=1).iter_slices(5000):
        judge.feed_heartbeats(part)
    before = lines(judge.findings())
    judge.learn_of([*config.lifecycle, *(one for every in receipts.values() for one in every or ())])

    assert lines(begun_again(judge, Inventory(without), kept).findings()) == found
    assert before != found
    assert any('"coverage"' in line for line in found)


def _without_receipts(approval: Approval) -> Approval:
    return approval if approval.receipts is None else replace(approval, receipts=())
