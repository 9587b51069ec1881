"""Emitted rows, words of the flow table, as a frame of FLOWS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from collectors.kernels import entry as e
from collectors.kernels.packet import TUNNEL_NAMES
from collectors.kernels.row_types import Words
from egress import schema

FIRST_FRAME, CUT_FRAME = "_first_frame", "_cut_frame"
"""Carried beside FLOWS until names are put on the rows."""


def to_frame(rows: Words, tunnels: Words, files: Sequence[str]) -> pl.DataFrame:
    """FLOWS with two columns more, a row for each of `rows`; `tunnels` runs beside it."""
    b_began = (rows[:, e.STATE] & e.INITIATOR_IS_B) != 0
    columns = {
        "flow_id": rows[:, e.FLOW_ID].astype(np.uint64),
        "part": (rows[:, e.PART] & 0xFFFFFFFF).astype(np.uint32),
        "final": rows[:, e.FINAL] != 0,
        "vlan": (rows[:, e.PART] >> 32).astype(np.uint16),
        "retransmits": rows[:, e.RETRANSMITS].astype(np.uint64),
        "missed": (rows[:, e.MISSED] + rows[:, e.MISSED + 1]).astype(np.uint64),
        "position": (rows[:, e.SOURCE] & ((1 << 40) - 1)).astype(np.uint64),
        FIRST_FRAME: rows[:, e.FIRST_FRAME].copy(),
        CUT_FRAME: rows[:, e.CUT_FRAME].copy(),
    }
    frame = pl.DataFrame(columns | _sides(rows, b_began)).with_columns(
        *_times(rows),
        *_addresses(rows, tunnels, b_began),
        _tunnel_names(tunnels),
        _origins(rows, files),
        collector=pl.lit("capture"),
        sensor=pl.lit("replay"),
    )
    internal = frame.select(FIRST_FRAME, CUT_FRAME)
    return schema.conform(frame, schema.FLOWS).hstack(internal)


def _sides(rows: Words, b_began: NDArray[np.bool_]) -> dict[str, NDArray[np.unsignedinteger]]:
    """What each side sent, as src (the initiator) and dst."""
    a = {
        "bytes": rows[:, e.BYTES],
        "payload": rows[:, e.PAYLOAD],
        "packets": rows[:, e.PACKETS] & 0xFFFFFFFF,
        "flags": rows[:, e.STATE] & 0xFF,
        "port": rows[:, e.PORTS] >> 32 & 0xFFFF,
    }
    b = {
        "bytes": rows[:, e.BYTES + 1],
        "payload": rows[:, e.PAYLOAD + 1],
        "packets": rows[:, e.PACKETS] >> 32 & 0xFFFFFFFF,
        "flags": rows[:, e.STATE] >> 8 & 0xFF,
        "port": rows[:, e.PORTS] >> 16 & 0xFFFF,
    }
    proto = rows[:, e.PORTS] & 0xFF
    port_turns = b_began & (proto != 1) & (proto != 58)  # type and code stand as they are
    sides: dict[str, NDArray[np.unsignedinteger]] = {"proto": proto.astype(np.uint8)}
    kinds = {"bytes": np.uint64, "payload": np.uint64, "packets": np.uint64, "flags": np.uint8, "port": np.uint16}
    for what, kind in kinds.items():
        turns = port_turns if what == "port" else b_began
        sides[f"src_{what}"] = np.where(turns, b[what], a[what]).astype(kind)
        sides[f"dst_{what}"] = np.where(turns, a[what], b[what]).astype(kind)
    return sides


def _times(rows: Words) -> list[pl.Series]:
    return [
        pl.Series("start", rows[:, e.START].copy()).cast(schema.TIME),
        pl.Series("end", rows[:, e.LAST].copy()).cast(schema.TIME),
    ]


def _addresses(rows: Words, tunnels: Words, b_began: NDArray[np.bool_]) -> list[pl.Series]:
    turned = b_began[:, None]
    a, b = rows[:, e.A_HI : e.A_LO + 1], rows[:, e.B_HI : e.B_LO + 1]
    outer_a, outer_b = tunnels[:, 1:3], tunnels[:, 3:5]
    return [
        address_column("src_ip", np.where(turned, b, a)),
        address_column("dst_ip", np.where(turned, a, b)),
        address_column("outer_src_ip", np.where(turned, outer_b, outer_a)),
        address_column("outer_dst_ip", np.where(turned, outer_a, outer_b)),
    ]


def address_column(name: str, words: Words) -> pl.Series:
    """Pairs of words as 16 bytes each, without a Python object per row."""
    buffer = pa.py_buffer(words.astype(">i8").tobytes())
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(words), [None, buffer])
    return pl.Series(name, pl.from_arrow(fixed.cast(pa.large_binary())), pl.Binary)


def _tunnel_names(tunnels: Words) -> pl.Series:
    stacks, which = np.unique(tunnels[:, 0], return_inverse=True)
    return pl.Series("tunnel", [_stack_name(int(stack)) for stack in stacks], pl.String).gather(which)


def _stack_name(stack: int) -> str:
    codes = [stack >> shift & 0xFF for shift in (24, 16, 8, 0)]
    return "/".join(TUNNEL_NAMES[code] for code in codes if code)


def _origins(rows: Words, files: Sequence[str]) -> pl.Series:
    return pl.Series("origin", list(files) or [""], pl.String).gather(rows[:, e.SOURCE] >> 40)
