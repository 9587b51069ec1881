"""What detectors see: traffic of each host summed by destination group in windows of five minutes of event time.

Partial sums of disjoint rows add up to the same frame in whatever batches the rows came, and in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from egress.adding import Adding, ranked, unranked
from egress.cells import DAY_US
from egress.days import Day
from egress.destinations import peer_text
from egress.grouping import CODE, coded, decoded
from egress.inventory import Inventory
from egress.schema import ADDRESS_BYTES, NO_ADDRESS, TIME, V4_MAPPED_PREFIX, Column, Table, conform
from egress.sightings import Sightings, sightings
from egress.windows import WINDOW_S, in_window, placed

PROTOCOLS_WITH_PORTS = (6, 17, 33, 132, 136)
"""TCP, UDP, DCCP, SCTP, UDP-Lite."""


def _text(name: str, meaning: str) -> Column:
    return Column(name, pl.String(), "LowCardinality(String)", meaning, default="")


def _sum(name: str, meaning: str, unit: str = "bytes") -> Column:
    return Column(name, pl.UInt64(), "UInt64", meaning, unit, "T64, ZSTD(1)", 0)


def _time(name: str, meaning: str) -> Column:
    return Column(name, TIME, "DateTime64(6, 'UTC')", meaning, "UTC microseconds", "DoubleDelta, ZSTD(1)")


_KEYS = (
    _time("window_start", "start of the window, on the UTC grid"),
    _text("host", "watched host"),
    _text("sensor", "collector/sensor that saw it"),
    _text("group", "remote /24 or /48: of the outermost address where that left the perimeter, else of the inner one"),
    Column("is_outside", pl.Boolean(), "Bool", "true: what the host sent here left the perimeter", default=False),
    Column("is_encapsulated", pl.Boolean(), "Bool", "true: it left inside a tunnel (outermost address)", default=False),
    Column("proto", pl.UInt8(), "UInt8", "IP protocol number (IANA)", default=0),
    Column("port", pl.UInt16(), "UInt16", "responder's port; 0 for ICMP and others without ports", default=0),
    Column("served", pl.Boolean(), "Bool", "true: the host is the responder", default=False),
    _text("tunnel", "encapsulations removed, outermost first"),
    _text("name", "server name"),
)

_FACTS = (
    Column("window_s", pl.UInt32(), "UInt32", "length of the window", "seconds", default=WINDOW_S),
    _text("role", "the host's role; empty if none"),
    _sum("model_bytes", "native size of the smallest model that the host holds; 0: none"),
    Column(
        "is_tied",
        pl.Boolean(),
        "Bool",
        "true: the ledger has a finding about the host in the queue, so detectors learn nothing of it",
        default=False,
    ),
)
"""The same in every row of a host."""

_SUMS = (
    _sum("sent", "charged bytes sent by host: max(payload, IP bytes - 80 x packets)"),
    _sum("received", "charged bytes received by host"),
    _sum("sent_payload", "layer-4 payload bytes sent by host"),
    _sum(
        "oversize", "of them what exceeds 96 B a packet, row by row: small messages do not hide large ones beside them"
    ),
    _sum("received_payload", "layer-4 payload bytes received by host"),
    _sum("sent_packets", "packets sent by host", "packets"),
    _sum("received_packets", "packets received by host", "packets"),
    _sum("flows", "conversations begun", "flows"),
)

_SPANS = (
    _time("first", "first packet"),
    _time("last", "last packet"),
    Column("low_address", pl.Binary(), "IPv6", "lowest remote address of the group", default=NO_ADDRESS),
    Column("high_address", pl.Binary(), "IPv6", "highest remote address of the group", default=NO_ADDRESS),
)

SIGNALS = Table(
    "signals", "One row is what one host exchanged with one group in one window.", (*_KEYS, *_FACTS, *_SUMS, *_SPANS)
)

SCORES = Table(
    "scores",
    "One row is one window that one detector finds strange.",
    (
        _time("window_start", "start of the window, on the UTC grid"),
        Column("window_s", pl.UInt32(), "UInt32", "length of the window", "seconds", default=WINDOW_S),
        _text("host", "watched host"),
        _text("detector", "which detector"),
        _text("group", "remote /24 or /48; empty: several"),
        _text("what", "few words for a title: DNS tunnel, first contact"),
        Column("score", pl.Float64(), "Float64", "0..1, high is strange", default=0.0),
        _sum("bytes", "bytes that the score is about and that no earlier row of this episode has counted"),
        _time("first", "first packet of those bytes"),
        _time("last", "last packet of those bytes"),
        Column("low_address", pl.Binary(), "IPv6", "lowest remote address of the group", default=NO_ADDRESS),
        Column("high_address", pl.Binary(), "IPv6", "highest remote address of the group", default=NO_ADDRESS),
        _text("reason", "why, with values and units"),
    ),
)

KEY = tuple(column.name for column in _KEYS)
_PLACE = [name for name in KEY if name != "window_start"]
_COUNTERS = [column.name for column in _SUMS]
_ADDRESSES = ("low_address", "high_address")
_OUTWARDS = [
    pl.col("first", "low_address").min(),
    pl.col("last", "high_address").max(),
    *(pl.col(column.name).first() for column in _FACTS),
]
ADDING = Adding(tuple(_COUNTERS), ("first", "low_address"), ("last", "high_address"))


def of(flows: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Partial sums of attributed FLOWS, columns of SIGNALS in canonical order; rows without a host count nowhere.

    A row longer than a window is spread over those that it touches, as the ledger spreads it over minutes.
    """
    return partial(sightings(flows.filter(pl.col("host") != "")), inventory).sort(KEY)


