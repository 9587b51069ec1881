"""The ClickHouse tables, derived from `egress.schema`: the same statements for embedded ClickHouse and for a server.

Everything stored is grow-only and keyed by what it is about, so writing it again changes nothing and writing more of it
replaces less of it (docs/decisions/0006-store-by-content.md). What people query are the views without `_parts`; each
reads its table with FINAL, so that nobody has to remember to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import polars as pl

from egress.heartbeats import HEARTBEATS, VALUES
from egress.schema import CELLS, FLOWS, TIME, Column, Table

MAX = "SimpleAggregateFunction(max, UInt64)"
FIRST = "SimpleAggregateFunction(min, DateTime64(6, 'UTC'))"
LAST = "SimpleAggregateFunction(max, DateTime64(6, 'UTC'))"

_OUTCOME = (
    Column("extent", pl.UInt64(), "UInt64", "frames that the replay had read when it ended", "packets"),
    Column("edition", pl.UInt32(), "UInt32", "1, 2, ... for each time that this run's outcome was written"),
)
"""Which outcome of a run a row belongs to. The one that came furthest counts, of equals the latest."""

FINDINGS = Table(
    "findings",
    "One episode as it stands: the newest revision that the current outcome of a replay holds.",
    (
        Column("uid", pl.String(), "String", "hash of detector, subject and start of the episode"),
        Column("revision", pl.UInt32(), "UInt32", "higher replaces lower"),
        Column("run", pl.String(), "String", "the replay that found it; see `coverage`"),
        Column("detector", pl.String(), "LowCardinality(String)", "what found it: ledger, volume, ..."),
        Column("subject", pl.String(), "String", "host:ID or model:ID"),
        Column("host", pl.String(), "LowCardinality(String)", "watched host; empty for a fleet-wide finding"),
        Column("level", pl.UInt8(), "UInt8", "1 info, 3 medium, 4 high, 5 critical (OCSF severity_id)"),
        Column("title", pl.String(), "String", "one line for people"),
        Column("bytes", pl.UInt64(), "UInt64", "charged to the first model in the episode", "bytes"),
        Column("window", pl.String(), "LowCardinality(String)", "shortest window that explains the level"),
        Column("start", TIME, "DateTime64(6, 'UTC')", "when the episode opened", "UTC microseconds"),
        Column("first_seen", TIME, "DateTime64(6, 'UTC')", "first byte of the episode", "UTC microseconds"),
        Column("last_seen", TIME, "DateTime64(6, 'UTC')", "last byte of the episode", "UTC microseconds"),
        Column("models", pl.List(pl.String()), "Array(String)", "models that it could be, most likely first"),
        Column("fraction", pl.Float64(), "Float64", "share of the first model's native bytes"),
        Column("destinations", pl.List(pl.String()), "Array(String)", "destination groups, largest first"),
        Column("reasons", pl.List(pl.String()), "Array(String)", "why, with values"),
        Column("is_closed", pl.Boolean(), "Bool", "true once the episode ended"),
        Column("finding", pl.String(), "String", "all of it as JSON, evidence included", codec="ZSTD(3)"),
        *_OUTCOME,
        Column(
            "version", pl.UInt64(), "UInt64", "of one finding in one run, higher replaces lower: revision or offset"
        ),
        Column(
            "is_withdrawn", pl.UInt8(), "UInt8", "1: a later look at the same sums says that there is no such finding"
        ),
    ),
)

COVERAGE = Table(
    "coverage",
    "What became of everything that a replay read: read = metered + sum(skipped), in frames and in bytes.",
    (
        Column("run", pl.String(), "String", "identity of the inputs: hash of their sizes, heads and tails"),
        Column("item", pl.String(), "LowCardinality(String)", "read, metered, skipped, note, example or input"),
        Column("name", pl.String(), "String", "reason, counter or path"),
        Column("frames", pl.UInt64(), "UInt64", "frames or records; for a note, how often", "packets"),
        Column("bytes", pl.UInt64(), "UInt64", "their bytes; for an input, bytes of the file", "bytes"),
        Column("wire_bytes", pl.UInt64(), "UInt64", "for an input: frame bytes as they crossed the wire", "bytes"),
        Column(
            "sha256", pl.String(), "String", "for an input: of the whole file; empty if reading stopped before its end"
        ),
        Column("text", pl.String(), "String", "for an example: where and what"),
        *_OUTCOME,
    ),
)

META = Table(
    "meta",
    "What this store is: schema version, fingerprint of its tables, and of the fleet that its rows were attributed by.",
    (
        Column("key", pl.String(), "String", "schema_version, tables or fleet"),
        Column("value", pl.String(), "String", "its value"),
    ),
)

LEDGER = Table(
    "ledger",
    "CELLS with who summed them: states of one task merge by the larger count, those of two tasks add up.",
    (
        *CELLS.columns,
        Column("task", pl.UInt32(), "UInt32", "partition of flows that was summed; 0 for a replay", default=0),
    ),
)

TOKENS = 10_000
"""Inserts whose tokens each table of flows remembers: half a day at one every five seconds. Whoever comes later than
that with rows of the past only costs a merge: they are the same rows."""

FLOWS_KEY = (
    *("host", "toStartOfHour(start)", "flow_id", "part", "side", "collector", "sensor"),
    *("src_ip", "src_port", "dst_ip", "dst_port", "proto", "tunnel", "outer_src_ip", "outer_dst_ip", "variant"),
)
"""What a row is about. No counter and no exact time: a part that an interrupted replay saw half of is the same part,
and of several vantage points another may turn out to have the largest view of it, microseconds apart."""

_VARIANT = (
    "variant UInt64 MATERIALIZED if(collector = 'capture', 0,"
    " cityHash64(start, end, vlan, src_bytes, dst_bytes, src_packets, dst_packets))"
)
"""The meter numbers the parts of a conversation. Records of other tools may have no number and share a time, in whole
seconds at worst: those that differ in what they counted are different ones, and none of them is half of another."""

CELLS_KEY = (
    *("host", "minute", "sensor", "remote_ip", "outer_ip", "tunnel"),
    *("name", "name_from", "served_port", "proto"),
)

HEARTBEATS_KEY = ("host", "sensor", "time", "boot", "epoch", "ifNull(seq, 0)", "isNull(seq)")
"""What `heartbeats.add` takes for the same word of the same sensor."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One table or view: `name`, and the SQL that makes it if it is not there."""

    name: str
    sql: str


