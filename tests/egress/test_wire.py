"""Messages on the bus: what each schema's name stands for, for ever, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from egress import wire
from egress.heartbeats import HEARTBEATS
from egress.schema import FLOWS, Column, Table, conform
from egress.wire import Header, Reason, Version, WireError
from tests.egress.strategies import Transfer, flows_of

HEADER = Header("egress.flows.v1", "h1", "capture/replay", "", "e1", 0, 2)
ROWS = flows_of([Transfer(sent=5000, name="a.example.org", name_from="sni"), Transfer(back=70)]).with_columns(
    host=pl.lit("h1"), side=pl.lit("src")
)


def with_header(name: str, value: bytes | None) -> list[tuple[str, bytes]]:
    """The headers of a good message with one changed, or missing."""
    _, headers = wire.encode(ROWS, HEADER)
    kept = [(key, old) for key, old in headers if key != name]
    return kept if value is None else [*kept, (name, value)]


def refusal(value: bytes | None, headers: list[tuple[str, bytes]]) -> Reason:
    with pytest.raises(WireError) as caught:
        wire.decode(value, headers)
    return caught.value.reason


@pytest.mark.parametrize("schema", list(wire.SCHEMAS))
def test_bytes_written_once_are_read_for_ever(data: Path, schema: str) -> None:
    """The sample was made by the first version that wrote this schema, and says in words what it holds."""
    said = json.loads((data / "wire" / f"{schema}.json").read_text())
    headers = [(name, value.encode()) for name, value in said["headers"].items()]

    header, rows = wire.decode((data / "wire" / f"{schema}.bin").read_bytes(), headers)

    assert {name: str(value) for name, value in asdict(header).items()} == said["headers"]
    assert rows.schema == wire.SCHEMAS[schema].read.polars
    assert [[str(value) for value in row] for row in rows.select(said["rows"]["columns"]).rows()] == said["rows"][
        "values"
    ]


@pytest.mark.parametrize("schema", list(wire.SCHEMAS))
def test_columns_change_only_with_the_schemas_name(data: Path, schema: str) -> None:
    """Whoever adds a column to a table adds a schema for it, and keeps the old table for what lies on the bus."""
    said = json.loads((data / "wire" / f"{schema}.json").read_text())

    fields = wire.arrow_schema(wire.SCHEMAS[schema].written)
    columns = [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in fields]

    assert columns == said["columns"]


def test_a_message_of_an_older_schema_is_read_with_the_columns_of_today() -> None:
    """A column that it never had has its default; one that is no more is left out."""
    added = Column("ja4", pl.String(), "LowCardinality(String)", "TLS client", default="-")
    today = Table("flows", "as of tomorrow", (*(c for c in FLOWS.columns if c.name != "vlan"), added))
    schemas = {"egress.flows.v1": Version(FLOWS, today), "egress.flows.v2": Version(today, today)}
    old = wire.encode(ROWS, HEADER, schemas)
    new = wire.encode(conform(ROWS, today), replace(HEADER, schema="egress.flows.v2"), schemas)

    _, from_old = wire.decode(*old, schemas)
    _, from_new = wire.decode(*new, schemas)

    assert_frame_equal(from_old, from_new)
    assert from_old.columns == list(today.names)
    assert from_old["ja4"].to_list() == ["-", "-"]


def test_a_message_says_which_it_is_before_it_is_opened() -> None:
    value, headers = wire.encode(ROWS, HEADER)

    assert wire.read_header(headers) == HEADER
    assert dict(headers)["seq"] == b"0"
    back = wire.decode(value, [*headers, ("traceparent", b"\xff")])
    assert back[0] == HEADER
    assert_frame_equal(back[1], ROWS)


def test_equal_rows_are_equal_messages() -> None:
    assert wire.encode(ROWS, HEADER) == wire.encode(ROWS.clone(), replace(HEADER))


@pytest.mark.parametrize("name", ["schema", "host", "sensor", "boot", "epoch", "seq", "rows"])
def test_a_header_that_is_missing_doubled_or_no_text_is_refused(name: str) -> None:
    value, headers = wire.encode(ROWS, HEADER)

    assert refusal(value, with_header(name, None)) == Reason.BAD_HEADER
    assert refusal(value, [*headers, (name, b"1")]) == Reason.BAD_HEADER
    assert refusal(value, with_header(name, b"\xff\xfe")) == Reason.BAD_HEADER
    assert refusal(value, with_header(name, b"1" * 300)) == Reason.BAD_HEADER


@pytest.mark.parametrize("number", [b"", b"-1", b"1.0", b" 1", b"0x1", "١".encode(), b"9" * 19])
def test_a_number_in_a_header_is_decimal(number: bytes) -> None:
    value, _ = wire.encode(ROWS, HEADER)

    assert refusal(value, with_header("seq", number)) == Reason.BAD_HEADER


def test_an_unknown_schema_is_refused_before_its_value_is_looked_at() -> None:
    assert refusal(b"anything", with_header("schema", b"egress.flows.v99")) == Reason.UNKNOWN_SCHEMA


def test_a_message_without_a_value_is_refused() -> None:
    assert refusal(None, with_header("traceparent", b"")) == Reason.NO_VALUE
    assert refusal(b"", with_header("traceparent", b"")) == Reason.NO_VALUE


def test_rows_are_as_many_and_of_the_host_that_the_headers_say() -> None:
    """The key on the bus is the header's host: rows of another would be summed where its others are not."""
    value, _ = wire.encode(ROWS, HEADER)

    assert refusal(value, with_header("rows", b"3")) == Reason.NOT_AS_SAID
    assert refusal(value, with_header("host", b"h2")) == Reason.NOT_AS_SAID
    with pytest.raises(WireError, match="another host"):
        wire.encode(ROWS, replace(HEADER, host="h2"))


