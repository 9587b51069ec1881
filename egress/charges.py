"""What each model is charged for: excess of its holders, and what others relayed of it.

Charges are entries (see `accounts`) with `bytes` of excess, `drained_at`, and `path`: the hosts that relayed bytes
passed, from the holder on, one a line; empty where the host itself holds the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from egress.accounts import excess
from egress.approvals import NONE
from egress.cells import DAY_US, MINUTE_US
from egress.config import Model
from egress.episodes import Charged
from egress.inventory import Inventory
from egress.levels import Longs, Series, numbers
from egress.proof import LAPSED, PROVEN, UNAPPROVED, UNPROVEN
from egress.reviews import flags_within, is_within, life_since, retirements, reviewed
from egress.taint import Edge, Out, Path, Piece, Relays, reachable

PATH_SEPARATOR = "\n"
TIME_ORDER = ["minute", "first", "last", "host"]


@dataclass(frozen=True, slots=True)
class ModelCharges:
    """What one model is charged for, in time order, and what of it arrived at hosts that do not hold it."""

    model: Model
    rows: pl.DataFrame
    """Charges, with `tolerated`: what their host's tolerance took of them. Rows of which it took all stand too."""
    arrivals: Sequence[Piece]

    def of_hosts(self) -> pl.DataFrame:
        """Charges to the hosts that sent, those that relayed included."""
        return self.rows.filter(pl.col("bytes") > 0).drop("tolerated")

    def of_model(self) -> pl.DataFrame:
        """Charges of all hosts together, with what they tolerated beyond the model's own cap of a day."""
        limit = self.model.tolerated_bytes_per_day
        if limit is None:
            return self.of_hosts()
        after = pl.col("tolerated").cast(pl.Int128).cum_sum().over(pl.col("minute") // DAY_US)
        within = pl.min_horizontal(after, limit) - pl.min_horizontal(after - pl.col("tolerated"), limit)
        rows = self.rows.with_columns(bytes=pl.col("bytes") + pl.col("tolerated") - within.cast(pl.Int64))
        return rows.filter(pl.col("bytes") > 0).drop("tolerated")


def charges_of(left: pl.DataFrame, edges: pl.DataFrame, inventory: Inventory) -> list[ModelCharges]:
    """Charges of every declared model, from entries that left and from edges inside."""
    accepted = reviewed(left, inventory).with_columns(path=pl.lit(""))
    unproven = accepted.filter(pl.col("account") != UNAPPROVED)
    hosts = set(left["host"].unique()) | set(edges["src"].unique()) | set(edges["dst"].unique())
    over = excess(accepted, inventory)
    return [_of_model(model, over, unproven, edges, hosts, inventory) for model in inventory.config.models]


def _of_model(
    model: Model, over: pl.DataFrame, unproven: pl.DataFrame, edges: pl.DataFrame, hosts: set[str], inventory: Inventory
) -> ModelCharges:
    holders = inventory.holders_of(model.id, hosts)
    counting = reviewed(_while_retiring(model, over, unproven, inventory), inventory, model.id)
    relays = relays_of(holders, edges, counting)
    held = counting.filter(pl.col("host").is_in(holders))
    rows = pl.concat([held, _relayed(counting, relays.left, inventory)]).sort(TIME_ORDER, maintain_order=True)
    return ModelCharges(model, rows, relays.arrived)


def _while_retiring(model: Model, over: pl.DataFrame, unproven: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Excess, and what left unproven while the model was retiring, whatever became of it later."""
    spans = retirements(model.id, inventory)
    if not spans:
        return over
    was_unproven = pl.col("account").is_in([UNPROVEN, LAPSED])
    was_unproven |= (pl.col("account") == PROVEN) & (pl.col("why") == "receipt")
    rows = unproven.filter(was_unproven & is_within(pl.col("minute"), spans))
    rows = rows.with_columns(tolerated=pl.lit(0, pl.Int64)).select(over.columns)
    return pl.concat([over.filter(~_was_counted(spans, inventory)), rows])


def relays_of(holders: Sequence[str], edges: pl.DataFrame, left: pl.DataFrame) -> Relays:
    """A model's taint over edges, and over entries that left; a piece's `row` counts the latter."""
    relays = Relays(holders)
    tainted = reachable(edges, holders)
    if tainted:
        inside = edges.filter(pl.col("dst").is_in(tainted)).select("minute", "src", "dst", "bytes", "covered")
        outs = left.with_row_index("row").filter(pl.col("host").is_in(tainted) & (pl.col("bytes") > 0))
        outs = outs.sort("minute", "first", "row").select("minute", "row", "host", "bytes")
        relays.run((Edge(*each) for each in inside.iter_rows()), (Out(*each) for each in outs.iter_rows()))
    return relays


def _relayed(left: pl.DataFrame, pieces: Sequence[Piece], inventory: Inventory) -> pl.DataFrame:
    """The entries that pieces are of, charged to whoever answers for them."""
    taken = pl.DataFrame(
        [(each.row, each.bytes, _payer(each.path, inventory), PATH_SEPARATOR.join(each.path)) for each in pieces],
        schema={"row": pl.UInt32, "bytes": pl.Int64, "host": pl.String, "path": pl.String},
        orient="row",
    )
    relayed = left[taken["row"]].with_columns(taken["bytes"], taken["host"], taken["path"])
    return relayed.with_columns(tolerated=pl.lit(0, pl.Int64))


def _payer(path: Path, inventory: Inventory) -> str:
    """The last host on the path that does more than pass packets on."""
    return next((host for host in reversed(path) if not inventory.is_transit(host)), path[0])


def _was_counted(spans: list[tuple[int, int]], inventory: Inventory) -> pl.Expr:
    """Bytes whose receipt failed to come, and which counted already when they left, as the model was retiring."""
    deadlines = [approval.receipt_deadline for approval in inventory.config.approvals]
    deadline = pl.col("approval").replace_strict(range(len(deadlines)), deadlines, default=0, return_dtype=pl.Int64)
    sent = pl.col("minute") - deadline - MINUTE_US
    is_lapse = (pl.col("account") == UNAPPROVED) & (pl.col("why") == "receipt") & (pl.col("approval") != NONE)
    return is_lapse & is_within(sent, spans)


def charged(model: Model, host: str, charges: pl.DataFrame, inventory: Inventory) -> Charged:
    """A model's charges to one subject as a series; `host` is empty for the model over all its holders."""
    series = series_of(model, charges)
    flags = flags_within(series.minutes, retirements(model.id, inventory))
    since = life_since(host, model.id, series.minutes, inventory)
    drained = _drained(series.minutes, charges)
    return Charged(replace(series, is_retiring=flags, drained=drained, since=since), charges)


def series_of(model: Model, charges: pl.DataFrame) -> Series:
    """Charges summed by minute, as of a model that is not retiring and was never reviewed."""
    sums = charges.group_by("minute").agg(pl.col("bytes").cast(pl.Int128).sum()).sort("minute")
    minutes = sums["minute"].to_numpy()
    return Series(model, minutes, numbers(sums["bytes"].to_list()), minutes < 0, minutes * 0, minutes * 0)


def _drained(minutes: Longs, charges: pl.DataFrame) -> Longs:
    """What reviews had taken out of the lifetime before each minute."""
    sums = charges.group_by("drained_at").agg(pl.col("bytes").cast(pl.Int128).sum()).sort("drained_at")
    running = numbers([0, *sums["bytes"].to_list()]).cumsum()
    drained: Longs = running[np.searchsorted(sums["drained_at"].to_numpy(), minutes, side="right")]
    return drained
