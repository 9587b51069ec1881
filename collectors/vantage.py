"""The same conversation seen from several vantage points of one reading counts once, by its largest view.

Works on emitted rows (words of the flow table). All open parts are cut at the end of an epoch, so the rows of one epoch
hold everything that any vantage point saw of a conversation in a 10 s part.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from collectors.kernels import entry as e
from collectors.kernels.row_types import Words

MAX_HELD = 500_000
"""Rows of one epoch held back; beyond it they are compared among themselves only, which can count twice, never lose."""

PARTS_KEPT = 64
"""Epochs for which a silent conversation's next part number is remembered: twice the usual idle time-out."""

CONVERSATION = ["k0", "k1", "k2", "k3", "k4", "bucket"]
MEASURES = ["bytes", "payload", "packets"]


@dataclass(slots=True)
class Views:
    """Holds an epoch's rows back until it is over."""

    seen_frames: int = 0
    seen_bytes: int = 0
    """What further vantage points saw again."""
    _rows: list[Words] = field(default_factory=list)
    _tunnels: list[Words] = field(default_factory=list)
    _held: int = 0
    _epoch: int = 0
    _parts: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"flow": pl.Int64, "next": pl.Int64, "epoch": pl.Int64})
    )

    def add(self, rows: Words, tunnels: Words) -> list[tuple[Words, Words]]:
        """Rows in the order in which they were emitted; gives those that are settled."""
        if len(rows) and rows[-1, e.EPOCH] == 0:  # a single vantage point so far: nothing to compare, nothing to hold
            return [(rows, tunnels)]
        settled = []
        start = 0
        while start < len(rows):
            epoch = int(rows[start, e.EPOCH])
            stop = start + int(np.searchsorted(rows[start:, e.EPOCH], epoch, "right"))
            if epoch != self._epoch:
                settled += self.settle()
                self._epoch = epoch
            if epoch == 0:
                settled.append((rows[start:stop], tunnels[start:stop]))
                start = stop
                continue
            stop = min(stop, start + MAX_HELD - self._held)
            self._rows.append(rows[start:stop].copy())
            self._tunnels.append(tunnels[start:stop].copy())
            self._held += stop - start
            if self._held >= MAX_HELD:
                settled += self.settle()
            start = stop
        return settled

    def settle(self) -> list[tuple[Words, Words]]:
        """What is held, each conversation once."""
        if not self._held:
            return []
        rows, tunnels = np.concatenate(self._rows), np.concatenate(self._tunnels)
        self._rows, self._tunnels, self._held = [], [], 0
        before = _totals(rows)
        rows, tunnels = resolve(rows, tunnels)
        after = _totals(rows)
        self.seen_frames += before[0] - after[0]
        self.seen_bytes += before[1] - after[1]
        self._number_parts(rows)
        return [(rows, tunnels)]

    def _number_parts(self, rows: Words) -> None:
        """Parts count up within a conversation, whichever vantage point each was taken from."""
        new = pl.DataFrame({"flow": rows[:, e.FLOW_ID].copy(), "final": rows[:, e.FINAL] != 0})
        joined = new.join(self._parts, on="flow", how="left", maintain_order="left")
        part = pl.col("next").fill_null(0) + pl.int_range(pl.len()).over("flow")
        numbered = joined.with_columns(part=part)
        rows[:, e.PART] = rows[:, e.PART] & ~0xFFFFFFFF | numbered["part"].to_numpy()
        following = numbered.group_by("flow").agg(
            next=pl.col("part").max() + 1, epoch=pl.lit(self._epoch, pl.Int64), final=pl.col("final").any()
        )
        kept = self._parts.filter(pl.col("epoch") > self._epoch - PARTS_KEPT).join(following, on="flow", how="anti")
        self._parts = pl.concat([kept, following.filter(~pl.col("final")).drop("final")])


def _totals(rows: Words) -> tuple[int, int]:
    packets = rows[:, e.PACKETS]
    return int((packets & 0xFFFFFFFF).sum() + (packets >> 32).sum()), int(rows[:, e.BYTES : e.BYTES + 2].sum())


def resolve(rows: Words, tunnels: Words) -> tuple[Words, Words]:
    """Rows of one epoch, one per conversation, part and tunnel, each direction by its largest view.

    Tunnelled and untunnelled views of one conversation: what is tunnelled is kept, because it carries the outer
    addresses, and what the largest view has beyond it follows as an untunnelled row.
    """
    view = _view(rows)
    sides = [_choose(view, side) for side in ("a", "b")]
    kept = rows.copy()
    for number, chosen in enumerate(sides):
        _keep_side(kept, number, chosen)
    return _merge(kept, tunnels, view["group"].to_numpy())


