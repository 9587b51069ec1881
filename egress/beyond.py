"""What network cards sent beyond the flows, minute by minute; folded on from a border in time, which may be before all.

Times are UTC microseconds. What is folded on from a border is what folding everything gives, or `can_go_on` denies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from egress.cells import DAY_US, HOUR_US, LONGEST_ROW_US, MINUTE_US, MOST
from egress.matching import unexplained
from egress.spans import SECOND_US
from egress.spoken import NEVER, SENSOR, blank, text

SLACK_US = MINUTE_US
"""How far a card's counter and a meter may disagree about when a byte was sent: clocks, buffers, reporting parts."""

CHATTER_BYTES_PER_S = 256
"""What a card sends that is no flow: ARP, LLDP, spanning tree, discovery. 22 MB a day; findings leave it out,
certificates do not."""

REACH_US = 6 * HOUR_US
"""How far flows that end after a border may reach behind it. Where one reaches further, an earlier border is needed."""

ENDLESS = 2**62
"""A border after everything."""

_VALUES = dict.fromkeys(("minute", "first", "last", "bytes", "beyond"), pl.Int64)
_SUPPLIES = blank(SENSOR, start=pl.Int64, end=pl.Int64, bytes=pl.Int64)
_DEMANDS = blank(SENSOR, begin=pl.Int64, end=pl.Int64, most=pl.Int64)
_FLOWS = blank(["sender"], begin=pl.Int64, end=pl.Int64, most=pl.Int64)
_CARDS = blank(SENSOR, latest=pl.Int64, reach=pl.Int64)
_PIECES = blank(SENSOR, **_VALUES)
_GAPS = blank(["host"], **_VALUES)
_TIMES = [pl.col("first").min(), pl.col("last").max()]


@dataclass(frozen=True, slots=True)
class Explained:
    """What flows explain of what cards sent until a border, and what they may explain of what comes after it."""

    border: int = NEVER
    """A full hour, or before or after everything."""
    supplies: pl.DataFrame = field(default_factory=_SUPPLIES.clone)
    """`host sensor start end bytes`: what is left of what cards sent within reach of the border."""
    demands: pl.DataFrame = field(default_factory=_DEMANDS.clone)
    """`host sensor begin end most`: what flows have left to explain of each sensor's card."""
    flows: pl.DataFrame = field(default_factory=_FLOWS.clone)
    """`sender begin end most`: flows within reach of the border, whole: for sensors that have not spoken yet."""
    cards: pl.DataFrame = field(default_factory=_CARDS.clone)
    """`host sensor latest reach`: when the last of what a card sent begins, and from when on its flows are kept."""
    pieces: pl.DataFrame = field(default_factory=_PIECES.clone)
    """By sensor and minute, what nothing can explain any more."""
    gaps: pl.DataFrame = field(default_factory=_GAPS.clone)
    """The same by host."""

    def can_go_on(self, sent: pl.DataFrame) -> bool:
        """Whether what cards sent after the border, and flows that end after it, reach no further behind it than what
        is kept."""
        if self.border == NEVER:
            return True
        earliest = self.border - REACH_US
        starts = text(sent.group_by(SENSOR).agg(pl.col("start").min())).join(self.cards, on=SENSOR, how="left")
        is_within = pl.col("start") >= pl.max_horizontal("latest", pl.col("reach").fill_null(earliest))
        still_open = self.demands.filter(pl.col("end") >= self.border)
        return bool(starts.select(is_within.all()).item() and (still_open["begin"] >= earliest).all())


def go_on(before: Explained, sent: pl.DataFrame, flows: pl.DataFrame, border: int) -> Explained:
    """What is explained until `border`, from `host sensor start end bytes` of all that cards sent since the last one
    and from `sender begin end most` of all flows that began since."""
    cards = _cards(before, sent, border)
    supplies = pl.concat([before.supplies, _supplies(sent)])
    demands = _demands(before, flows, cards)
    matched = list(_matched(supplies, demands.filter(pl.col("end") < border)))
    left, rest = pl.concat([_SUPPLIES, *(each for each, _ in matched)]), pl.concat([_DEMANDS, *(e for _, e in matched)])
    is_open = pl.col("end") > border - REACH_US
    open_demands = pl.concat([rest.filter(pl.col("most") > 0), demands.filter(pl.col("end") >= border)])
    pieces, gaps = _grown(before, _spread(_with_chatter(left.filter(~is_open & (pl.col("bytes") > 0)))))
    every = pl.concat([before.flows, flows.select(_FLOWS.columns)])
    return Explained(
        border,
        supplies=left.filter(is_open),
        demands=open_demands.join(cards, on=SENSOR).filter(pl.col("end") >= pl.col("reach")).select(_DEMANDS.columns),
        flows=every.filter(pl.col("end") + MINUTE_US + SLACK_US >= border - REACH_US),
        cards=cards,
        pieces=pieces,
        gaps=gaps,
    )


def _cards(before: Explained, sent: pl.DataFrame, border: int) -> pl.DataFrame:
    """A sensor that has not spoken since long will say in one word what its card sent meanwhile."""
    new = sent.group_by(SENSOR).agg(latest=pl.col("start").max(), reach=pl.col("end").max())
    every = pl.concat([before.cards, text(new)]).group_by(SENSOR).agg(pl.col("latest", "reach").max())
    return every.with_columns(pl.col("reach").clip(upper_bound=border - REACH_US))


