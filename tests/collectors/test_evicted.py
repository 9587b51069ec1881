"""Merging what did not fit into the flow table."""

from __future__ import annotations

import polars as pl
import pytest

from collectors import evicted
from collectors.rows import CUT_FRAME, FIRST_FRAME
from egress import schema

T0 = 1_700_000_000_000_000


def v4(text: str) -> bytes:
    return schema.V4_MAPPED_PREFIX + bytes(int(part) for part in text.split("."))


def rows(pairs: list[tuple[bytes, bytes]]) -> pl.DataFrame:
    """One UDP conversation of 100 bytes for each pair, ten thousand a second."""
    count = len(pairs)
    frame = pl.DataFrame(
        {
            "src_ip": [src for src, _ in pairs],
            "dst_ip": [dst for _, dst in pairs],
            "src_bytes": [100] * count,
            "flow_id": range(1, count + 1),
            "start": [T0 + n * 100 for n in range(count)],
            "end": [T0 + n * 100 for n in range(count)],
            "proto": [17] * count,
        }
    ).with_columns(pl.col("start", "end").cast(schema.TIME))
    return schema.conform(frame, schema.FLOWS).with_columns(
        pl.lit(0, pl.Int64).alias(FIRST_FRAME), pl.lit(0, pl.Int64).alias(CUT_FRAME)
    )


def test_one_host_scanning_the_world_stays_itself():
    """30,000 random destinations of one host: few rows, all of that host, no byte less."""
    host = v4("10.0.0.1")
    world = [(host, v4(f"{n % 200 + 11}.{n * 7 % 256}.{n * 13 % 256}.{n % 251}")) for n in range(30_000)]

    merged = evicted.merge(rows(world))

    assert merged.height <= evicted.MAX_ROWS
    assert merged["src_bytes"].sum() == 3_000_000
    assert merged["src_ip"].unique().to_list() == [host]
    assert v4("0.0.0.0") not in merged["dst_ip"].to_list()


@pytest.mark.slow
def test_a_fleet_that_talks_to_everybody_is_not_mixed_up():
    """Who sent is kept, and nobody outside becomes an address that no router passes on."""
    fleet = [v4(f"10.20.0.{n % 200}") for n in range(30_000)]
    world = [v4(f"{n * 31 % 223 + 1}.{n * 7 % 256}.{n * 13 % 256}.{n % 251}") for n in range(30_000)]

    merged = evicted.merge(rows(list(zip(fleet, world, strict=True))))

    assert merged.height <= evicted.MAX_ROWS
    assert merged["src_bytes"].sum() == 3_000_000
    assert merged.group_by("src_ip").agg(pl.col("src_bytes").sum())["src_bytes"].to_list() == [15_000] * 200
    assert not {v4("0.0.0.0"), schema.NO_ADDRESS} & set(merged["dst_ip"])


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        ("192.168.{}.{}", v4("192.168.0.0")[:14]),
        ("172.31.{}.{}", schema.V4_MAPPED_PREFIX + bytes([172])),
        ("10.{}.{}.7", schema.V4_MAPPED_PREFIX + bytes([10])),
    ],
)
def test_private_addresses_stay_private(block, inside):
    """A sender that invents sources inside its own network is not moved outside of it."""
    inventive = [(v4(block.format(n % 256, n // 256 % 256)), v4("198.51.100.9")) for n in range(20_000)]

    merged = evicted.merge(rows(inventive))

    assert merged["src_bytes"].sum() == 2_000_000
    assert all(address.startswith(inside) for address in merged["src_ip"])
    if block.startswith("172"):
        assert all(16 <= address[13] <= 31 for address in merged["src_ip"])


def test_unique_local_addresses_keep_their_site():
    """A site's /48 is what says that they are its own."""
    site = bytes.fromhex("fd7700010002")
    inventive = [(site + n.to_bytes(10, "big"), v4("198.51.100.9")) for n in range(20_000)]

    merged = evicted.merge(rows(inventive))

    assert merged["src_bytes"].sum() == 2_000_000
    assert all(address.startswith(site) for address in merged["src_ip"])


def test_a_merged_row_is_no_part_of_another_conversation():
    """Its id is none of those that it was merged from."""
    before = rows([(v4("10.0.0.1"), v4("198.51.100.9"))] * 50)

    merged = evicted.merge(before)

    assert merged.height == 1
    assert merged["flow_id"].item() not in before["flow_id"].to_list()


def test_ten_seconds_are_never_crossed():
    """Minutes in the ledger stay what they are."""
    late = rows([(v4("10.0.0.1"), v4("198.51.100.9"))] * 3).with_columns(
        pl.col("start", "end") + pl.duration(seconds=pl.Series([0, 9, 10]))
    )

    assert evicted.merge(late)["src_bytes"].to_list() == [200, 100]