def partial(seen: Sightings, inventory: Inventory) -> pl.DataFrame:
    """What `of` gives, in any order: what is added up later is sorted then."""
    ends = _grouped(seen.ends.with_columns(_port(), served=pl.col("is_src").not_()), inventory)
    codes, keys = coded(ends, _PLACE)
    ends, addresses = ranked(ends, "low_address")
    lines, rows = (_counted(part, codes, ends["low_address"]) for part in (seen.lines, seen.rows))
    added = ADDING.add(pl.concat([in_window(lines), *placed(rows, _COUNTERS)]), [CODE, "window_start"])
    for name in _ADDRESSES:
        added = unranked(added, name, addresses)
    known = keys.join(_about_hosts(keys["host"], inventory), on="host", how="left", maintain_order="left")
    return conform(decoded(added, known), SIGNALS)


def add(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sums of disjoint parts, in canonical order: by window, then host, then the other keys."""
    rows, low = ranked(pl.concat([SIGNALS.empty(), *parts]), "low_address")
    rows, high = ranked(rows, "high_address")
    added = ADDING.in_order(rows, KEY, ["window_start"])
    return conform(unranked(unranked(added, "low_address", low), "high_address", high), SIGNALS)


def join(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """States of the same sums as one: the larger counts, times and addresses outwards. Idempotent."""
    states = pl.concat([SIGNALS.empty(), *parts]).lazy()
    larger = pl.col([column.name for column in _SUMS]).max()
    joined = states.group_by(KEY).agg(larger, *_OUTWARDS)
    return joined.sort(KEY).select(SIGNALS.names).collect()


def tied(signals: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The same signals; `is_tied` in windows that begin in a span (`host begin end`, UTC microseconds) of a host."""
    if spans.is_empty() or signals.is_empty():
        return signals
    begin = pl.col("window_start").cast(pl.Int64)
    windows = signals.select("host", "window_start").unique().join(spans, on="host")
    inside = windows.filter(begin.is_between("begin", "end")).select("host", "window_start", now=pl.lit(True)).unique()
    places = signals.select("host", "window_start")
    marked = places.join(inside, on=["host", "window_start"], how="left", maintain_order="left")
    return signals.with_columns(is_tied=marked["now"].fill_null(False))


def tied_by_day(days: Iterable[Day], spans: pl.DataFrame) -> list[Day]:
    """The same of each day; other versions where other spans reach into a day."""
    return [_tied_day(day, spans) for day in days]


def _tied_day(day: Day, spans: pl.DataFrame) -> Day:
    first, last = day.number * DAY_US, (day.number + 1) * DAY_US - 1
    inside = spans.filter(pl.col("begin") <= last, pl.col("end") >= first)
    inside = inside.with_columns(pl.col("begin").clip(first), pl.col("end").clip(None, last)).unique().sort(pl.all())
    return Day(day.number, (day.version, *inside.iter_rows()), lambda: tied(day.opened(), inside))


def one_vantage(signals: pl.DataFrame) -> pl.DataFrame:
    """The same signals without doubles: of several sensors that saw one group, the one that saw most bytes."""
    if signals["sensor"].n_unique() < 2:
        return signals
    place = ["window_start", "host", "group"]
    if signals.select(pl.struct(place).n_unique() == pl.struct(*place, "sensor").n_unique()).item():
        return signals
    seen = signals.group_by([*place, "sensor"]).agg(pl.col("sent", "received").sum())
    best = seen.sort([*place, "sent", "received", "sensor"], descending=[False, False, False, True, True, False])
    chosen = best.unique(place, keep="first", maintain_order=True).select([*place, "sensor"])
    return signals.join(chosen, on=[*place, "sensor"], how="semi", maintain_order="left")


def _port() -> pl.Expr:
    has_ports = pl.col("proto").is_in(PROTOCOLS_WITH_PORTS)
    return pl.when(has_ports).then("dst_port").otherwise(0).cast(pl.UInt16).alias("port")


def _counted(lines: pl.DataFrame, codes: pl.Series, addresses: pl.Series) -> pl.DataFrame:
    address = addresses.gather(lines[CODE])
    return lines.select(
        codes.gather(lines[CODE]),
        "sent_payload",
        "received_payload",
        "sent_packets",
        "received_packets",
        "flows",
        address,
        address.alias("high_address"),
        sent="sent_charged",
        received="received_charged",
        oversize="sent_oversize",
        first="begin",
        last="end",
    )


def _grouped(rows: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Rows with what left, and the group that it belongs to: asked once for each place."""
    has_tunnels = rows.select((pl.col("outer") != NO_ADDRESS).any()).item()
    ends = ["remote", "outer"] if has_tunnels else ["remote"]
    places = rows.select(ends).unique().with_columns(_what_left(inventory, has_tunnels))
    address = pl.col("low_address")
    is_v4 = address.bin.starts_with(V4_MAPPED_PREFIX)
    prefix = pl.when(is_v4).then(address.bin.slice(0, 15)).otherwise(address.bin.slice(0, 6))
    places = places.with_columns(prefix.alias("prefix"), address.alias("high_address"))
    prefixes = places.select(pl.col("prefix").unique())
    groups = prefixes.with_columns(_group_text(prefixes["prefix"]))
    return rows.join(places.join(groups, on="prefix", how="left").drop("prefix"), on=ends, how="left")


def _what_left(inventory: Inventory, has_tunnels: bool) -> list[pl.Expr]:
    def outside(column: str) -> pl.Expr:
        return ~(inventory.is_inside(column) | inventory.never_leaves(column))

    is_encapsulated = (pl.col("outer") != NO_ADDRESS) & outside("outer") if has_tunnels else pl.lit(False)
    return [
        is_encapsulated.alias("is_encapsulated"),
        (is_encapsulated | outside("remote")).alias("is_outside"),
        # Whoever sends chooses the inner address: grouped by it, one tunnel would look like any number of peers.
        pl.when(is_encapsulated).then("outer" if has_tunnels else "remote").otherwise("remote").alias("low_address"),
    ]


def _group_text(prefixes: pl.Series) -> pl.Series:
    """`peer_text` of each prefix; a capture of a scan has more of them than flows."""
    octets = [pl.col("prefix").bin.slice(at, 1).bin.reinterpret(dtype=pl.UInt8) for at in (12, 13, 14)]
    is_v4 = pl.col("prefix").bin.starts_with(V4_MAPPED_PREFIX)
    v4 = prefixes.to_frame().select(pl.when(is_v4).then(pl.format("{}.{}.{}.0/24", *octets)))
    texts = [
        text or peer_text(prefix.ljust(ADDRESS_BYTES, b"\0"))
        for text, prefix in zip(v4.to_series(), prefixes, strict=True)
    ]
    return pl.Series("group", texts, pl.String)


def _about_hosts(hosts: pl.Series, inventory: Inventory) -> pl.DataFrame:
    known = hosts.unique()
    smallest = [min((inventory.model(id).bytes for id in inventory.models_of(host)), default=0) for host in known]
    return pl.DataFrame(
        {"host": known, "role": [inventory.role_of(host) for host in known], "model_bytes": smallest},
        schema={"host": pl.String, "role": pl.String, "model_bytes": pl.UInt64},
    ).with_columns(pl.lit(WINDOW_S, pl.UInt32).alias("window_s"), pl.lit(False).alias("is_tied"))
