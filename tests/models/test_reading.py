"""Reading a window: whatever the order of its rows, each host's come to the same."""

from __future__ import annotations

from random import Random

import polars as pl

from egress.schema import conform
from egress.signals import SIGNALS
from models.outside import Window
from models.reading import Reader


def window(rows: list[dict[str, object]]) -> pl.DataFrame:
    times = {name: pl.lit(0).cast(SIGNALS.polars[name]) for name in ("window_start", "first", "last")}
    return conform(pl.DataFrame(rows).with_columns(**times), SIGNALS)


ROWS: list[dict[str, object]] = [
    {"host": "b", "sensor": "tap", "group": "198.51.100.0/24", "is_outside": True, "proto": 6, "sent": 1},
    {"host": "a", "sensor": "tap", "group": "198.51.100.0/24", "is_outside": True, "proto": 6, "sent": 2},
    {"host": "a", "sensor": "tap", "group": "198.51.100.0/24", "is_outside": False, "proto": 17, "sent": 4},
    {"host": "a", "sensor": "tap", "group": "10.0.0.0/24", "is_outside": False, "proto": 6, "sent": 8},
]


def sent(found: Window) -> dict[str, dict[str, int]]:
    return {traffic.host: {each.group: each.sent for each in traffic.exchanges} for traffic in found.hosts}


def test_rows_in_any_order_come_to_the_same() -> None:
    shuffled = Random(1).sample(ROWS, len(ROWS))
    assert Reader().everywhere(window(shuffled)) == Reader().everywhere(window(ROWS))


def test_of_a_group_partly_outside_only_that_part_is_outside() -> None:
    reader, seen = Reader(), window(ROWS)
    assert sent(reader.everywhere(seen)) == {
        "a": {"10.0.0.0/24": 8, "198.51.100.0/24": 6},
        "b": {"198.51.100.0/24": 1},
    }
    assert sent(reader.outside(seen)) == {"a": {"198.51.100.0/24": 2}, "b": {"198.51.100.0/24": 1}}


def test_of_two_sensors_that_saw_one_group_the_larger_view_counts() -> None:
    other = ROWS[0] | {"sensor": "card", "sent": 3}
    assert sent(Reader().everywhere(window([*ROWS, other])))["b"] == {"198.51.100.0/24": 3}


def test_lines_of_a_host_are_its_rows_by_group() -> None:
    rows = Reader().rows(window(ROWS))
    assert [(line.host, line.group, line.sent) for line in rows.lines_of("a")] == [
        ("a", "10.0.0.0/24", 8),
        ("a", "198.51.100.0/24", 2),
        ("a", "198.51.100.0/24", 4),
    ]
