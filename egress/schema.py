"""Every column that moves through Egress, declared once.

Wire schema, ClickHouse tables, generated documentation and dashboard checks derive from these tables. Counters are
integers, times are UTC microseconds of event time, addresses are 16 bytes with IPv4 as v4-mapped (RFC 4291, 2.5.5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import polars as pl

TIME = pl.Datetime("us", "UTC")
ADDRESS_BYTES = 16
V4_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
NO_ADDRESS = bytes(ADDRESS_BYTES)
"""`::`, which stands for "none" wherever an address is optional."""

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it is called, how each engine stores it, and what it means."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    clickhouse: str
    meaning: str
    unit: str = ""
    codec: str = "ZSTD(1)"
    default: object = None
    """What stands in for a value that an input of others does not have; None: the column is required."""
    is_evidence: bool = False
    """True: says where a row was read, not what happened; left out of everything that must be byte-equal."""
    may_be_unknown: bool = False
    """True: null where nobody said it, which is not the same as 0; there is no default then."""


@dataclass(frozen=True, slots=True)
class Table:
    """A frame's columns in their order."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    def __hash__(self) -> int:
        """Of the name: hashing every column takes longer than reading a small message."""
        return hash(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def polars(self) -> pl.Schema:
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def empty(self) -> pl.DataFrame:
        return _empty(self).clone()


@cache
def _empty(table: Table) -> pl.DataFrame:
    """Made once: making forty columns of nothing takes as long as reading a small capture."""
    return pl.DataFrame(schema=table.polars)


def _text(name: str, meaning: str, *, few: bool = False) -> Column:
    return Column(name, pl.String(), "LowCardinality(String)" if few else "String", meaning, default="")


def _count(name: str, meaning: str, unit: str = "bytes") -> Column:
    return Column(name, pl.UInt64(), "UInt64", meaning, unit, "T64, ZSTD(1)", 0)


def _address(name: str, meaning: str, default: bytes | None = None) -> Column:
    return Column(name, pl.Binary(), "IPv6", meaning, default=default)


def _time(name: str, meaning: str) -> Column:
    return Column(name, TIME, "DateTime64(6, 'UTC')", meaning, "UTC microseconds", "DoubleDelta, ZSTD(1)")


def _small(name: str, bits: int, meaning: str, default: int | None = 0, unit: str = "") -> Column:
    dtype = {8: pl.UInt8(), 16: pl.UInt16(), 32: pl.UInt32()}[bits]
    return Column(name, dtype, f"UInt{bits}", meaning, unit, default=default)


FLOWS = Table(
    "flows",
    "One row is what one conversation carried in one reporting part, both directions, at one vantage point.",
    (
        _text("host", "watched host the row is about, by its stable id; empty when neither side is inside", few=True),
        _text("side", "which side `host` is: src or dst; empty without a host", few=True),
        _text("collector", "what produced the row", few=True),
        _text("sensor", "which instance of the collector", few=True),
        Column("flow_id", pl.UInt64(), "UInt64", "same for all parts of one conversation", default=0),
        _small("part", 32, "0, 1, 2, ... within the conversation"),
        Column("final", pl.Boolean(), "Bool", "true for the last part", default=True),
        _time("start", "first packet of this part"),
        _time("end", "last packet of this part"),
        _address("src_ip", "initiator"),
        _small("src_port", 16, "initiator's port; ICMP type for ICMP"),
        _address("dst_ip", "responder"),
        _small("dst_port", 16, "responder's port; ICMP code for ICMP"),
        _small("proto", 8, "IP protocol number (IANA)", None),
        _count("src_bytes", "IP bytes sent by src in this part"),
        _count("dst_bytes", "IP bytes sent by dst in this part"),
        _count("src_packets", "packets sent by src in this part", "packets"),
        _count("dst_packets", "packets sent by dst in this part", "packets"),
        _count("src_payload", "layer-4 payload bytes sent by src, as they crossed the wire"),
        _count("dst_payload", "layer-4 payload bytes sent by dst, as they crossed the wire"),
        _small("src_flags", 8, "TCP flags seen from src, or-ed (RFC 9293)"),
        _small("dst_flags", 8, "TCP flags seen from dst, or-ed (RFC 9293)"),
        _count("retransmits", "TCP payload bytes that were sent again; shown, never subtracted"),
        _count("missed", "TCP payload bytes known from sequence and ACK numbers to be missing from the capture"),
        _small("vlan", 16, "outermost 802.1Q tag; 0 without one"),
        _text("tunnel", "encapsulations removed, outermost first, joined by `/`: vxlan, gre/ipip", few=True),
        _address("outer_src_ip", "outermost source address; `::` without a tunnel", NO_ADDRESS),
        _address("outer_dst_ip", "outermost destination address; `::` without a tunnel", NO_ADDRESS),
        _text("name", "server name"),
        _text("name_from", "what the name rests on: dns, sni, host, log; empty if none", few=True),
        _text("process", "who sent, when the collector knows", few=True),
        _text("container", "who sent, when the collector knows", few=True),
        _text("user", "who sent, when the collector knows", few=True),
        _small("sampling", 32, "1: every packet; N: counts are already multiplied by N", 1),
        Column(
            "origin",
            pl.String(),
            "LowCardinality(String)",
            "file, or topic/partition, that held the first packet",
            default="",
            is_evidence=True,
        ),
        Column(
            "position",
            pl.UInt64(),
            "UInt64",
            "packet number (from 1) or offset in `origin`",
            default=0,
            is_evidence=True,
        ),
    ),
)

CELLS = Table(
    "cells",
    "Ledger state: what one host sent to and received from one remote in one minute, as one sensor saw it.",
    (
        _text("host", "watched host", few=True),
        _text("sensor", "collector/sensor that saw it", few=True),
        _address("remote_ip", "the other side, innermost address"),
        _address("outer_ip", "the other side's outermost address; `::` without a tunnel", NO_ADDRESS),
        _text("tunnel", "encapsulations removed", few=True),
        _text("name", "server name"),
        _text("name_from", "what the name rests on", few=True),
        _small("served_port", 16, "port on which `host` is the responder; 0 where it is the initiator"),
        _small("proto", 8, "IP protocol number (IANA)"),
        _time("minute", "UTC minute"),
        _count("sent", "charged bytes sent by host: max(payload, IP bytes - 80 x packets)"),
        _count("received", "charged bytes received by host"),
        _count("missed", "bytes of these conversations known to be missing from the capture"),
        _time("first", "first packet in this cell"),
        _time("last", "last packet in this cell"),
    ),
)

TABLES = {table.name: table for table in (FLOWS, CELLS)}


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """`frame` with exactly the table's columns, types and order: absent optional columns get their default.

    Raises `polars.exceptions.PolarsError` where a value does not fit its type, KeyError (with the column's name) where
    a required column is absent. Columns that the table does not know are dropped.
    """
    present = set(frame.columns)
    return frame.select(_expression(column, column.name in present) for column in table.columns)


@cache
def _expression(column: Column, is_present: bool) -> pl.Expr:
    """Made once: making forty of them costs a millisecond, and small frames are brought into shape all the time."""
    if is_present:
        filled = pl.col(column.name).cast(column.dtype, strict=True)
        return filled if column.default is None else filled.fill_null(pl.lit(column.default, column.dtype))
    if column.default is None and not column.may_be_unknown:
        raise KeyError(column.name)
    return pl.lit(column.default, column.dtype).alias(column.name)
