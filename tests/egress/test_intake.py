"""What the store's service has read and not yet written."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import findingjson, intake, wire
from egress.contracts import Finding, Level
from egress.heartbeats import HEARTBEATS
from egress.intake import Intake, Place, Round, Seen
from egress.messages import Message
from egress.metrics import Metrics
from egress.schema import CELLS, FLOWS, TIME, V4_MAPPED_PREFIX, conform

NOON_US = 20_000 * 86_400_000_000
ADDRESS = V4_MAPPED_PREFIX + b"\x0a\x00\x00\x01"
FINDING = Finding("ab12", "ledger", "host:g", "g", Level.HIGH, "left", 5, "1h", 0, 0, 0, {Level.HIGH: 0})
FLOWS_0: Place = ("flows", 0)
SCHEDULES = st.lists(st.booleans(), min_size=12, max_size=12)


def flows(seq: int, rows: int = 10, host: str = "gpu-01") -> pl.DataFrame:
    """Rows that tell from which message they came by their flow_id."""
    frame = pl.DataFrame({"flow_id": range(seq * 1000, seq * 1000 + rows)}).with_columns(
        host=pl.lit(host),
        side=pl.lit("src"),
        collector=pl.lit("capture"),
        start=pl.lit(NOON_US).cast(TIME),
        end=pl.lit(NOON_US + 1).cast(TIME),
        src_ip=pl.lit(ADDRESS),
        dst_ip=pl.lit(ADDRESS),
        proto=6,
        src_bytes=100,
    )
    return conform(frame, FLOWS)


def message(offset: int, seq: int | None = None, rows: int = 10, *, partition: int = 0, epoch: str = "e") -> Message:
    seq = offset if seq is None else seq
    header = wire.Header(wire.FLOWS_V1, "gpu-01", "s", "b", epoch, seq, rows)
    value, headers = wire.encode(flows(seq, rows), header)
    return Message("flows", partition, offset, b"gpu-01", value, tuple(headers))


def said(offset: int, finding: Finding | None, key: bytes = b"ab12") -> Message:
    return Message("findings", 0, offset, key, findingjson.encode(finding).encode() if finding else None)


class Bench:
    """An intake of some partitions, with what it refused."""

    def __init__(self, *places: Place) -> None:
        self.refused: list[tuple[int, str]] = []
        self.metrics = Metrics("store")
        self.intake = Intake(
            self.metrics, lambda message, reason, _: self.refused.append((message.offset, str(reason)))
        )
        for place in places or (FLOWS_0,):
            self.intake.begin(place, 0, "")

    def take(self, *messages: Message) -> Bench:
        for one in messages:
            self.intake.take(one)
        return self

    def round(self) -> Round:
        made = self.intake.round()
        assert made is not None
        return made


def ids(made: Round) -> list[int]:
    return sorted(number for batch in made.batches for number in batch.flows["flow_id"].to_pylist())


def ids_of(*seqs: int) -> list[int]:
    return sorted(number for seq in seqs for number in range(seq * 1000, seq * 1000 + 10))


def test_a_round_holds_what_was_read_and_where_it_ends() -> None:
    """The offset to commit is that of the next message; the intent says where the batch began and ends."""
    made = Bench().take(message(0), message(1), message(2)).round()

    assert ids(made) == ids_of(0, 1, 2)
    assert made.offsets == {FLOWS_0: 3}
    assert made.intents == {FLOWS_0: (0, "3")}


def test_an_empty_intake_has_no_round() -> None:
    """Nothing is written, nothing committed."""
    assert Bench().intake.round() is None


def test_a_message_that_comes_twice_counts_once() -> None:
    """A collector that was killed sends again what it may have sent; its offset is passed all the same."""
    bench = Bench().take(message(0), message(1), message(2, seq=1), message(3, seq=0), message(4, seq=2))

    made = bench.round()

    assert ids(made) == ids_of(0, 1, 2)
    assert made.offsets == {FLOWS_0: 5}
    assert bench.metrics.value("duplicate_messages") == 2


def test_numbers_of_another_start_of_the_sensor_are_others() -> None:
    """(sensor, host, epoch) counts from 0."""
    first, second = message(0, seq=0), message(1, seq=1)
    other = wire.encode(flows(7), wire.Header(wire.FLOWS_V1, "gpu-01", "s", "b", "later", 0, 10))
    third = replace(second, offset=2, value=other[0], headers=tuple(other[1]))

    assert ids(Bench().take(first, second, third).round()) == ids_of(0, 1, 7)


def test_what_cannot_be_read_is_refused_and_passed_over() -> None:
    """By reference; the neighbours are kept."""
    broken = replace(message(1), value=b"not zstd")
    bench = Bench().take(message(0), broken, message(2))

    made = bench.round()

    assert bench.refused == [(1, "damaged")]
    assert ids(made) == ids_of(0, 2)
    assert made.offsets == {FLOWS_0: 3}
    assert bench.metrics.value("dead_letters", topic="flows") == 1


def test_heartbeats_are_not_taken_from_the_topic_of_flows() -> None:
    """A schema has its topic."""
    beats = conform(
        pl.DataFrame({"time": [NOON_US], "host": ["g"]}).with_columns(pl.col("time").cast(TIME)), HEARTBEATS
    )
    value, headers = wire.encode(beats, wire.Header(wire.HEARTBEATS_V1, "g", "s", "", "e", 0, 1))
    bench = Bench(FLOWS_0, ("heartbeats", 0))

    bench.take(Message("flows", 0, 0, b"g", value, tuple(headers)))
    bench.take(Message("heartbeats", 0, 0, b"g", value, tuple(headers)))

    assert bench.refused == [(0, "unknown_schema")]
    assert bench.round().heartbeats.equals(beats)


def test_of_a_finding_the_last_word_counts() -> None:
    """Also that it is none."""
    larger = replace(FINDING, bytes=6)
    bench = Bench(("findings", 0)).take(said(0, FINDING), said(1, None, b"cd34"), said(2, larger))

    assert [(one.uid, one.finding, one.version) for one in bench.round().said] == [
        ("ab12", larger, 3),
        ("cd34", None, 2),
    ]


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"uid": "ab12"}', b"[" * 100_000, b"\xff", findingjson.encode(FINDING).encode()[:-2]],
)
def test_what_is_no_finding_is_refused(value: bytes) -> None:
    """Whoever may write to the topic cannot stop the store."""
    bench = Bench(("findings", 0)).take(replace(said(0, FINDING), value=value), said(1, FINDING))

    assert bench.refused == [(0, "impossible_value")]
    assert [one.version for one in bench.round().said] == [2]


@pytest.mark.parametrize(
    "change", [{"bytes": -1}, {"bytes": 2**64}, {"start": 10**30}, {"models": [1]}, {"title": 5}, {"revision": 1 << 40}]
)
def test_a_finding_that_fits_no_row_is_refused(change: dict[str, object]) -> None:
    """Otherwise one message would spoil its whole round, again and again."""
    values = json.loads(findingjson.encode(FINDING)) | change
    bench = Bench(("findings", 0)).take(replace(said(0, FINDING), value=json.dumps(values).encode()))

    assert bench.refused == [(0, "impossible_value")]


def test_a_finding_under_another_ones_key_is_refused() -> None:
    """It would replace that one."""
    bench = Bench(("findings", 0)).take(said(0, FINDING, b"other"))

    assert bench.refused == [(0, "not_as_said")]


def test_of_the_sums_only_cells_are_kept() -> None:
    """Of two words of a task about one cell, the larger counts: they are absolute. Another task's stand beside it."""
    row = {"host": "g", "sensor": "s", "remote_ip": ADDRESS, "minute": 0, "first": 0, "last": 1}
    small, large = (
        conform(pl.DataFrame([row | {"sent": sent}]).with_columns(pl.col("minute", "first", "last").cast(TIME)), CELLS)
        for sent in (5, 7)
    )
    sums = [
        Message("sums", 0, 0, b"k", wire.pack(large, CELLS), (("kind", b"cells"), ("task", b"1"))),
        Message("sums", 0, 1, b"k", wire.pack(small, CELLS), (("kind", b"cells"), ("task", b"1"))),
        Message("sums", 0, 2, b"k", wire.pack(small, CELLS), (("kind", b"cells"), ("task", b"2"))),
        Message("sums", 0, 3, b"k", b"whatever", (("kind", b"signals"), ("task", b"1"))),
    ]
    made = Bench(("sums", 0)).take(*sums).round()

    assert made.cells.select("sent", "task").rows() == [(7, 1), (5, 2)]
    assert made.offsets == {("sums", 0): 4}