@pytest.mark.parametrize(
    "change",
    [
        {"src_bytes": pl.lit(2**63, pl.UInt64)},
        {"sampling": pl.lit(0, pl.UInt32)},
        {"end": pl.col("start").dt.offset_by("-1us")},
        {"side": pl.lit("")},
        {"side": pl.lit("both")},
        {"name": pl.lit("x" * 5000)},
    ],
    ids=["counter", "sampling", "backwards", "sideless", "both", "text"],
)
def test_what_no_collector_writes_is_refused(change: dict[str, pl.Expr]) -> None:
    """By whoever sends it and by whoever reads it."""
    rows = ROWS.with_columns(**change)
    with pytest.raises(WireError):
        wire.encode(rows, HEADER)

    assert refusal(wire.pack(rows, FLOWS), with_header("traceparent", b"")) == Reason.IMPOSSIBLE_VALUE


def test_rows_of_nobody_have_no_side() -> None:
    nobody = ROWS.with_columns(host=pl.lit(""), side=pl.lit(""))

    header, rows = wire.decode(*wire.encode(nobody, replace(HEADER, host="")))

    assert header.host == ""
    assert_frame_equal(rows, nobody)


@pytest.mark.slow
def test_a_message_that_brokers_would_refuse_is_not_made() -> None:
    """Random names do not compress: 16,000 rows of them are to be sent in parts."""
    names = [sha256(str(n).encode()).hexdigest() for n in range(16_000)]
    rows = pl.concat([ROWS[:1]] * len(names)).with_columns(
        name=pl.Series(names), process=pl.Series(names).str.reverse(), user=pl.Series(names).str.slice(7)
    )

    with pytest.raises(WireError) as caught:
        wire.encode(rows, replace(HEADER, rows=len(names)))

    assert caught.value.reason == Reason.TOO_LARGE


def test_heartbeats_of_one_host_travel_likewise() -> None:
    beats = conform(pl.DataFrame({"time": [0, 10], "host": ["h1", "h1"], "nic_tx_bytes": [1, None]}), HEARTBEATS)

    _, back = wire.decode(*wire.encode(beats, replace(HEADER, schema="egress.heartbeats.v1")))

    assert_frame_equal(beats, back)
