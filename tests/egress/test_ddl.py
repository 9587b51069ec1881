"""The tables follow the schema."""

from __future__ import annotations

import pytest

from egress import ddl, schema


def _sql(name: str) -> str:
    return next(statement.sql for statement in ddl.statements() if statement.name == name)


@pytest.mark.parametrize("column", schema.FLOWS.columns, ids=lambda column: column.name)
def test_flows_have_every_column_of_the_schema_with_its_type_and_codec(column: schema.Column) -> None:
    """The schema is the only place that names them."""
    assert f"{column.name} {column.clickhouse} CODEC({column.codec})" in _sql("flows_parts")


@pytest.mark.parametrize("column", schema.CELLS.columns, ids=lambda column: column.name)
def test_the_ledger_has_every_column_of_the_cells(column: schema.Column) -> None:
    """Counters and times merge, the rest is as declared."""
    assert f" {column.name} " in _sql("ledger_parts").replace("(", " ")


def test_every_column_of_a_cell_is_key_or_merges() -> None:
    """A column that is neither would keep whichever row came first."""
    merging = {"sent", "received", "missed", "first", "last"}

    assert set(schema.CELLS.names) == set(ddl.CELLS_KEY) | merging


def test_the_key_of_a_flow_row_holds_nothing_that_grows() -> None:
    """Else an interrupted part and the whole of it would both stay."""
    grows = {column.name for column in schema.FLOWS.columns if column.unit in ("bytes", "packets")} | {
        "start",
        "end",
        "final",
    }

    assert not grows & set(ddl.FLOWS_KEY)


def test_evidence_is_no_part_of_a_flow_rows_key() -> None:
    """The same capture under another name is the same traffic."""
    assert not {column.name for column in schema.FLOWS.columns if column.is_evidence} & set(ddl.FLOWS_KEY)


def test_the_fingerprint_is_stable() -> None:
    """It is compared with what an earlier process wrote."""
    assert ddl.fingerprint() == ddl.fingerprint()
    assert len(ddl.fingerprint()) == 16
