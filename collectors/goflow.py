"""Flows as goflow2 publishes them on the bus (NetFlow v5, v9, IPFIX, sFlow), as Egress' own columns.

An exporter reports one direction at a time and does not say who began: the side with a port below 32768 answers, if the
other side's is not. Counts are multiplied by the sampling rate. Lengths of sFlow are those of frames; the Ethernet
header is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from collectors.goflowmessage import ADDRESSES, MAX_VALUE_BYTES, NUMBERS, TYPES, Flow, of_json, of_protobuf
from collectors.seenrows import flow_ids
from egress.addresses import text_of
from egress.contracts import Refused, RowsRead
from egress.schema import FLOWS, TIME, V4_MAPPED_PREFIX, conform

FIRST_EPHEMERAL = 32_768
"""Linux' range for clients begins here; servers of any kind listen below."""
ICMP = (1, 58)
SFLOW = TYPES.index("SFLOW_5")
ETHERNET, TAG = 14, 4
LARGEST_HEADER = ETHERNET + TAG
SIDES = (("src", "type"), ("dst", "code"))
MAX_COUNT = 2**63 - 1
MAX_TIME_NS = 2**53 * 1000
MALFORMED, NO_ADDRESS, IMPOSSIBLE = "malformed", "no_address", "impossible_value"


@dataclass(frozen=True, slots=True)
class GoflowReader:
    """Rows of messages of one encoding. `read` never raises for what a message holds."""

    name: str
    decode: Callable[[bytes], Iterator[Flow]]

    def read(self, values: Sequence[bytes]) -> RowsRead:
        """All rows of some messages, in their order, with empty `host`; a message that is refused gives none."""
        places: list[int] = []
        flows: list[Flow] = []
        refused = []
        for place, value in enumerate(values):
            try:
                found = self._flows(value)
            except (ValueError, OverflowError) as error:
                refused.append(Refused(place, getattr(error, "reason", MALFORMED), f"{self.name}: {error}"))
                continue
            flows += found
            places += [place] * len(found)
        rows = _rows(flows) if flows else FLOWS.empty()
        return RowsRead(rows, pl.Series("place", places, pl.UInt32), tuple(refused))

    def _flows(self, value: bytes) -> list[Flow]:
        if not value or len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"{len(value):,} B, 1 to {MAX_VALUE_BYTES:,} are read")
        found = list(self.decode(value))
        for flow in found:
            _check(flow)
        return found


class _Unfit(ValueError):
    """A flow that is well-formed and none of ours."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def protobuf() -> GoflowReader:
    return GoflowReader("goflow-protobuf", of_protobuf)


def json() -> GoflowReader:
    return GoflowReader("goflow-json", of_json)


def _check(flow: Flow) -> None:
    if len(flow["src_addr"]) not in (4, 16) or len(flow["dst_addr"]) not in (4, 16):  # type: ignore[arg-type]
        raise _Unfit(NO_ADDRESS, "no IP addresses: ARP, or another protocol")
    rate = max(1, int(flow["sampling_rate"]))
    if max(int(flow["bytes"]), int(flow["packets"]) * LARGEST_HEADER) * rate > MAX_COUNT or rate >= 2**32:
        raise _Unfit(IMPOSSIBLE, "a counter that no wire can reach")
    if int(flow["src_port"]) > 65535 or int(flow["dst_port"]) > 65535 or int(flow["proto"]) > 255:
        raise _Unfit(IMPOSSIBLE, "a port or protocol that there is not")
    if not 0 < max(_times(flow)) <= MAX_TIME_NS:
        raise _Unfit(IMPOSSIBLE, "without a time, or one after 2255")


def _times(flow: Flow) -> tuple[int, int]:
    """Nanoseconds. Without its times, when it was received; an end before the start is the start."""
    received = int(flow["time_received_ns"])
    start = int(flow["time_flow_start_ns"]) or received
    return start, max(start, int(flow["time_flow_end_ns"]) or received)


def _rows(flows: Sequence[Flow]) -> pl.DataFrame:
    """As exported, then each row with who began as its `src`."""
    numbers = {name: pl.Series(name, [flow[name] for flow in flows], pl.UInt64) for name in NUMBERS}
    addresses = {name: pl.Series(name, [_mapped(flow[name]) for flow in flows], pl.Binary) for name in ADDRESSES}
    times = [_times(flow) for flow in flows]
    raw = pl.DataFrame(
        {
            **numbers,
            **addresses,
            "start": pl.Series([start // 1000 for start, _ in times], dtype=pl.Int64),
            "end": pl.Series([end // 1000 for _, end in times], dtype=pl.Int64),
            "sensor": pl.Series([_text(flow["sampler_address"]) for flow in flows], dtype=pl.String),
        }
    )
    rate = pl.max_horizontal("sampling_rate", pl.lit(1, pl.UInt64))
    tag = pl.when(pl.col("vlan_id") > 0).then("vlan_id").otherwise("src_vlan") & 4095
    header = pl.when(pl.col("type") == SFLOW).then(ETHERNET + TAG * (tag > 0).cast(pl.UInt64)).otherwise(0)
    carried = pl.col("bytes") - pl.min_horizontal("bytes", header * pl.col("packets"))
    answers = (pl.col("src_port") < FIRST_EPHEMERAL) & (pl.col("dst_port") >= FIRST_EPHEMERAL)
    is_icmp = pl.col("proto").is_in(ICMP)
    turned = answers & ~is_icmp
    ports = [pl.when(is_icmp).then(pl.col(f"icmp_{what}") & 255).otherwise(f"{side}_port") for side, what in SIDES]
    directed = raw.select(
        pl.col("start", "end").cast(TIME),
        "sensor",
        pl.col("proto").cast(pl.UInt8),
        tag.cast(pl.UInt16).alias("vlan"),
        rate.cast(pl.UInt32).alias("sampling"),
        *_pair("ip", turned, pl.col("src_addr"), pl.col("dst_addr")),
        *_pair("port", turned, *(port.cast(pl.UInt16) for port in ports)),
        *_pair("bytes", turned, carried * rate, pl.lit(0, pl.UInt64)),
        *_pair("packets", turned, pl.col("packets") * rate, pl.lit(0, pl.UInt64)),
        *_pair("flags", turned, (pl.col("tcp_flags") & 255).cast(pl.UInt8), pl.lit(0, pl.UInt8)),
        collector=pl.lit("goflow2"),
    )
    rows = conform(directed, FLOWS)
    return rows.with_columns(flow_ids(rows))


def _pair(what: str, turned: pl.Expr, source: pl.Expr, target: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Both sides of a column, with the source as `dst` where it answered."""
    return (
        pl.when(turned).then(target).otherwise(source).alias(f"src_{what}"),
        pl.when(turned).then(source).otherwise(target).alias(f"dst_{what}"),
    )


def _mapped(address: int | bytes) -> bytes:
    assert isinstance(address, bytes)
    return V4_MAPPED_PREFIX + address if len(address) == 4 else address


def _text(address: int | bytes) -> str:
    mapped = _mapped(address)
    return text_of(mapped) if len(mapped) == 16 else ""