@pytest.mark.parametrize("task", [(), (("task", b""),), (("task", b"-1"),), (("task", b"9" * 12),)])
def test_cells_of_nobody_are_refused(task: tuple[tuple[str, bytes], ...]) -> None:
    """Whose they are says what they replace."""
    bench = Bench(("sums", 0)).take(
        Message("sums", 0, 0, b"k", wire.pack(CELLS.empty(), CELLS), (("kind", b"cells"), *task))
    )

    assert bench.refused == [(0, "bad_header")]


def test_a_batch_has_a_most_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays is read, and not committed."""
    monkeypatch.setattr(intake, "BATCH_ROWS", 25)
    bench = Bench().take(*(message(offset) for offset in range(5)))

    rounds = [bench.round(), bench.round(), bench.round()]

    assert [ids(made) for made in rounds] == [ids_of(0, 1), ids_of(2, 3), ids_of(4)]
    assert [made.offsets[FLOWS_0] for made in rounds] == [2, 4, 5]
    assert [made.intents[FLOWS_0] for made in rounds] == [(0, "2"), (2, "4"), (4, "5")]
    assert bench.intake.is_empty
    assert (bench.intake.rows, bench.intake.bytes) == (0, 0)


def test_the_fullest_partition_is_written_first_and_the_others_fill_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small inserts are what ClickHouse likes least. What was not written is not committed."""
    monkeypatch.setattr(intake, "BATCH_ROWS", 25)
    bench = Bench(FLOWS_0, ("flows", 1)).take(message(0, partition=1), *(message(offset) for offset in range(3)))

    assert bench.intake.is_ripe
    made = bench.intake.round(is_all=False)

    assert made is not None
    assert [batch.place for batch in made.batches] == [FLOWS_0]
    assert made.offsets == {FLOWS_0: 2}
    assert not bench.intake.is_ripe
    assert [batch.place for batch in bench.round().batches] == [FLOWS_0, ("flows", 1)]


