"""Coverage that goes on from a border says what coverage from scratch says, whatever comes and when."""

from __future__ import annotations

import random
from dataclasses import fields

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import cardbytes, coverage, heartbeats
from egress.coverage import Coverage
from egress.days import Day
from egress.inventory import Inventory
from egress.schema import conform
from egress.settled import Memo
from tests.egress.beats import BOTH, Beat, frame
from tests.egress.strategies import DAY, HOUR, MINUTE, NOON, SECOND, cells_of, few

INVENTORY = Inventory(BOTH)
NO_CELLS = cells_of(BOTH, [])
STEP = 5 * MINUTE
"""Between heartbeats: three days of two hosts are 1,728 of them."""


def spoken(rng: random.Random, days: int) -> list[Beat]:
    """A few sensors, each with all that may happen to one: silences, restarts, reboots, bad clocks, odd counters."""
    rows: list[Beat] = []
    for host, sensor in (("h1", "a"), ("h1", "b"), ("h2", "a"))[: rng.choice([1, 2, 3, 3])]:
        time, counter, boot, epoch, seq = NOON + rng.randrange(3) * HOUR, rng.choice([0, 2**31, 2**32 - 10**6]), 0, 0, 0
        has_numbers, odd = rng.random() < 0.8, rng.choice([0, 0.002, 0.02])
        while time < NOON + days * DAY:
            said = {"boot": str(boot), "epoch": str(epoch) if has_numbers else "", "seq": seq}
            card = {"nic_tx_bytes": None if rng.random() < odd / 4 else counter, "dropped_packets": rng.randrange(3)}
            rows.append({"time": time, "host": host, "sensor": sensor, **said, **card})
            time += rng.choice([STEP, STEP, STEP + rng.randrange(SECOND)])
            counter += rng.choice([0, 10**4, 10**6])
            seq += 1
            if rng.random() < odd:
                what = rng.choice(["silence", "restart", "reboot", "back", "misread", "lost", "long"])
                time += {"silence": HOUR, "long": 30 * HOUR, "back": -rng.randrange(2 * HOUR)}.get(what, 0)
                seq = seq + rng.randrange(3) if what == "lost" else 0 if what in ("restart", "reboot") else seq
                epoch += what in ("restart", "reboot")
                boot += what == "reboot"
                counter = 0 if what == "reboot" else max(0, counter + (10**10 if what == "misread" else 0))
    return rows


def sent(rng: random.Random, days: int) -> pl.DataFrame:
    """Sums of what hosts sent, as their own sensor or the other's saw it: most of it short, some of it for hours."""
    rows = []
    for _ in range(rng.choice([0, 50, 400])):
        host, sender = rng.choice(["h1", "h2"]), rng.choice(["h1", "h2"])
        begin = NOON + rng.randrange(days * DAY) // MINUTE * MINUTE
        end = begin + rng.choice([0, 1, 1, 9, 60, 500]) * MINUTE
        amount = rng.choice([10**4, 10**6, 10**7])
        rows.append((host, rng.choice(["a", "b"]), sender, begin, end, amount, amount + rng.randrange(9999)))
    made = pl.DataFrame(rows, schema=cardbytes.ON_CARDS.names, orient="row") if rows else cardbytes.ON_CARDS.empty()
    return cardbytes.add([conform(made, cardbytes.ON_CARDS)])


def days_of(rows: pl.DataFrame, time: str) -> list[Day]:
    """Each day is another one as soon as a row came."""
    parts = rows.group_by((pl.col(time).cast(pl.Int64) // DAY).alias("day"), maintain_order=True)
    return sorted(
        (Day(int(number), part.height, lambda part=part: part) for (number,), part in parts),  # type: ignore[misc]
        key=lambda day: day.number,
    )


def differing(one: Coverage, other: Coverage) -> list[str]:
    pairs = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(Coverage)}
    return [
        name
        for name, (mine, yours) in pairs.items()
        if not (mine.equals(yours) if isinstance(mine, pl.DataFrame) else mine == yours)
    ]


@pytest.mark.slow
@settings(few, max_examples=8)
@given(st.integers(0, 2**32), st.sampled_from([0, 0, 0.1]), st.sampled_from([3, 9]))
def test_coverage_that_goes_on_is_coverage_from_scratch(seed: int, late: float, most_hours: int) -> None:
    """Whatever the sensors say, however it is cut into judgements, late or twice."""
    rng, memo, used = random.Random(seed), Memo(), 0
    beats = frame(sorted(spoken(rng, 3), key=lambda row: row["time"]))  # type: ignore[arg-type, return-value]
    rows = sent(rng, 3)
    at = pl.concat([beats["time"].cast(pl.Int64), rows["end"]])
    known_beats, known_rows, so_far = beats.clear(), rows.clear(), NOON
    while so_far < int(at.max()):  # type: ignore[arg-type] # some
        so_far += rng.randrange(1, most_hours * HOUR)
        is_late = pl.Series([rng.random() < late for _ in range(beats.height)], dtype=pl.Boolean)
        came = beats.filter((beats["time"].cast(pl.Int64) <= so_far) & ~is_late)
        came_rows = rows.filter(pl.col("end") <= so_far)
        new = came.join(known_beats, on=heartbeats.KEY, how="anti", nulls_equal=True)
        new_rows = came_rows.join(known_rows, on=cardbytes.KEY, how="anti")
        again = known_beats.filter(pl.col("time").cast(pl.Int64) > so_far - HOUR) if rng.random() < 0.2 else new
        memo.note(pl.concat([new, again])["time"])
        memo.note(new_rows["begin"])
        known_beats, known_rows = heartbeats.add([known_beats, came]), cardbytes.join([known_rows, came_rows])
        if known_beats.is_empty():
            continue
        asked = known_beats, known_rows, NO_CELLS, rng.choice([0, so_far]), INVENTORY
        days = [days_of(known_beats, "time"), days_of(known_rows, "begin"), []]
        found = coverage.of_days(*days, *asked[3:], memo)
        used += found.until > NOON
        assert differing(found, coverage.of(*asked)) == []
    assert used