def statements() -> tuple[Statement, ...]:
    """Tables first, then the views on them."""
    return (
        _table("meta", _columns(META), "MergeTree", "key"),
        _table(
            "flows_parts",
            f"{_columns(FLOWS)}, packets UInt64 MATERIALIZED src_packets + dst_packets, {_VARIANT}",
            "ReplacingMergeTree(packets)",
            ", ".join(FLOWS_KEY),
            primary="host, toStartOfHour(start)",
            partition=_MONTH.format(time="start"),
            settings=f"non_replicated_deduplication_window = {TOKENS}",
        ),
        _table(
            "ledger_parts",
            ", ".join(f"{column.name} {_cell_type(column)} CODEC({column.codec})" for column in LEDGER.columns),
            "AggregatingMergeTree",
            ", ".join((*CELLS_KEY, "task")),
            primary="host, minute",
        ),
        _table(
            "heartbeats_parts",
            ", ".join(f"{column.name} {_beat_type(column)} CODEC({column.codec})" for column in HEARTBEATS.columns),
            "AggregatingMergeTree",
            ", ".join(HEARTBEATS_KEY),
            primary="host, sensor",
            partition=_MONTH.format(time="time"),
        ),
        _table(
            "findings_parts",
            _columns(FINDINGS),
            "ReplacingMergeTree(version, is_withdrawn)",
            "uid, run, extent, edition",
        ),
        _table("coverage_parts", _columns(COVERAGE), "ReplacingMergeTree", "run, extent, edition, item, name"),
        _view("flows", f"SELECT {', '.join(FLOWS.names)} FROM flows_parts FINAL"),
        _view("flows_1m", _ONE_MINUTE),
        _view("ledger", _LEDGER),
        _view("heartbeats", f"SELECT {', '.join(HEARTBEATS.names)} FROM heartbeats_parts FINAL"),
        _view("findings", f"SELECT * FROM findings_parts FINAL {_CURRENT} {_ONE_A_UID}"),
        _view("coverage", f"SELECT * FROM coverage_parts FINAL {_CURRENT}"),
        _view("peers", _PEERS),
    )


def fingerprint() -> str:
    """Changes whenever any statement does: a store made by other statements is not written to."""
    text = "\n".join(statement.sql for statement in statements())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_ADDED = {"first": "min", "last": "max", "sent": "sum", "received": "sum", "missed": "sum"}