def _supplies(sent: pl.DataFrame) -> pl.DataFrame:
    """What each card sent, by minute; what lies between two heartbeats further apart stays one."""
    is_long = pl.col("end") - pl.col("start") > MINUTE_US
    keyed = sent.select(*SENSOR, "start", "end", "bytes", is_long=is_long, minute=(pl.col("end") - 1) // MINUTE_US)
    total = pl.col("bytes").cast(pl.Int128).sum().clip(0, MOST).cast(pl.Int64)
    short = keyed.group_by(*SENSOR, "minute", "is_long").agg(pl.col("start").min(), pl.col("end").max(), total)
    return short.select(pl.col(*SENSOR).cast(pl.String), "start", "end", "bytes")


def _demands(before: Explained, flows: pl.DataFrame, cards: pl.DataFrame) -> pl.DataFrame:
    """What each sensor's card may have counted for flows."""
    is_new = cards.join(before.cards, on=SENSOR, how="anti").select(SENSOR)
    pairs = [(cards.select(SENSOR), flows), (is_new, before.flows)]
    made = [
        sensors.join(each.rename({"sender": "host"}), on="host").select(
            *SENSOR, pl.col("begin") - SLACK_US, pl.col("end") + MINUTE_US + SLACK_US, "most"
        )
        for sensors, each in pairs
    ]
    return pl.concat([before.demands, *made])


def _matched(supplies: pl.DataFrame, demands: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """By sensor, supplies and demands with what is left of them."""
    asking = demands.partition_by(SENSOR, as_dict=True)
    for sensor, each in supplies.partition_by(SENSOR, as_dict=True).items():
        mine = asking.pop(sensor, demands.clear()).sort("end", "begin")
        # A clock that was set back makes spans overlap; whichever came first may explain them.
        part = each.sort("end", "start").with_columns(since=pl.col("start").cum_min(reverse=True))
        left, rest = unexplained(
            part.select("since", "end", "bytes").rows(), mine.select("begin", "end", "most").rows()
        )
        yield (
            part.select(*SENSOR, "start", "end", bytes=pl.Series(left, dtype=pl.Int64)),
            mine.with_columns(most=pl.Series(rest, dtype=pl.Int64)),
        )
    for waiting in asking.values():
        yield _SUPPLIES, waiting


def _with_chatter(left: pl.DataFrame) -> pl.DataFrame:
    """With the bytes that are `beyond` chatter."""
    chatter = (pl.col("end") - pl.col("start")) * CHATTER_BYTES_PER_S // SECOND_US
    return left.with_columns(beyond=(pl.col("bytes") - chatter).clip(0))


def _grown(before: Explained, new: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What nothing explains, by sensor and by host, with what is new of it. Only the minutes that it touches are
    looked at again."""
    if new.is_empty():
        return before.pieces, before.gaps
    is_settled = pl.col("minute") < int(new["minute"].min())  # type: ignore[arg-type] # not empty
    touched = _coded(pl.concat([before.pieces.filter(~is_settled), new]))
    pieces = touched.group_by(*SENSOR, "minute").agg(*_TIMES, pl.col("bytes", "beyond").sum())
    # Of several sensors' words on one card the largest counts.
    gaps = pieces.group_by("host", "minute").agg(*_TIMES, pl.col("bytes", "beyond").max())
    pieces, gaps = text(pieces), text(gaps)
    every = _coded(pl.concat([before.gaps.filter(is_settled), gaps])).sort("host", "minute")
    return pl.concat([before.pieces.filter(is_settled), pieces]), text(every)


def _coded(rows: pl.DataFrame) -> pl.DataFrame:
    """With sorted names as numbers: a million of them are grouped and sorted in a third of the time."""
    texts = [name for name in SENSOR if name in rows.columns]
    return rows.with_columns(pl.col(name).cast(pl.Enum(rows[name].unique().sort())) for name in texts)


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """Each row over the minutes that it touches, in proportion to time; over hours where it lasts longer than a day.

    One longer than 31 days stands where it ends, as the ledger has it.
    """
    step, last = pl.col("step"), pl.max_horizontal(pl.col("end") - 1, pl.col("start"))
    is_long = pl.col("end") - pl.col("start") > DAY_US
    rows = rows.with_columns(step=pl.when(is_long).then(HOUR_US).otherwise(MINUTE_US).cast(pl.Int64), end=last)
    is_endless = pl.col("end") - pl.col("start") >= LONGEST_ROW_US
    rows = rows.with_columns(start=pl.when(is_endless).then("end").otherwise("start"))
    touched = pl.int_ranges(pl.col("start") // step, pl.col("end") // step + 1)
    lines = (
        rows.with_columns(touched=touched)
        .explode("touched")
        .with_columns(
            first=pl.max_horizontal("start", pl.col("touched") * step),
            last=pl.min_horizontal("end", (pl.col("touched") + 1) * step - 1),
        )
    )
    return lines.select(
        *SENSOR,
        (pl.col("first") // MINUTE_US * MINUTE_US).alias("minute"),
        "first",
        "last",
        _portion("bytes"),
        _portion("beyond"),
    )


def _portion(name: str) -> pl.Expr:
    """The difference of two rounded-down running sums, so that nothing is lost."""
    total, whole = pl.col(name).cast(pl.Int128), pl.col("end") - pl.col("start") + 1
    until = total * (pl.col("last") - pl.col("start") + 1) // whole
    return (until - total * (pl.col("first") - pl.col("start")) // whole).cast(pl.Int64).alias(name)
