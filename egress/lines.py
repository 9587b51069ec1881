"""Rows of flows added up to fewer lines wherever no sum of any kind can tell the difference.

A meter tells a conversation in a row every ten seconds; sums ask for minutes. What depends on a single row, as what it
is charged with, is worked out for each row first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from egress.amounts import LARGEST_ON_CARD, MOST, Longs, charged, longs, most_on_card, oversize
from egress.cells import LONGEST_ROW_US, MINUTE_US
from egress.grouping import CODE, Codes, Groups, Keys, Places
from egress.windows import WINDOW_US

SIDES = ("src", "dst")

Flags: TypeAlias = npt.NDArray[np.bool_]


def lines_of(flows: pl.DataFrame, codes: Codes, around: Longs) -> tuple[pl.DataFrame, int]:
    """One line for all rows of one code in one minute, or in the same two of one window; then rows that are longer.
    And how many of them are such lines.

    `around` is what a card counts around each of a row's packets. Columns: `code`; `start`, `end`, and `begin`, which
    is `end` where `start` cannot be believed; `position` of the first and the initiators' ports, lowest and highest;
    what each side sent, `src_charged` and so on, with `src_later` what of the charged bytes fell into the second
    minute.
    """
    start, end = longs(flows["start"]), longs(flows["end"])
    is_believed = (start <= end) & (end - start < LONGEST_ROW_US)
    begin = start if is_believed.all() else np.where(is_believed, start, end)
    amounts = _amounts(flows, around)
    minute = begin // MINUTE_US
    later = end // MINUTE_US - minute
    is_short = (begin == start) & (later <= 1) & (begin // WINDOW_US == end // WINDOW_US) & _is_summable(amounts)
    of = _keys(codes.astype(np.int64), minute * 2 + later, is_short).groups()
    straddling = np.flatnonzero(is_short & (later == 1))
    shares = _later(amounts, straddling, begin[straddling], end[straddling])
    later_of = Groups(of.of[straddling], of.places)
    found = pl.DataFrame(
        {
            CODE: codes[of.places],
            "begin": of.least(begin),
            **_spans(flows, of, start, end),
            **{name: of.total(amount) for name, amount in amounts.items()},
            **{name: later_of.total(share) for name, share in shares.items()},
        }
    )
    return found, int(is_short[of.places].sum())


def _keys(codes: Longs, span: Longs, is_short: Flags) -> Keys:
    """By code and span where a row is short; then a key for each other row."""
    keys = Keys.of(codes).then(np.where(is_short, span, span[is_short].min(initial=MOST)))
    alone = keys.span + np.arange(len(codes))
    return Keys(np.where(is_short, keys.values, alone), keys.span + len(codes))


def _amounts(flows: pl.DataFrame, around: Longs) -> dict[str, Longs]:
    """What is added up."""
    amounts = {"missed": longs(flows["missed"]), "flows": (flows["part"] == 0).to_numpy().astype(np.int64)}
    for side in SIDES:
        ip_bytes, packets, payload = (longs(flows[f"{side}_{what}"]) for what in ("bytes", "packets", "payload"))
        found = {
            "charged": charged(ip_bytes, packets, payload),
            "bytes": ip_bytes,
            "packets": packets,
            "payload": payload,
            "oversize": oversize(packets, payload),
            "most": most_on_card(ip_bytes, packets, around),
        }
        amounts |= {f"{side}_{what}": amount for what, amount in found.items()}
    return amounts


def _is_summable(amounts: Mapping[str, Longs]) -> Flags:
    """Not so large that all rows together could exceed what a sum holds, nor larger than is believed of a card."""
    count = len(amounts["missed"])
    most = min(MOST // max(count, 1), LARGEST_ON_CARD)
    found = np.ones(count, np.bool_)
    for amount in amounts.values():
        if count and amount.max() > most:
            found &= amount <= most
    return found


def _later(amounts: Mapping[str, Longs], rows: Places, start: Longs, end: Longs) -> dict[str, Longs]:
    """What of each of `rows` falls into the second minute by largest remainder, in proportion to time; of two equal
    remainders the first minute's counts."""
    length, time = end - start + 1, end % MINUTE_US + 1
    found = {}
    for name, of in (("later_missed", "missed"), ("src_later", "src_charged"), ("dst_later", "dst_charged")):
        each, rest = np.divmod(amounts[of][rows], length)
        found[name] = each * time + (2 * rest * time + length - 1) // (2 * length)
    return found


def _spans(flows: pl.DataFrame, of: Groups, start: Longs, end: Longs) -> dict[str, Longs]:
    port, position = longs(flows["src_port"]), longs(flows["position"])
    return {
        "start": of.least(start),
        "end": of.most(end),
        "low_port": of.least(port),
        "high_port": of.most(port),
        "position": position[of.first(start, position)],
    }
