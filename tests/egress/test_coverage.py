"""What nobody saw is measured, whatever the order, the batches and the clocks of heartbeats."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from egress.beyond import CHATTER_BYTES_PER_S
from egress.config import LifecycleEvent
from egress.contracts import Level
from egress.coverage import LINE_BYTES_PER_S
from tests.egress.beats import BEATS, Beat, beats, coverage, engine, found, gap, internal
from tests.egress.strategies import (
    DAY,
    HOUR,
    MODEL_BYTES,
    NOON,
    SECOND,
    Transfer,
    flows_of,
    site,
)


def test_what_the_card_sent_beyond_the_flows_is_a_finding_by_the_ledgers_ladder() -> None:
    """A quarter of the model in ten minutes, unseen by any flow: as bad as if a flow had shown it."""
    rate = MODEL_BYTES // 4 // 600 + 1 + CHATTER_BYTES_PER_S

    (finding,) = found(beats(rate))

    assert (finding.level, finding.host, finding.destinations[0].account) == (Level.CRITICAL, "h1", "gap")
    assert MODEL_BYTES // 4 <= finding.bytes < MODEL_BYTES // 4 + 601
    assert set(finding.level_times) == set(Level)


@pytest.mark.slow
def test_flows_explain_what_the_card_sent() -> None:
    """Also what stays inside, with the frames around it; chatter alone is no finding."""
    sent = 60_000_000
    frames = 26 * (sent // 1400 + 1)

    assert gap(beats(sent // 600), internal(sent)) == 0
    assert gap(beats((sent + 52 * sent // 1400 + frames) // 600), internal(sent)) < 2000
    assert found(beats(CHATTER_BYTES_PER_S)) == []
    assert gap(beats(CHATTER_BYTES_PER_S)) == 600 * CHATTER_BYTES_PER_S


@pytest.mark.parametrize("late", [-65, 65])
def test_clocks_that_differ_by_a_minute_make_no_gap(late: int) -> None:
    """A burst that the meter dates before or after the card, and no error adds up from minute to minute."""
    burst = [Transfer(dst="10.0.1.1", sent=10_000_000, seconds=1, start=NOON + (300 + late) * SECOND)]
    rows = beats()
    for row in rows[31:]:
        row["nic_tx_bytes"] = 10**9 + 10_000_000

    assert gap(rows, *burst) == 0


def test_a_theft_is_not_hidden_by_what_flows_show_at_another_time() -> None:
    """An hour later there is as much traffic as nobody saw now."""
    rate = 16_000
    rows = [row | {"nic_tx_bytes": 10**9 + min(600, 10 * number) * rate} for number, row in enumerate(beats(count=481))]

    assert gap(rows, internal(600 * rate, start=NOON + HOUR)) == 600 * rate


def test_what_a_host_sends_to_itself_explains_nothing() -> None:
    """It passes no card."""
    config = site()
    rows = beats(100_000)

    seen = engine(rows, Transfer(dst="10.0.0.1", sent=60_000_000, seconds=600), config=config)

    assert seen.coverage().gap_bytes()["h1"] == 60_000_000


def test_a_silence_that_the_card_counted_through_is_measured() -> None:
    """The counter goes on while nobody speaks, so nothing is left to fear but what it says."""
    silent = beats(1000, missing=range(20, 50))

    assert coverage(silent).blind == ()
    assert gap(silent) == gap(beats(1000)) == 600_000


def told(rows: Sequence[Beat], by_peer: Sequence[Transfer], own: Sequence[Transfer] = ()) -> int:
    """The gap of h1, where its peers' own sensors saw what reached them."""
    made = engine(rows, *own)
    made.feed(flows_of(by_peer).with_columns(host=pl.lit("h2"), side=pl.lit("dst"), sensor=pl.lit("of h2")))
    return made.coverage().gap_bytes()["h1"]


SENT = 12_000_000
"""In ten minutes, of which h1's sensor sleeps through the middle five."""


