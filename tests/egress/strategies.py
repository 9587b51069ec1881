"""Small fleets and the flows that move through them, for the ledger's laws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st

from egress import ledger
from egress.addresses import bytes_of, network_of
from egress.config import Config, Fleet, Host, Model
from egress.contracts import Finding
from egress.inventory import Inventory
from egress.schema import FLOWS, NO_ADDRESS, TIME, conform

NOON = 1_795_348_800_000_000
"""2026-11-22 12:00 UTC."""
SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000

MODEL_BYTES = 24_000_352


few = settings(max_examples=25, deadline=None, derandomize=True)
"""The fast suite stays fast; laws break early or on sizes that the strategies start with."""


@dataclass(frozen=True)
class Transfer:
    """One conversation: `sent` bytes of payload from `src` to `dst`, `back` the other way."""

    src: str = "10.0.0.1"
    dst: str = "198.51.100.10"
    sent: int = 0
    back: int = 0
    start: int = NOON
    seconds: int = 10
    name: str = ""
    name_from: str = ""
    dst_port: int = 443
    proto: int = 6
    sensor: str = "replay"
    tunnel: str = ""
    outer_src: str = ""
    outer_dst: str = ""

    def row(self) -> dict[str, object]:
        """As a meter would write it: 1,400 bytes a packet, a bare ACK for every second one."""
        packets, back_packets = -(-self.sent // 1400), -(-self.back // 1400)
        acks, back_acks = -(-back_packets // 2), -(-packets // 2)
        return {
            "collector": "capture",
            "sensor": self.sensor,
            "start": self.start,
            "end": self.start + self.seconds * SECOND,
            "src_ip": bytes_of(self.src),
            "dst_ip": bytes_of(self.dst),
            "src_port": 40_000,
            "dst_port": self.dst_port,
            "proto": self.proto,
            "src_payload": self.sent,
            "dst_payload": self.back,
            "src_packets": packets + acks,
            "dst_packets": back_packets + back_acks,
            "src_bytes": self.sent + 52 * (packets + acks),
            "dst_bytes": self.back + 52 * (back_packets + back_acks),
            "name": self.name,
            "name_from": self.name_from,
            "tunnel": self.tunnel,
            "outer_src_ip": bytes_of(self.outer_src) if self.outer_src else NO_ADDRESS,
            "outer_dst_ip": bytes_of(self.outer_dst) if self.outer_dst else NO_ADDRESS,
        }

    def turned(self) -> Transfer:
        """The same bytes, with the other side as the initiator."""
        return replace(
            self,
            src=self.dst,
            dst=self.src,
            sent=self.back,
            back=self.sent,
            outer_src=self.outer_dst,
            outer_dst=self.outer_src,
        )


def flows_of(transfers: Iterable[Transfer]) -> pl.DataFrame:
    rows = [transfer.row() for transfer in transfers]
    if not rows:
        return FLOWS.empty()
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"src_payload": pl.UInt64})
    return conform(frame.with_columns(pl.col("start", "end").cast(TIME)), FLOWS)


def fleet(hosts: int = 3, internal: str = "10.0.0.0/8", **changes: object) -> Fleet:
    """Hosts `h1`, `h2`, ... at 10.0.0.1, 10.0.1.1, ...: each alone in its /24."""
    listed = tuple(Host(f"h{n + 1}", (bytes_of(f"10.0.{n}.1"),)) for n in range(hosts))
    return replace(Fleet((network_of(internal),), hosts=listed), **changes)


def site(*holders: str, size: int = MODEL_BYTES, **changes: object) -> Config:
    """A site of three hosts with one model, `m`."""
    return replace(Config(fleet(), models=(Model("m", size, holders or ("h1",)),)), **changes)


def address_of(host: int) -> str:
    return f"10.0.{host - 1}.1"


def cells_of(config: Config, transfers: Iterable[Transfer]) -> pl.DataFrame:
    return ledger.cells_of(Inventory(config).attribute(flows_of(transfers)))


def findings_of(config: Config, *transfers: Transfer) -> list[Finding]:
    return ledger.evaluate(cells_of(config, transfers), Inventory(config))


def alarm_of(findings: Iterable[Finding], model: str = "m") -> int:
    """The highest level at which anything about the model was raised; 0 for none."""
    return max((each.level for each in findings if any(share.id == model for share in each.models)), default=0)


inside = st.sampled_from([address_of(n) for n in (1, 2, 3)] + ["10.9.9.9"])
outside = st.sampled_from(["198.51.100.10", "198.51.100.99", "203.0.113.5", "2001:db8::7"])
sizes = st.one_of(st.integers(0, 3000), st.integers(0, 2**33), st.integers(2**53, 2**55))
starts = st.integers(0, 3 * DAY).map(lambda offset: NOON + offset)


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    """Out, in, within; initiated from either side; from an instant to two hours long."""
    pair = draw(st.one_of(st.tuples(inside, outside), st.tuples(outside, inside), st.tuples(inside, inside)))
    return Transfer(
        *pair,
        sent=draw(sizes),
        back=draw(sizes),
        start=draw(starts),
        seconds=draw(st.sampled_from([0, 7, 59, 60, 7200])),
        dst_port=draw(st.sampled_from([53, 443, 8000])),
    )


traffic = st.lists(transfers(), max_size=8)
