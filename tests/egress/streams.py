"""Flows dealt to partitions by host, and what their tasks publish: absolute sums of all that each has seen so far."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

import polars as pl

from egress import ocsf
from egress.contracts import Finding
from egress.inventory import Inventory
from egress.sums import KINDS, Totals

Publication = tuple[str, pl.DataFrame]
"""The name of a kind, and states of some of its sums."""


def lines(found: Sequence[Finding]) -> list[str]:
    """What `replay --findings` writes, and what is said of conversations beside it but for where they were read."""
    return [ocsf.line(ocsf.event(finding)) for finding in found]


def partitions(rows: pl.DataFrame, number: int) -> list[pl.DataFrame]:
    """Attributed rows by the partition of their host; rows of nobody are not charged."""
    watched = rows.filter(pl.col("host") != "")
    places = {host: crc32(host.encode()) % number for host in watched["host"].unique()}
    place = pl.col("host").replace_strict(places, return_dtype=pl.Int64) if places else pl.lit(0)
    return [watched.filter(place == each) for each in range(number)]


def published(rows: pl.DataFrame, inventory: Inventory, rng: random.Random) -> Iterator[Publication]:
    """What one task says while it sums up its partition in batches of any size, some of them twice.

    Every now and then it dies, and its successor begins with an earlier prefix of the same log.
    """
    totals, read, batches = Totals(lambda kind: kind.add), 0, list(_batches(rows, rng))
    while read < len(batches):
        for kind in KINDS:
            totals.append(kind.name, kind.of(batches[read], inventory))
        read += 1
        if rng.random() < 0.5 or read == len(batches):
            yield from _said(totals)
        if rng.random() < 0.2:
            read = rng.randrange(read + 1)
            totals = _summed(batches[:read], inventory)


def shuffled(rows: pl.DataFrame, inventory: Inventory, number: int, seed: int) -> list[Publication]:
    """Publications of all tasks in one topic, some of them twice: each task's own in their order, or not even that."""
    rng = random.Random(seed)
    said = [each for part in partitions(rows, number) for each in published(part, inventory, rng)]
    said += rng.sample(said, len(said) // 3)
    rng.shuffle(said)
    return said


def grown(
    rows: pl.DataFrame, inventory: Inventory, before: int, after: int, seed: int
) -> list[tuple[int, Publication]]:
    """The same with the number of each task, where the number of partitions became another half way through."""
    rng, half = random.Random(seed), rows.height // 2
    logs = [pl.DataFrame(schema=rows.schema) for _ in range(max(before, after))]
    for part, number in ((rows[:half], before), (rows[half:], after)):
        for task, of_task in enumerate(partitions(part, number)):
            logs[task] = pl.concat([logs[task], of_task])
    said = [(task, each) for task, log in enumerate(logs) for each in published(log, inventory, rng)]
    said += rng.sample(said, len(said) // 3)
    rng.shuffle(said)
    return said


def _batches(rows: pl.DataFrame, rng: random.Random) -> Iterator[pl.DataFrame]:
    """Messages of one host each, as a collector cuts them."""
    for _, of_host in rows.group_by("host", maintain_order=True):
        start = 0
        while start < of_host.height:
            size = rng.choice([1, 2, 7, 50, 2000])
            yield of_host[start : start + size]
            start += size


def _summed(batches: Iterable[pl.DataFrame], inventory: Inventory) -> Totals:
    totals = Totals(lambda kind: kind.add)
    for batch in batches:
        for kind in KINDS:
            totals.append(kind.name, kind.of(batch, inventory))
    return totals


def _said(totals: Totals) -> Iterator[Publication]:
    state = totals.state()
    for kind in KINDS:
        yield kind.name, getattr(state, kind.name)