_LEDGER = f"""
SELECT {", ".join(f"{_ADDED[n]}(c.{n}) AS {n}" if n in _ADDED else f"c.{n} AS {n}" for n in CELLS.names)}
FROM ledger_parts AS c FINAL
GROUP BY {", ".join(CELLS_KEY)}
"""

_ONE_MINUTE = """
SELECT s.host AS host, s.minute AS minute, s.peer_ip AS peer_ip, s.peer_outer_ip AS peer_outer_ip,
  s.tunnel AS tunnel, s.proto AS proto, s.served_port AS served_port,
  max(s.sent) AS sent, max(s.received) AS received, max(s.missed) AS missed, min(s.first) AS first, max(s.last) AS last
FROM (
  SELECT c.host AS host, c.minute AS minute, c.remote_ip AS peer_ip, c.outer_ip AS peer_outer_ip, c.tunnel AS tunnel,
    c.proto AS proto, c.served_port AS served_port, c.sensor AS sensor,
    sum(c.sent) AS sent, sum(c.received) AS received, sum(c.missed) AS missed,
    min(c.first) AS first, max(c.last) AS last
  FROM ledger_parts AS c FINAL
  GROUP BY host, minute, peer_ip, peer_outer_ip, tunnel, proto, served_port, sensor
) AS s
GROUP BY host, minute, peer_ip, peer_outer_ip, tunnel, proto, served_port
"""
"""The ledger is the roll-up of flows that keeps minutes and peers; of several sensors the largest counts."""

_PEERS = """
SELECT p.host AS host, p.peer_ip AS peer_ip, p.peer_outer_ip AS peer_outer_ip,
  min(p.first) AS first_seen, max(p.last) AS last_seen,
  sum(p.sent) AS sent, sum(p.received) AS received, uniqExact(p.minute) AS minutes
FROM flows_1m AS p
GROUP BY host, peer_ip, peer_outer_ip
"""

_MONTH = "if(toYear({time}) BETWEEN 2020 AND 2049, toYYYYMM({time}), 0)"
"""Months, so that old ones can be dropped, but only plausible ones: a partition costs 3.6 ms an insert (measured), and
whoever forges timestamps would make as many as he likes."""


def month(time: str) -> pl.Expr:
    """The partition that a row goes to, as `_MONTH` has it: whoever writes must know."""
    year = pl.col(time).dt.year()
    number = year * 100 + pl.col(time).dt.month().cast(pl.Int32)
    return pl.when(year.is_between(2020, 2049)).then(number).otherwise(0)


_CURRENT = """
WHERE (run, extent, edition) IN (
  SELECT c.run, max((c.extent, c.edition)).1, max((c.extent, c.edition)).2 FROM coverage_parts AS c GROUP BY c.run
)"""

_ONE_A_UID = "ORDER BY uid, revision DESC, last_seen DESC, run LIMIT 1 BY uid"
"""Runs that share an input find the same episode; the fuller account of it is shown."""


def _columns(table: Table) -> str:
    return ", ".join(f"{column.name} {column.clickhouse} CODEC({column.codec})" for column in table.columns)


def _cell_type(column: Column) -> str:
    """Cells of one key merge as `ledger.join` does: counters by the largest, times outwards."""
    return {"first": FIRST, "last": LAST}.get(column.name, MAX if column.unit == "bytes" else column.clickhouse)


def _beat_type(column: Column) -> str:
    """Heartbeats that differ in what they say alone merge as `heartbeats.add` does: the larger value stays."""
    return f"SimpleAggregateFunction(max, {column.clickhouse})" if column.name in VALUES else column.clickhouse


def _table(
    name: str,
    columns: str,
    engine: str,
    order: str,
    *,
    primary: str | None = None,
    partition: str | None = None,
    settings: str | None = None,
) -> Statement:
    clauses = [f"PARTITION BY {partition}"] if partition else []
    clauses += [f"PRIMARY KEY ({primary})"] if primary else []
    clauses += [f"ORDER BY ({order})"]
    clauses += [f"SETTINGS {settings}"] if settings else []
    return Statement(name, f"CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE = {engine} {' '.join(clauses)}")


def _view(name: str, select: str) -> Statement:
    return Statement(name, f"CREATE VIEW IF NOT EXISTS {name} AS {select}")
