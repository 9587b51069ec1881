"""Values as rows of the store."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import polars as pl
import pyarrow as pa
import pytest

from egress import schema, storerows
from egress.config import Fleet, Host, Role
from egress.contracts import Count, Tally

ADDRESS = schema.V4_MAPPED_PREFIX + bytes([10, 0, 0, 1])


def _flows(**columns: object) -> pl.DataFrame:
    row = {"start": 0, "end": 0, "src_ip": ADDRESS, "dst_ip": ADDRESS, "proto": 6, **columns}
    frame = pl.DataFrame([row]).with_columns(pl.col("start", "end").cast(schema.TIME))
    return schema.conform(frame, schema.FLOWS)


def test_addresses_become_fixed_size_binary() -> None:
    """Which ClickHouse reads as IPv6."""
    arrow = storerows.to_arrow(_flows(), schema.FLOWS)

    assert arrow.schema.field("src_ip").type == pa.binary(16)
    assert arrow["src_ip"].to_pylist() == [ADDRESS]


def test_an_address_that_is_not_16_bytes_is_refused() -> None:
    """Cutting or padding it would store somebody else's address."""
    with pytest.raises(ValueError, match="src_ip must be 16 bytes"):
        storerows.to_arrow(_flows(src_ip=b"\x0a\x00\x00\x01"), schema.FLOWS)


def test_coverage_lines_add_up_as_the_tally_does() -> None:
    """read = metered + skipped, in frames and bytes."""
    tally = Tally(Count(5, 500), Count(3, 300), {"arp": Count(1, 60), "malformed": Count(1, 140)})

    rows = storerows.of_tally(tally, storerows.Outcome("r", 5, 1))

    total = rows.group_by("item").agg(pl.col("frames", "bytes").sum()).sort("item")
    assert total.rows() == [("metered", 3, 300), ("read", 5, 500), ("skipped", 2, 200)]


FLEET = Fleet(internal=(IPv6Network("fd00::/8"),), hosts=(Host("gpu-01", (ADDRESS,)),), roles=(Role("agent"),))


def test_another_address_of_a_host_changes_the_fleet() -> None:
    """Rows would be attributed to other hosts."""
    moved = replace(FLEET, hosts=(Host("gpu-01", (bytes(15) + b"\x01",)),))

    assert storerows.fingerprint(moved) != storerows.fingerprint(FLEET)


def test_another_tolerance_is_the_same_fleet() -> None:
    """It changes findings, which are replaced, not whose bytes are whose."""
    lenient = replace(FLEET, roles=(Role("agent", 10**9),))

    assert storerows.fingerprint(lenient) == storerows.fingerprint(FLEET)
