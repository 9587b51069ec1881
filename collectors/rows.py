"""Emitted rows, words of the flow table, as a frame of FLOWS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from collectors.kernels import columns as c
from collectors.kernels.packet import TUNNEL_NAMES
from collectors.kernels.row_types import Bytes, Words
from egress import schema

FIRST_FRAME, CUT_FRAME = "_first_frame", "_cut_frame"
"""Carried beside FLOWS until names are put on the rows."""


def to_frame(rows: Words, tunnels: Words, files: Sequence[str]) -> pl.DataFrame:
    """FLOWS with two columns more, a row for each of `rows`; `tunnels` runs beside it."""
    columns = c.no_columns(len(rows))
    is_tunnelled = bool(tunnels[:, 0].any())  # nearly never: what the schema says of no tunnel is there at once
    c.turn(np.ascontiguousarray(rows), np.ascontiguousarray(tunnels), columns, is_tunnelled)
    places = dict(zip(c.PLACES, columns.places, strict=True))
    addresses = c.ADDRESSES if is_tunnelled else c.ADDRESSES[: c.INNER]
    series = [
        *(pl.Series(name, counts) for name, counts in zip(c.COUNTS, columns.counts, strict=True)),
        *(pl.Series(name, ports) for name, ports in zip(c.PORTS, columns.ports, strict=True)),
        *(pl.Series(name, flags) for name, flags in zip(c.FLAGS, columns.flags, strict=True)),
        *(_address(*each) for each in zip(addresses, columns.addresses, columns.views, strict=False)),
        pl.Series("part", columns.parts),
        pl.Series("start", places["start"]),
        pl.Series("end", places["end"]),
        _spelled("origin", places["file"], lambda number: files[number]),
        *([_spelled("tunnel", places["tunnels"], _stack_name)] if is_tunnelled else []),
    ]
    frame = pl.DataFrame(series).with_columns(collector=pl.lit("capture"), sensor=pl.lit("replay"))
    internal = pl.DataFrame({FIRST_FRAME: places["first_frame"], CUT_FRAME: places["cut_frame"]})
    return schema.conform(frame, schema.FLOWS).hstack(internal)


def _address(name: str, octets: Bytes, views: Words) -> pl.Series:
    """16 bytes a row, as they stand there."""
    buffers = [None, pa.py_buffer(views), pa.py_buffer(octets)]
    return pl.Series(name, pl.from_arrow(pa.Array.from_buffers(pa.binary_view(), len(octets), buffers)), pl.Binary)


def _spelled(name: str, keys: Words, spell: Callable[[int], str]) -> pl.Series:
    """The text of each key, spelled once for each that occurs."""
    if len(keys) and (keys == keys[0]).all():  # nearly always: no tunnel, one file
        return pl.Series(name, [spell(int(keys[0]))], pl.String).new_from_index(0, len(keys))
    known, which = np.unique(keys, return_inverse=True)
    return pl.Series(name, [spell(int(key)) for key in known], pl.String).gather(which)


def _stack_name(stack: int) -> str:
    codes = [stack >> shift & 0xFF for shift in (24, 16, 8, 0)]
    return "/".join(TUNNEL_NAMES[code] for code in codes if code)
