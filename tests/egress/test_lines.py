"""Lines say what their rows said, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from egress.cells import MINUTE_US
from egress.inventory import Inventory
from egress.lines import lines_of
from egress.schema import FLOWS, TIME, conform
from egress.sums import KINDS, Kind
from egress.windows import WINDOW_US
from tests.egress.strategies import few, flows_of, site, traffic

AT = 29_922_480 * MINUTE_US
"""When a window begins."""
SIDES = ("src", "dst")

Row = dict[str, int]

offsets = st.sampled_from([0, 1, MINUTE_US - 1, MINUTE_US, WINDOW_US - 1]) | st.integers(0, 2 * MINUTE_US)
lengths = st.sampled_from([-1, 0, 1, MINUTE_US, 2 * MINUTE_US, 10**13]) | st.integers(0, 10_000_000)
sizes = st.integers(0, 5000) | st.integers(0, 2**33)
vast = st.sampled_from([0] * 9 + [2**62])


@st.composite
def rows_of(draw: st.DrawFn) -> Row:
    start = AT + draw(offsets)
    what = [f"{side}_{name}" for side in SIDES for name in ("bytes", "packets", "payload")]
    small = {"code": st.integers(0, 1), "part": st.integers(0, 1), "src_port": st.integers(1, 3)}
    return {
        "start": start,
        "end": start + draw(lengths),
        "position": draw(st.integers(0, 3)),
        "missed": draw(sizes) + draw(vast),
        **{name: draw(values) for name, values in small.items()},
        **{name: draw(sizes) for name in what},
    }


many = settings(max_examples=100, deadline=None, derandomize=True)
some_rows = st.lists(rows_of(), max_size=12)


def lines(rows: list[Row]) -> pl.DataFrame:
    other = {"src_ip": bytes(16), "dst_ip": bytes(16), "proto": 6}
    frame = pl.DataFrame([row | other for row in rows]) if rows else FLOWS.empty()
    flows = conform(frame.with_columns(pl.col("start", "end").cast(TIME)), FLOWS)
    codes = np.array([row["code"] for row in rows], np.uint32)
    found, count = lines_of(flows, codes, np.zeros(len(rows), np.int64))
    return found.with_columns(is_short=pl.row_index() < count)


def key_of(row: Row, place: int, most: int) -> tuple[int, ...]:
    """By the one or two minutes that a row touches; a longer one, or too large a one to add up, stands alone."""
    first, last = row["start"] // MINUTE_US, row["end"] // MINUTE_US
    is_near = row["start"] <= row["end"] and last - first <= 1 and row["start"] // WINDOW_US == row["end"] // WINDOW_US
    is_small = all(value <= most for name, value in told(row).items() if name not in ("start", "end"))
    return (row["code"], first, last) if is_near and is_small else (row["code"], first, last, place)


def told(row: Row) -> dict[str, int]:
    """What of a row is added up."""
    amounts = {"missed": row["missed"], "flows": int(row["part"] == 0)}
    for side in SIDES:
        ip_bytes, packets, payload = (row[f"{side}_{name}"] for name in ("bytes", "packets", "payload"))
        charged = max(payload, ip_bytes - 80 * packets)
        oversize = max(payload - 96 * packets, 0)
        amounts |= {f"{side}_charged": charged, f"{side}_oversize": oversize, f"{side}_bytes": ip_bytes}
        believed, counted = min(ip_bytes, 2**52), min(packets, 2**52 // 1500)
        segments = max(believed - 1500 * counted, 0) // 1428
        most = believed + 26 * (counted + segments) + 72 * segments
        amounts |= {f"{side}_most": most if believed else 0}
        amounts |= {f"{side}_packets": packets, f"{side}_payload": payload}
    return amounts


def later_share(row: Row, amount: int) -> int:
    """By largest remainder, of which the first minute's goes first."""
    border = row["end"] // MINUTE_US * MINUTE_US
    exact = Fraction(amount * (row["end"] - border + 1), row["end"] - row["start"] + 1)
    return int(exact) + (exact - int(exact) > Fraction(1, 2))


def added_up(rows: list[Row]) -> dict[str, int]:
    first = min(rows, key=lambda row: (row["start"], row["position"]))
    ports = [row["src_port"] for row in rows]
    spans = {
        "start": first["start"],
        "end": max(row["end"] for row in rows),
        "position": first["position"],
        "low_port": min(ports),
        "high_port": max(ports),
    }
    return spans | {name: sum(told(row)[name] for row in rows) for name in told(first)}


@pytest.mark.slow
@many
@given(some_rows)
def test_a_line_holds_what_a_plain_loop_adds_up(rows: list[Row]) -> None:
    """Of conversations in the same minutes; rows that are longer, odd or vast stand alone."""
    most = min((2**63 - 1) // max(len(rows), 1), 2**52)
    groups: dict[tuple[int, ...], list[Row]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(key_of(row, place, most), []).append(row)

    found = lines(rows).to_dicts()

    expected = [{"code": key[0], "is_short": len(key) == 3} | added_up(same) for key, same in groups.items()]
    names = expected[0] if expected else ()
    assert in_order([{name: line[name] for name in names} for line in found]) == in_order(expected)


@pytest.mark.slow
@many
@given(some_rows.map(lambda rows: [row for row in rows if len(key_of(row, 0, 2**40)) == 3]))
def test_the_later_minute_gets_its_share_of_each_row(rows: list[Row]) -> None:
    straddling = [row for row in rows if row["start"] // MINUTE_US < row["end"] // MINUTE_US]

    found = lines(rows)

    for name, of in (("src_later", "src_charged"), ("dst_later", "dst_charged"), ("later_missed", "missed")):
        assert found[name].sum() == sum(later_share(row, told(row)[of]) for row in straddling)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@few
@given(traffic, st.lists(st.integers(0, 90_000_000), min_size=1, max_size=4))
def test_rows_together_say_what_they_say_apart(kind: Kind, transfers: list[Any], delays: list[int]) -> None:
    """Each conversation in several rows, some of them in the same minutes."""
    inventory = Inventory(site())
    once = inventory.attribute(flows_of(transfers)).filter(pl.col("host") != "")
    rows = pl.concat([once.with_columns(pl.col("start", "end") + pl.duration(microseconds=us)) for us in delays])

    apart = kind.add([kind.of(row, inventory) for row in rows.iter_slices(1)])

    assert_frame_equal(kind.add([kind.of(rows, inventory)]), apart)


def in_order(found: list[Mapping[str, int]] | list[dict[str, int]]) -> list[tuple[tuple[str, int], ...]]:
    return sorted(tuple(sorted(line.items())) for line in found)