def test_a_batch_that_was_begun_is_formed_again_as_it_was() -> None:
    """Whoever takes over has read more by then; the token is that of the same messages."""
    first = Bench().take(message(0), message(1)).round()
    after = Bench()
    after.intake.begin(FLOWS_0, 0, first.intents[FLOWS_0][1])

    after.take(*(message(offset) for offset in range(5)))

    assert after.intake.is_ripe
    assert [batch.token for batch in after.round().batches] == [batch.token for batch in first.batches]
    assert ids(after.round()) == ids_of(2, 3, 4)


def test_a_batch_that_was_begun_waits_for_its_end() -> None:
    """A part of it would be another batch."""
    bench = Bench()
    bench.intake.begin(FLOWS_0, 0, "3")

    assert bench.take(message(0)).intake.round() is None
    assert ids(bench.take(message(1), message(2)).round()) == ids_of(0, 1, 2)


def test_an_end_that_never_comes_is_not_waited_for_for_ever() -> None:
    """Retention took it away, or somebody else wrote the note; while messages come, it may still be among them."""
    bench = Bench()
    bench.intake.begin(FLOWS_0, 0, "1000000")

    waiting = [bench.take(message(offset)).intake.round() for offset in range(20)]
    waiting += [bench.intake.round() for _ in range(intake.PATIENCE)]

    assert waiting == [None] * len(waiting)
    assert ids(bench.round()) == ids_of(*range(20))


@pytest.mark.parametrize("note", ["", "x", "-1", "0", "9" * 30, "²"])
def test_a_note_that_says_nothing_is_no_intent(note: str) -> None:
    """Offsets are committed by others too, by hand."""
    bench = Bench()
    bench.intake.begin(FLOWS_0, 0, note)

    assert ids(bench.take(message(0)).round()) == ids_of(0)


