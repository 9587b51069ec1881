"""What each model is charged for: excess of its holders, and what others relayed of it.

Charges are entries (see `accounts`) with `bytes` of excess, `drained_at`, and `path`: the hosts that relayed bytes
passed, from the holder on, one a line; empty where the host itself holds the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from egress.accounts import by_time, excess
from egress.approvals import NONE
from egress.cells import DAY_US, MINUTE_US
from egress.config import Model
from egress.edges import reachable
from egress.episodes import Charged
from egress.inventory import Inventory
from egress.levels import Longs, Series, ladder, numbers
from egress.proof import LAPSED, PROVEN, UNAPPROVED, UNPROVEN
from egress.relaying import Relaying
from egress.reviews import flags_within, is_within, life_since, retirements, reviewed
from egress.taint import Relays

PATH_SEPARATOR = "\n"
TIME_ORDER = ["minute", "first", "last", "host"]


@dataclass(frozen=True, slots=True)
class ModelCharges:
    """What one model is charged for, in time order, and how it went from host to host."""

    model: Model
    rows: pl.DataFrame
    """Charges, with `tolerated`: what their host's tolerance took of them. Rows of which it took all stand too."""
    relays: Relays

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


def charges_of(
    left: pl.DataFrame, edges: pl.DataFrame, inventory: Inventory, relaying: Relaying | None = None
) -> list[ModelCharges]:
    """Charges of every declared model, from entries that left and from edges inside; `relaying` saves work."""
    relaying = relaying or Relaying()
    relaying.begin(edges)
    accepted = reviewed(left, inventory).with_columns(path=pl.lit(""))
    unproven = accepted.filter(pl.col("account") != UNAPPROVED)
    hosts = set(left["host"].unique()) | set(edges["src"].unique()) | set(edges["dst"].unique())
    over = excess(accepted, inventory)
    return [_of_model(model, over, unproven, edges, hosts, inventory, relaying) for model in inventory.config.models]


def _of_model(
    model: Model,
    over: pl.DataFrame,
    unproven: pl.DataFrame,
    edges: pl.DataFrame,
    hosts: set[str],
    inventory: Inventory,
    relaying: Relaying,
) -> ModelCharges:
    holders = inventory.holders_of(model.id, hosts)
    counting = reviewed(_while_retiring(model, over, unproven, inventory), inventory, model.id)
    relays = Relays(holders)
    if _is_worthwhile(model, holders, edges, counting):
        relays = relays_of(holders, edges, counting, relaying, model.id)
    held = counting.filter(pl.col("host").is_in(holders))
    passed_on = relayed(counting, relays).with_columns(tolerated=pl.lit(0, pl.Int64))
    paths = passed_on["path"].unique()
    payers = pl.Series([_payer(path, inventory) for path in paths], dtype=pl.String)
    passed_on = passed_on.with_columns(host=pl.col("path").replace_strict(paths, payers, return_dtype=pl.String))
    return ModelCharges(model, by_time(pl.concat([held, passed_on]), TIME_ORDER), relays)


def _is_worthwhile(model: Model, holders: Sequence[str], edges: pl.DataFrame, counting: pl.DataFrame) -> bool:
    """False where even all that others received inside, and all that they sent out, could change no finding."""
    total = pl.col("bytes").cast(pl.Int128).sum()
    came = edges.filter(~pl.col("dst").is_in(holders)).group_by(host="dst").agg(total.alias("came"))
    if came.is_empty():
        return False
    went = counting.group_by("host").agg(went=total, tolerated=pl.col("tolerated").cast(pl.Int128).sum())
    is_holder = pl.col("host").is_in(holders)
    held = went.filter(is_holder).select((pl.col("went") + pl.col("tolerated")).sum()).item() or 0
    both = came.join(went, on="host").select(pl.min_horizontal("came", "went").sum()).item() or 0
    return bool(both and held + both >= ladder(model)[0][0]) or bool((came["came"] >= model.bytes // 4).any())


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


def relays_of(
    holders: Sequence[str], edges: pl.DataFrame, left: pl.DataFrame, relaying: Relaying | None = None, model: str = ""
) -> Relays:
    """A model's taint over edges and over entries that left; `relaying`, which was begun with them, saves work."""
    tainted = reachable(edges, holders)
    if not tainted:
        return Relays(holders)
    inside = edges.filter(pl.col("dst").is_in(tainted))
    outs = left.filter(pl.col("host").is_in(tainted) & (pl.col("bytes") > 0))
    outs = outs.group_by("minute", "host").agg(pl.col("bytes").cast(pl.Int128).sum()).sort("minute", "host")
    return (relaying or Relaying()).relays(model, holders, tainted, inside, outs)


def relayed(left: pl.DataFrame, relays: Relays) -> pl.DataFrame:
    """The parts of entries that others relayed, with the path that they took; entries in time order."""
    if not relays.exits:
        return left.clear()
    ends = {(each.provider, each.host) for each in relays.exits}
    ways = {each: PATH_SEPARATOR.join(relays.path(*each)) for each in ends}
    exits = pl.DataFrame(
        [(*each, ways[each.provider, each.host]) for each in relays.exits],
        schema={"minute": pl.Int64, "host": pl.String, "begin": pl.Int128, "end": pl.Int128}
        | {"provider": pl.String, "way": pl.String},
        orient="row",
    )
    after = pl.col("bytes").cast(pl.Int128).cum_sum().over("minute", "host")
    entries = left.filter(pl.col("bytes") > 0).with_columns(after=after)
    parts = entries.join(exits, on=["minute", "host"], maintain_order="left_right")
    taken = pl.min_horizontal("after", "end") - pl.max_horizontal(pl.col("after") - pl.col("bytes"), "begin")
    # Below 0 it is the gap between an entry and an exit, as wide as all that left: no 64 bits may hold it.
    parts = parts.with_columns(bytes=taken.clip(0).cast(pl.Int64), path=pl.col("way"))
    return parts.filter(pl.col("bytes") > 0).select(left.columns)


def _payer(path: str, inventory: Inventory) -> str:
    """The last host on the path that does more than pass packets on."""
    hosts = path.split(PATH_SEPARATOR)
    return next((host for host in reversed(hosts) if not inventory.is_transit(host)), hosts[0])


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