ASLEEP = beats(SENT // 600, missing=range(16, 46))


def moved(start_s: int, seconds: int, sent: int = SENT) -> Transfer:
    return Transfer(dst="10.0.1.1", sent=sent * seconds // 600, start=NOON + start_s * SECOND, seconds=seconds)


def test_in_a_silence_peers_tell_what_they_received() -> None:
    """What another watched host got did not leave; without its word all of it would be a gap."""
    own = [moved(0, 150), moved(460, 140)]

    assert told(ASLEEP, [moved(160, 290)], own) < SENT // 20
    assert told(ASLEEP, [], own) > SENT * 290 // 600


def test_peers_tell_of_nobody_but_themselves() -> None:
    """What left is not explained by what stayed: the card sent twice of what its peers got."""
    own = [moved(0, 150), moved(460, 140)]

    assert told(ASLEEP, [moved(160, 290, SENT // 2)], own) > SENT * 290 // 600 * 45 // 100


def test_while_a_sensor_is_awake_its_own_word_counts() -> None:
    """A sensor that shows nothing of what its peers received is a finding."""
    assert told(beats(SENT // 600), [moved(0, 600)]) > SENT * 95 // 100


def test_bytes_that_both_saw_explain_the_card_once() -> None:
    """A peer repeats what the host's own sensor had said of the minutes around its silence."""
    everything = [moved(60 * minute, 60) for minute in range(10)]

    twice = told(beats(2 * SENT // 600, missing=range(16, 46)), everything, everything)

    assert twice > SENT * 90 // 100


def test_what_a_peer_saw_more_of_replaces_what_was_seen_of_it() -> None:
    """Of bytes that left in a silence the host's sensor saw half, its peer all; half as much again left unseen."""
    half, whole = ([moved(60 * minute, 60, sent) for minute in range(10)] for sent in (SENT // 2, SENT))

    unseen = told(beats(3 * SENT // 2 // 600, missing=range(16, 46)), whole, half)

    assert unseen > SENT * 60 // 100


def test_a_silence_without_the_cards_word_is_medium_at_most() -> None:
    """It says how long, and what could have left; a host that holds nothing is for information."""
    silent = {"missing": range(20, 50), "nic_tx_bytes": None}

    (of_holder,) = found(beats(**silent))  # type: ignore[arg-type]
    (of_other,) = found(beats(host="h3", **silent))  # type: ignore[arg-type]

    assert (of_holder.level, of_holder.bytes, of_other.level) == (Level.MEDIUM, 0, Level.INFO)
    assert "310 s" in of_holder.title
    assert gap(beats(**silent)) == 310 * LINE_BYTES_PER_S  # type: ignore[arg-type]


def test_two_lost_heartbeats_are_no_silence_but_their_numbers_are_missed() -> None:
    """Gaps in the sequence are findings, and cost no more than that."""
    (finding,) = found(beats(missing=[20, 21]))

    assert finding.level is Level.INFO
    assert "2 heartbeats lost" in finding.reasons[0]
    assert coverage(beats(missing=[20], nic_tx_bytes=None)).blind == ()


def test_a_fast_clock_makes_nobody_else_silent() -> None:
    """The last record of all is four minutes ahead; five minutes later than the others it would be a silence."""
    ahead = [beats(host="h2", count=count, nic_tx_bytes=None) for count in (BEATS + 24, BEATS + 34)]

    assert [len(coverage([*beats(nic_tx_bytes=None), *each]).blind) for each in ahead] == [0, 1]


def test_a_sensor_that_never_speaks_again_is_silent_until_the_last_record() -> None:
    """Killing the sensor must not end the account."""
    stopped = [*beats(nic_tx_bytes=None)[:10], *beats(host="h2")]

    (blind,) = coverage(stopped).blind

    assert (blind.host, blind.start, blind.end) == ("h1", NOON + 90 * SECOND, NOON + 600 * SECOND)


def test_a_restart_is_said() -> None:
    """Of a sensor: for information, since the card counted on."""
    rows = [*beats(10)[:30], *(row | {"epoch": "2", "seq": number} for number, row in enumerate(beats(10)[30:]))]

    (finding,) = found(rows)

    assert finding.level is Level.INFO
    assert "the sensor was restarted" in finding.reasons[0]
    assert gap(rows) == 6000


def rebooted(minutes: int, sent_after: int = 1000) -> list[Beat]:
    """Ten minutes up, some minutes nothing, ten minutes up with counters that begin anew."""
    later = beats(0, first=sent_after, boot="b", epoch="2")
    return [*beats(10), *(row | {"time": int(str(row["time"])) + (10 + minutes) * 60 * SECOND} for row in later)]


@pytest.mark.parametrize(("minutes", "level"), [(14, Level.INFO), (16, Level.MEDIUM)])
def test_a_reboot_hides_what_was_sent_before_it(minutes: int, level: Level) -> None:
    """The counter says what left since, nothing says what left until then; a quick one is everyday."""
    (finding,) = found(rebooted(minutes))
    seen = coverage(rebooted(minutes))

    assert finding.level is level
    assert [each.end - each.start for each in seen.blind] == [minutes * 60 * SECOND]
    assert seen.gap_bytes()["h1"] == 6000 + 1000 + minutes * 60 * LINE_BYTES_PER_S


def test_a_quick_reboot_while_a_model_retires_is_not_everyday() -> None:
    """That is when a copy is made."""
    retiring = site(lifecycle=(LifecycleEvent(NOON, "retire_requested", model="m"),))

    (finding,) = found(rebooted(5), config=retiring)

    assert finding.level is Level.MEDIUM


@pytest.mark.parametrize("bits", [32, 64])
def test_counters_that_run_over_go_on_from_zero(bits: int) -> None:
    """1,000 B/s across the end of a 32-bit or 64-bit counter."""
    rows = [
        row | {"nic_tx_bytes": int(str(row["nic_tx_bytes"])) % 2**bits} for row in beats(1000, first=2**bits - 5000)
    ]

    assert gap(rows) == 600_000
    assert coverage(rows).blind == ()


def test_a_counter_that_begins_anew_without_a_reboot_is_not_believed_blindly() -> None:
    """A driver was loaded again: what it counts since is counted, what it forgot is a time in which nobody counted."""
    rows = [*beats(10, first=10**12)[:30], *beats(10, first=500)[30:]]
    for row in rows[30:]:
        row["nic_tx_bytes"] = int(str(row["nic_tx_bytes"])) - 3000

    seen = coverage(rows)

    assert [each.end - each.start for each in seen.blind] == [10 * SECOND]
    assert "began anew" in found(rows)[0].reasons[0]


def test_a_counter_below_its_middle_does_not_run_over() -> None:
    """It began anew: no four gigabytes are made up."""
    rows = [*beats(10, first=10**6)[:30], *beats(10, first=0)[30:]]

    assert gap(rows) < 10**4 + LINE_BYTES_PER_S * 10
    assert len(coverage(rows).blind) == 1


def test_a_counter_that_is_higher_after_a_reboot_began_anew_all_the_same() -> None:
    """All of it was sent since."""
    seen = coverage(rebooted(5, sent_after=2 * 10**9))

    assert seen.gap_bytes()["h1"] == 6000 + 2 * 10**9 + 300 * LINE_BYTES_PER_S


def test_a_clock_that_is_set_back_makes_neither_gap_nor_silence() -> None:
    """Within an epoch heartbeats are in order of their numbers."""
    rows = [
        row | {"time": int(str(row["time"])) - (125 * SECOND if number > 30 else 0)}
        for number, row in enumerate(beats(10))
    ]

    assert (gap(rows), coverage(rows).blind) == (6000, ())


def test_however_many_heartbeats_come_from_2106() -> None:
    """They stay out."""
    rows = beats(100)
    strange = [
        row | {"time": 4_300_000_000 * SECOND + int(str(row["seq"])) * 10 * SECOND} for row in beats(0, count=200)
    ]

    assert found([*rows, *strange]) == found(rows)


@pytest.mark.parametrize("value", [2**62, 0])
def test_one_wrong_reading_is_no_evidence(value: int) -> None:
    """The readings around it agree with each other."""
    rows = beats(1000)
    rows[30]["nic_tx_bytes"] = value

    assert (gap(rows), coverage(rows).blind) == (600_000, ())


def test_a_counter_that_jumps_further_than_a_card_can_send_is_no_evidence() -> None:
    """It is a time in which nobody counted, as after a reset, and no more than that."""
    rows = beats(1000)
    for row in rows[30:]:
        row["nic_tx_bytes"] = int(str(row["nic_tx_bytes"])) + 2**62

    assert max(each.level for each in found(rows)) is Level.MEDIUM
    assert len(coverage(rows).blind) == 1


@pytest.mark.slow
@pytest.mark.parametrize("time", [4_294_967_295 * SECOND, 0, NOON + 40 * 366 * DAY])
def test_a_heartbeat_with_an_impossible_time_moves_nothing(time: int) -> None:
    """2106 is where 32 bits of seconds end, 1970 where a clock begins that was never set."""
    rows = beats(100)
    strange = [*rows, rows[5] | {"time": time, "nic_tx_bytes": 2**40, "seq": 99}]

    assert found(strange) == found(rows)
    assert coverage(strange).gap_bytes() == coverage(rows).gap_bytes()
    assert coverage(strange).misdated == 1


def test_a_review_of_the_host_drains_its_gap() -> None:
    """What somebody looked at and signed does not count for ever."""
    signed = site(lifecycle=(LifecycleEvent(NOON, "review", host="h1", until=NOON + DAY, by="alice"),))

    assert found(beats(100_000), config=signed) == []
    assert found(beats(100_000))


def test_a_host_that_passes_on_what_others_send_has_no_gap() -> None:
    """A router's card sends what others pay for."""
    config = site()
    hosts = tuple(
        host if host.id != "h1" else type(host)(host.id, host.addresses, transit=True) for host in config.fleet.hosts
    )
    routing = type(config)(type(config.fleet)(config.fleet.internal, hosts=hosts), models=config.models)

    assert found(beats(100_000), config=routing) == []