def test_an_intent_of_messages_that_say_nothing_new_is_over_once_they_came() -> None:
    """Else the service would turn for ever on a round that is empty."""
    bench = Bench()
    bench.intake.begin(FLOWS_0, 0, "1")

    made = bench.take(replace(message(0), value=b"broken")).round()

    assert (made.batches, made.offsets) == ((), {FLOWS_0: 1})
    assert not bench.intake.is_ripe


def test_what_is_anothers_now_is_let_go() -> None:
    """It is read again there; here it would be written by nobody's leave."""
    bench = Bench(FLOWS_0, ("flows", 1)).take(message(0), message(0, partition=1, seq=5))

    bench.intake.drop(FLOWS_0)

    assert bench.intake.rows == 10
    made = bench.take(message(1)).round()
    assert ids(made) == ids_of(5)
    assert made.offsets == {("flows", 1): 1}


def test_a_partition_that_comes_back_is_read_anew() -> None:
    """Numbers that were seen and not written are no duplicates."""
    bench = Bench().take(message(0), message(1))

    bench.intake.drop(FLOWS_0)
    bench.intake.begin(FLOWS_0, 0, "")

    assert ids(bench.take(message(0), message(1)).round()) == ids_of(0, 1)


def test_the_token_changes_with_the_content() -> None:
    """ClickHouse drops what comes second under a token without looking at it."""
    other = message(0, rows=9)
    tokens = [
        Bench().take(*messages).round().batches[0].token
        for messages in ([message(0)], [message(0), message(1)], [message(1, seq=1)], [message(0, epoch="f")], [other])
    ]

    assert len(set(tokens)) == len(tokens)


def test_a_batch_is_known_again_by_whoever_forgot_what_came_before() -> None:
    """A message that comes again is part of the batch's name, though its rows are not written again."""
    before = Bench().take(message(0))
    before.round()
    first = before.take(message(1), message(2, seq=0)).round()
    after = Bench()
    after.intake.begin(FLOWS_0, *first.intents[FLOWS_0])

    again = after.take(message(1), message(2, seq=0)).round()

    assert ids(first) == ids_of(1)
    assert [batch.token for batch in again.batches] == [batch.token for batch in first.batches]


LOG = [message(offset) for offset in range(12)]


@pytest.mark.slow
@given(rounds=SCHEDULES, crashes=SCHEDULES)
def test_however_rounds_and_crashes_fall_each_message_is_in_one_token(rounds: list[bool], crashes: list[bool]) -> None:
    """A round that was written and not committed is formed again after a crash, under the token that it had."""
    written: dict[str, list[int]] = {}
    committed, at, crashed = 0, 0, set[int]()
    bench = Bench()
    while committed < len(LOG):
        if at < len(LOG):
            bench.take(LOG[at])
            at += 1
        made = bench.intake.round() if rounds[at - 1] or at == len(LOG) else None
        if made is None:
            continue
        written |= {batch.token: batch.flows["flow_id"].to_pylist() for batch in made.batches}
        if crashes[at - 1] and at not in crashed:
            crashed.add(at)
            bench = Bench()
            bench.intake.begin(FLOWS_0, *made.intents[FLOWS_0])
            at = committed
        else:
            committed = made.offsets[FLOWS_0]

    assert sorted(number for numbers in written.values() for number in numbers) == ids_of(*range(12))


@given(st.lists(st.integers(0, 30)))
def test_a_number_is_new_once(numbers: list[int]) -> None:
    """In whatever order they come."""
    seen = Seen()

    assert [seen.is_new(("s", "h", "e"), number) for number in numbers] == [
        number not in numbers[:place] for place, number in enumerate(numbers)
    ]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up sensors and holes costs no memory; what is forgotten is merged by content."""
    monkeypatch.setattr(intake, "MOST_SOURCES", 3)
    monkeypatch.setattr(intake, "MOST_HOLES", 5)
    seen = Seen()

    for number in range(100):
        seen.is_new(("s", "h", str(number)), 0)
        seen.is_new(("s", "h", "99"), 2 * number)

    assert len(seen._sources) == 3
    assert all(len(numbers.others) <= 5 for numbers in seen._sources.values())