def _view(rows: Words) -> pl.DataFrame:
    """A column per thing that choosing needs; `group` numbers (conversation, part) in order of appearance."""
    columns = {f"k{i}": rows[:, i].copy() for i in range(5)}
    columns |= {
        "bucket": rows[:, e.PART_END].copy(),
        "vantage": rows[:, e.VANTAGE].copy(),
        "tunnelled": rows[:, e.TUNNEL] != 0,
    }
    for number, side in enumerate(("a", "b")):
        columns[f"bytes_{side}"] = rows[:, e.BYTES + number].copy()
        columns[f"payload_{side}"] = rows[:, e.PAYLOAD + number].copy()
        columns[f"packets_{side}"] = rows[:, e.PACKETS] >> (32 * number) & 0xFFFFFFFF
    frame = pl.DataFrame(columns).with_row_index("row")
    return frame.with_columns(group=pl.col("row").first().over(CONVERSATION).cast(pl.Int64))


def _choose(view: pl.DataFrame, side: str) -> pl.DataFrame:
    """Per row of `view`: what of this direction it keeps (bytes, payload, packets)."""
    measures = [f"{measure}_{side}" for measure in MEASURES]
    inside, outside = pl.col("tunnelled"), ~pl.col("tunnelled")
    per_vantage = view.group_by("group", "vantage").agg(
        *(pl.col(m).filter(inside).sum().alias(f"t_{m}") for m in measures),
        *(pl.col(m).filter(outside).sum().alias(f"u_{m}") for m in measures),
    )
    per_vantage = per_vantage.with_columns((pl.col(f"t_{m}") + pl.col(f"u_{m}")).alias(f"s_{m}") for m in measures)
    best = {
        kind: per_vantage.sort("group", f"{kind}_{measures[0]}", "vantage", descending=[False, True, False])
        .unique("group", keep="first", maintain_order=True)
        .select("group", pl.col("vantage").alias(f"{kind}_vantage"), *(f"{kind}_{m}" for m in measures))
        for kind in ("t", "u", "s")
    }
    groups = best["t"].join(best["u"], on="group").join(best["s"], on="group")
    by_sum = pl.col(f"s_{measures[0]}") > pl.col(f"u_{measures[0]}")
    groups = groups.with_columns(
        (pl.when(by_sum).then(f"s_{m}").otherwise(f"u_{m}") - pl.col(f"t_{m}")).clip(0).alias(f"rest_{m}")
        for m in measures
    )
    rows = view.join(groups, on="group", how="left", maintain_order="left")
    is_kept = (
        pl.when("tunnelled")
        .then(pl.col("vantage") == pl.col("t_vantage"))
        .otherwise(pl.col("vantage") == pl.col("u_vantage"))
    )
    # where something is tunnelled, one untunnelled row carries all that the largest view has beyond it
    carries_rest = pl.col("row") == pl.col("row").filter(outside & is_kept).first().over("group")
    has_both = (pl.col(f"t_{measures[0]}") > 0) & outside
    return rows.select(
        pl.when(~is_kept)
        .then(0)
        .when(has_both)
        .then(pl.when(carries_rest).then(f"rest_{m}").otherwise(0))
        .otherwise(m)
        .alias(m)
        for m in measures
    )


def _keep_side(rows: Words, side: int, chosen: pl.DataFrame) -> None:
    size, payload, packets = (column.to_numpy() for column in chosen.get_columns())
    rows[:, e.BYTES + side] = size
    rows[:, e.PAYLOAD + side] = payload
    other = rows[:, e.PACKETS] & (0xFFFFFFFF if side else ~0xFFFFFFFF)  # the half that is not this side's
    rows[:, e.PACKETS] = other | packets << (32 * side)
    gone = packets == 0
    rows[gone, e.MISSED + side] = 0
    rows[gone, e.STATE] &= ~(0xFF << 8 * side)


def _merge(rows: Words, tunnels: Words, group: Words) -> tuple[Words, Words]:
    """One row for all that is left of a conversation's part in one tunnel, in order of first appearance."""
    is_left = rows[:, e.PACKETS] != 0
    is_left |= rows[:, e.BYTES : e.BYTES + 2].any(axis=1)
    rows, tunnels, group = rows[is_left], tunnels[is_left], group[is_left]
    same = pl.DataFrame({"group": group, "tunnel": rows[:, e.TUNNEL].copy()}).with_row_index("row")
    first = same.select(pl.col("row").first().over("group", "tunnel")).to_series().to_numpy().astype(np.int64)
    heads, which = np.unique(first, return_inverse=True)
    merged = rows[heads]
    for place in (*range(e.BYTES, e.PART_END), e.MISSED, e.MISSED + 1, e.RETRANSMITS):
        merged[:, place] = 0
        np.add.at(merged[:, place], which, rows[:, place])
    np.bitwise_or.at(merged[:, e.STATE], which, rows[:, e.STATE] & 0xFFFF)
    np.minimum.at(merged[:, e.START], which, rows[:, e.START])
    np.maximum.at(merged[:, e.LAST], which, rows[:, e.LAST])
    np.minimum.at(merged[:, e.FIRST_FRAME], which, rows[:, e.FIRST_FRAME])
    np.maximum.at(merged[:, e.CUT_FRAME], which, rows[:, e.CUT_FRAME])
    np.minimum.at(merged[:, e.FINAL], which, rows[:, e.FINAL])
    np.minimum.at(merged[:, e.EVICTED], which, rows[:, e.EVICTED])
    return merged, tunnels[heads]
