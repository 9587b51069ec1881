"""Names for flows: DNS answers by address, SNI and HTTP Host by conversation, each from its frame on.

The meter copies the few payloads that can carry a name beside its pass (`Candidates`); `NameBook` turns them into name
events and puts them on rows. A row's name depends on frame numbers only, never on where a chunk ends:

- a DNS answer names its addresses for conversations whose first frame comes after the answer's frame;
- SNI and Host name their own conversation, in rows that were cut at or after the frame that completed the hello.

DNS is trusted over SNI and Host: those are claims of whoever sends.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from collectors.candidates import DNS, Candidates
from collectors.hellos import NO_EVENTS, HelloReader
from collectors.hostname import texts
from collectors.kernels import dns
from collectors.kernels.row_types import Bytes, Words
from collectors.kernels.spelling import LABELS

MAX_NAMES = 1_000_000
"""Answers and hellos that are remembered, each; one is forgotten when this many came after it. About 100 B each."""

NO_ANSWERS = pl.DataFrame(schema={"frame": pl.Int64, "address": pl.Binary, "name": pl.String})

FIRST_FRAME, CUT_FRAME = "_first_frame", "_cut_frame"
"""Columns that rows carry beside FLOWS while they are named (i64): first frame of the conversation, whatever part the
row is; the frame at which the row was cut (for the last rows of a reading: any number past its last frame)."""


class NameBook:
    """What was learned so far. Use, chunk by chunk: `learn` candidates, then `apply` to the rows that were cut."""

    def __init__(self, resolvers: frozenset[bytes] | None = None, max_names: int = MAX_NAMES) -> None:
        """`resolvers`: whose answers count, 16 bytes each; None: everybody's."""
        self._resolvers = resolvers
        self._hellos = HelloReader()
        self._answers = _Memory(NO_ANSWERS, max_names)
        self._by_flow = _Memory(NO_EVENTS, max_names)

    @property
    def notes(self) -> Mapping[str, int]:
        """What was not used, over the whole reading so far."""
        forgotten = self._answers.forgotten + self._by_flow.forgotten
        counts = {"names_forgotten": forgotten, "quic_unread": self._hellos.quic_unread}
        return {note: count for note, count in counts.items() if count}

    def learn(self, candidates: Candidates) -> None:
        """Takes one chunk's candidates; chunks come in order of frame."""
        self._answers.add(answers(candidates, self._resolvers))
        self._by_flow.add(self._hellos.read(candidates))

    def apply(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`rows` with `name` and `name_from` set, in the same order.

        Everything up to their cut frames must have been learned, and later calls must not bring rows that were cut
        before the earliest of these, nor others of a conversation whose final row is here. Needs `flow_id`, `dst_ip`,
        `final`, `_first_frame` and `_cut_frame`; other columns are kept.
        """
        if not self._answers.events.height and not self._by_flow.events.height:
            return rows.with_columns(name=pl.lit(""), name_from=pl.lit(""))
        named = rows.drop("name", "name_from", strict=False).with_row_index("_row")
        for found in (self._answered(named), self._claimed(named)):
            named = named.join(found, on="_row", how="left", maintain_order="left")
        earliest = named[CUT_FRAME].min()
        self._answers.forget(earliest)
        self._by_flow.forget(earliest, named.filter("final").select(flow="flow_id"))
        is_answered = pl.col("_answer").is_not_null()
        return named.with_columns(
            name=pl.coalesce("_answer", "_claim", pl.lit("")),
            name_from=pl.when(is_answered).then(pl.lit("dns")).otherwise(pl.col("_claim_from").fill_null("")),
        ).drop("_row", "_answer", "_claim", "_claim_from")

    def _answered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`_row` and `_answer` of rows whose responder's address was answered before their conversation began."""
        known = self._answers.events
        asked = rows.select("_row", FIRST_FRAME, CUT_FRAME, address="dst_ip")
        known = known.join(asked.select(pl.col("address").unique()), on="address", how="semi", maintain_order="left")
        asked = asked.join(known.select("address"), on="address", how="semi").sort(FIRST_FRAME)
        latest = asked.join_asof(
            known,
            left_on=FIRST_FRAME,
            right_on="frame",
            by="address",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        return self._answers.remembered(latest).select("_row", _answer="name")

    def _claimed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`_row`, `_claim`, `_claim_from` of rows cut after their conversation's hello."""
        cut = rows.select("_row", CUT_FRAME, flow="flow_id")
        claimed = cut.join(self._by_flow.events, on="flow").filter(pl.col("frame") <= pl.col(CUT_FRAME))
        # A proxied conversation may carry both: the hello inside is closer to the truth than the CONNECT before it.
        best = self._by_flow.remembered(claimed).sort("_row", pl.col("name_from") == "host", "frame")
        return best.unique("_row", keep="first").select("_row", _claim="name", _claim_from="name_from")


class _Memory:
    """Events in order of frame, the newest `limit` of them.

    Whether a row sees an event depends on how many came between it and the frame at which the row was cut, not on how
    many the chunk brought: an event is dropped when no row can come that sees it.
    """

    def __init__(self, empty: pl.DataFrame, limit: int) -> None:
        self.events = empty.with_columns(_order=pl.lit(0, pl.Int64))
        self._limit = limit
        self._added = 0

    @property
    def forgotten(self) -> int:
        return max(0, self._added - self._limit)

    def add(self, events: pl.DataFrame) -> None:
        if events.height:
            order = pl.int_range(self._added, self._added + events.height, dtype=pl.Int64).alias("_order")
            self.events = pl.concat([self.events, events.with_columns(order)])
            self._added += events.height

    def remembered(self, found: pl.DataFrame) -> pl.DataFrame:
        """Those of `found` (with `_order` and the row's cut frame) that were not yet forgotten when the row was cut."""
        found = found.filter(pl.col("_order").is_not_null())
        if self._added <= self._limit or not found.height:
            return found
        return found.filter(pl.col("_order") >= self._oldest_at(found[CUT_FRAME].to_numpy()))

    def forget(self, earliest: object, ended: pl.DataFrame | None = None) -> None:
        """Drops what no later row can see: events past the limit at that frame, and those of ended conversations."""
        if self._added > self._limit and isinstance(earliest, int):
            oldest = self._oldest_at(np.array([earliest], np.int64)).item()
            self.events = self.events.filter(pl.col("_order") >= oldest).rechunk()
        if ended is not None and self.events.height:
            self.events = self.events.join(ended, on="flow", how="anti", maintain_order="left")

    def _oldest_at(self, frame: Words) -> pl.Series:
        """Order of the oldest event that is remembered when a frame was read."""
        frames = self.events["frame"].to_numpy()
        newer = frames.size - np.searchsorted(frames, frame, "right")
        return pl.Series(self._added - newer - self._limit, dtype=pl.Int64)


def answers(candidates: Candidates, resolvers: frozenset[bytes] | None) -> pl.DataFrame:
    """Columns of `NO_ANSWERS`, in order of frame: each address of each DNS answer with the name that was asked for."""
    new = candidates.of_kind(DNS)
    if resolvers is not None:
        new = new.take(np.array([sender.tobytes() in resolvers for sender in new.resolver], np.bool_))
    if new.frame.size == 0:
        return NO_ANSWERS
    room = dns.capacity(new.length)
    which, address = np.empty(room, np.int64), np.empty((room, 16), np.uint8)
    count = dns.read_answers(new.arena, new.offset, new.length, which, address)
    which, address = which[:count], address[:count]
    used, of_answer = np.unique(which, return_inverse=True)
    question = new.offset[used] + dns.HEADER
    names = texts(new.arena, question, new.offset[used] + new.length[used] - question, LABELS)
    columns = [pl.Series("frame", new.frame[which]), _binary(address), names.gather(of_answer)]
    return pl.DataFrame(columns).filter(pl.col("name") != "")


def _binary(address: Bytes) -> pl.Series:
    """Rows of 16 bytes as a Binary column, without a Python object each."""
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(address), [None, pa.py_buffer(address.tobytes())])
    return pl.Series("address", pl.from_arrow(fixed.cast(pa.large_binary())), pl.Binary)
