"""What a thief would try on the wire, one test each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.contracts import Level
from tests.egress.strategies import DAY, HOUR, MINUTE, MODEL_BYTES, NOON, Transfer, flows_of
from tests.egress.thefts import (
    AGENT,
    APPROVAL,
    BACKUP,
    DROP,
    FLEET,
    GPU,
    GPU_V6,
    OTHER_DROP,
    QUARTER,
    RELAY,
    SECOND_GPU,
    Judge,
    assert_critical,
    judged,
    theft,
    worst,
)


class TestWhoSent:
    def test_a_pull_from_outside_is_charged_to_the_host_that_answers(self, judge: Judge) -> None:
        """`wget` on the drop instead of `curl` on the host."""
        assert_critical(judge([theft().turned()]))

    def test_both_address_families_lead_to_one_account(self, judge: Judge) -> None:
        """Half over IPv4, half over IPv6: neither half alone is all of it."""
        halves = [theft(sent=MODEL_BYTES // 2), theft(src=GPU_V6, dst="2001:db8::7", sent=MODEL_BYTES // 2)]

        assert_critical(judge(halves))

    def test_an_unlisted_source_holds_what_its_neighbours_hold(self, judge: Judge) -> None:
        """A second address on the holder's link, or a spoofed one."""
        assert_critical(judge([theft(src="10.0.1.77")]), host="10.0.1.77")
        assert_critical(judge([theft(src="fd00:1::dead:beef", dst="2001:db8::7")]), host="fd00:1::dead:beef")

    @pytest.mark.parametrize("inner", ["192.168.5.5", "8.8.8.8", AGENT, "169.254.3.3", "224.0.0.9"])
    def test_a_forged_source_inside_a_tunnel_is_not_believed(self, judge: Judge, inner: str) -> None:
        """The outer address sent it."""
        forged = theft(src=inner, tunnel="gre", outer_src=GPU, outer_dst=DROP)

        assert_critical(judge([forged]))

    def test_the_collector_on_the_host_knows_who_sent_whatever_the_source_says(self, judge: Judge) -> None:
        """A foreign source address would otherwise belong to nobody."""
        forged = flows_of([theft(src="8.8.8.8")]).with_columns(host=pl.lit("gpu"))

        assert_critical(judge(forged))

    def test_two_sensors_do_not_double_a_theft_and_a_blind_one_does_not_hide_it(self, judge: Judge) -> None:
        """The larger view counts."""
        seen_twice = [theft(), theft(sensor="switch"), theft(sensor="blind", sent=1000)]

        assert_critical(judge(seen_twice))


class TestWhereTo:
    @pytest.mark.parametrize("inner", ["192.168.5.5", SECOND_GPU, "10.99.0.1", "ff02::1", "127.0.0.1", BACKUP])
    def test_an_inner_address_does_not_say_where_a_tunnel_ends(self, judge: Judge, inner: str) -> None:
        """Private, ours, multicast, loopback or approved: the outer address is a stranger's."""
        wrapped = theft(dst=inner, tunnel="vxlan", outer_src=GPU, outer_dst=DROP)

        assert_critical(judge([wrapped], FLEET + APPROVAL))

    def test_an_outer_address_inside_does_not_say_where_the_inner_goes(self, judge: Judge) -> None:
        """A tunnel to a gateway of ours, and from there to a drop."""
        wrapped = theft(tunnel="gre", outer_src=GPU, outer_dst="10.200.0.1")

        assert "gpu" in {finding.host for finding in judge([wrapped]) if finding.level == Level.CRITICAL}

    def test_a_name_that_the_sender_claims_approves_nothing(self, judge: Judge) -> None:
        """An SNI of the approved domain in a connection to the drop."""
        for evidence in ("sni", "host", "log", ""):
            claimed = theft(name="a.backup.example.org", name_from=evidence)

            assert_critical(judge([claimed], FLEET + APPROVAL))

    def test_a_name_that_our_resolver_gave_approves(self, judge: Judge) -> None:
        """The counterpart: the test above does not just find everything."""
        answered = theft(name="a.backup.example.org", name_from="dns")

        assert judge([answered], FLEET + APPROVAL) == []

    def test_an_answer_of_any_resolver_approves_nothing(self, judge: Judge) -> None:
        """Without declared resolvers the thief's own may have answered."""
        site = FLEET.replace('resolvers = ["10.0.0.53"]\n', "") + APPROVAL

        assert_critical(judge([theft(name="a.backup.example.org", name_from="dns")], site))

    @pytest.mark.parametrize("name", ["backup.example.org.evil.net", "xbackup.example.org", "backup.example.org"])
    def test_a_name_that_only_looks_approved_is_not(self, judge: Judge, name: str) -> None:
        """`*.backup.example.org` ends where it ends and needs its dot."""
        assert_critical(judge([theft(name=name, name_from="dns")], FLEET + APPROVAL))


class TestHowBytesAreHidden:
    def test_bulk_in_ip_options_is_charged(self, judge: Judge) -> None:
        """No payload at all, and packets far larger than headers."""
        flows = flows_of([theft()]).with_columns(
            src_payload=pl.lit(0, pl.UInt64),
            src_packets=pl.lit(20_000, pl.UInt64),
            src_bytes=pl.lit(MODEL_BYTES + 80 * 20_000, pl.UInt64),
        )

        assert_critical(judge(flows))

    def test_forged_sequence_numbers_change_nothing(self, judge: Judge) -> None:
        """Every byte declared a retransmission, or missing."""
        flows = flows_of([theft()])
        forged = flows.with_columns(retransmits=pl.col("src_payload"), missed=pl.lit(2**40, pl.UInt64))

        assert_critical(judge(forged))

    @pytest.mark.parametrize("proto", [1, 6, 17, 47, 50, 132, 253])
    def test_every_protocol_costs_the_same(self, judge: Judge, proto: int) -> None:
        """ICMP, UDP, GRE, ESP, SCTP and what nobody assigned."""
        assert_critical(judge([theft(proto=proto)]))

    def test_packets_of_one_byte_are_charged_by_their_payload(self, judge: Judge) -> None:
        """Headers weigh forty times what they carry, and the allowance for them covers none of it."""
        flows = flows_of([theft()]).with_columns(
            src_packets=pl.lit(MODEL_BYTES, pl.UInt64), src_bytes=pl.lit(41 * MODEL_BYTES, pl.UInt64)
        )

        assert_critical(judge(flows))

    def test_many_destinations_do_not_help(self, judge: Judge) -> None:
        """Five hundred drops, each far below any level."""
        share = MODEL_BYTES // 500
        scattered = [theft(dst=f"198.{n % 50}.{n // 50}.7", sent=share, start=NOON + n * MINUTE) for n in range(500)]

        (finding,) = judge(scattered)

        assert (finding.level, finding.bytes) == (Level.CRITICAL, 500 * share)

    def test_many_holders_do_not_help(self, judge: Judge) -> None:
        """Each holder stays below its own first level; together they sent 1/32."""
        share = MODEL_BYTES // 64 - 1000
        both = [theft(sent=share), theft(src=SECOND_GPU, dst=OTHER_DROP, sent=share + 2100)]

        found = judge(both)

        by_subject = {finding.subject: (finding.level, finding.bytes) for finding in found}
        assert by_subject["model:m"] == (Level.MEDIUM, 2 * share + 2100)

    @pytest.mark.slow
    def test_patience_does_not_help(self, judge: Judge) -> None:
        """Half a percent of the model every other day reaches the lifetime's levels."""
        drops = [theft(sent=MODEL_BYTES // 200, start=NOON + n * 2 * DAY) for n in range(60)]

        assert worst(judge(drops)) == Level.CRITICAL

    def test_two_thefts_are_two_findings(self, judge: Judge) -> None:
        """The lifetime is long full when the second one comes."""
        first, second = judge([theft(), theft(start=NOON + 90 * DAY)])

        assert (first.level, second.level) == (Level.CRITICAL, Level.CRITICAL)
        assert second.start >= NOON + 90 * DAY

    @pytest.mark.slow
    def test_a_slow_second_theft_after_a_full_lifetime_is_raised_at_each_quarter(self, judge: Judge) -> None:
        """Only the lifetime can see it, and it is full already."""
        slow = [theft(sent=MODEL_BYTES // 200, start=NOON + (90 + 2 * n) * DAY) for n in range(55)]

        later = [finding for finding in judge([theft(), *slow]) if finding.start >= NOON + 89 * DAY]

        assert worst(later) == Level.CRITICAL


class TestRelays:
    def relayed(self, *hosts: str) -> list[Transfer]:
        """The model from hop to hop, a quarter of an hour apart."""
        pairs = pairwise(hosts)
        return [theft(src=src, dst=dst, start=NOON + n * 15 * MINUTE) for n, (src, dst) in enumerate(pairs)]

    @pytest.mark.parametrize("hops", [("relay",), ("relay", "agent"), ("relay", "10.50.0.1", "agent")])
    def test_are_charged_once_and_named(self, judge: Judge, hops: tuple[str, ...]) -> None:
        """Through hosts that hold nothing, one or several, listed or not."""
        addresses = {"relay": RELAY, "agent": AGENT}

        found = judge(self.relayed(GPU, *(addresses.get(hop, hop) for hop in hops), DROP))

        escaped = [finding for finding in found if DROP in finding.path]
        assert escaped
        assert {finding.path for finding in escaped} == {("gpu", *hops, DROP)}
        assert {finding.bytes for finding in escaped} == {MODEL_BYTES}
        assert worst(escaped) == Level.CRITICAL

    def test_that_pull_are_charged_too(self, judge: Judge) -> None:
        """The relay connects to the holder, and the drop to the relay."""
        pulled = [transfer.turned() for transfer in self.relayed(GPU, RELAY, DROP)]

        assert worst([finding for finding in judge(pulled) if DROP in finding.path]) == Level.CRITICAL

    def test_a_copy_on_a_new_host_is_a_finding_before_it_leaves(self, judge: Judge) -> None:
        """A quarter of the model on a host that is no holder."""
        found = judge([theft(dst=RELAY, sent=QUARTER + 1000)])

        assert any(finding.host == "relay" and finding.level >= Level.HIGH for finding in found)

    def test_what_leaves_before_the_model_came_is_not_charged(self, judge: Judge) -> None:
        """Taint does not work backwards."""
        early = [theft(src=RELAY, start=NOON - HOUR), theft(dst=RELAY, start=NOON)]

        assert [finding for finding in judge(early) if DROP in finding.path] == []

    def test_cannot_be_made_up_from_outside(self, judge: Judge) -> None:
        """A stranger's tunnel with our holder's address inside taints nobody."""
        forged = theft(dst=RELAY, tunnel="gre", outer_src=DROP, outer_dst=RELAY)

        assert judge([forged, theft(src=RELAY, start=NOON + HOUR)]) == []

    def test_holders_may_copy_among_themselves(self, judge: Judge) -> None:
        """They have it already."""
        assert judge([theft(dst=SECOND_GPU)]) == []


def direct(sent: int, start: int, stranger: int) -> list[Transfer]:
    return [Transfer(GPU, f"198.51.{stranger}.9", sent=sent, start=start)]


def pulled(sent: int, start: int, stranger: int) -> list[Transfer]:
    return [Transfer(GPU_V6, f"2001:db8:{stranger:x}::9", sent=sent, start=start).turned()]


def of_the_other_holder(sent: int, start: int, stranger: int) -> list[Transfer]:
    return [Transfer(SECOND_GPU, f"192.0.2.{stranger}", sent=sent, start=start, proto=17)]


def of_a_neighbour(sent: int, start: int, stranger: int) -> list[Transfer]:
    return [Transfer(f"10.0.1.{100 + stranger % 100}", DROP, sent=sent, start=start)]


def wrapped(sent: int, start: int, stranger: int) -> list[Transfer]:
    ends = {"tunnel": "vxlan", "outer_src": GPU, "outer_dst": f"198.18.{stranger}.1"}
    return [Transfer(f"10.0.4.{stranger}", "10.0.2.20", sent=sent, start=start, **ends)]  # type: ignore[arg-type]


def relayed(sent: int, start: int, stranger: int) -> list[Transfer]:
    middle = f"10.60.{stranger}.1"
    return [Transfer(GPU, middle, sent=sent, start=start), Transfer(middle, DROP, sent=sent, start=start)]


def claimed(sent: int, start: int, stranger: int) -> list[Transfer]:
    return [Transfer(GPU, f"198.19.{stranger}.1", sent=sent, start=start, name="a.backup.example.org", name_from="sni")]


ROUTES = (direct, pulled, of_the_other_holder, of_a_neighbour, wrapped, relayed, claimed)
Cut = tuple[Callable[[int, int, int], list[Transfer]], int, int, int]
cuts = st.tuples(st.sampled_from(ROUTES), st.integers(1, 100), st.integers(0, 49), st.integers(1, 250))


@pytest.mark.slow
@given(st.lists(cuts, min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_no_mixture_of_routes_hides_a_model(tmp_path_factory: pytest.TempPathFactory, pieces: list[Cut]) -> None:
    """Cut at will and sent within an hour by any routes, a whole model is critical."""
    total = sum(weight for _, weight, _, _ in pieces)
    transfers = [
        transfer
        for route, weight, minute, stranger in pieces
        for transfer in route(-(-MODEL_BYTES * weight // total), NOON + minute * MINUTE, stranger)
    ]
    found = judged(tmp_path_factory.mktemp("site"), transfers, FLEET + APPROVAL)

    assert worst(found) == Level.CRITICAL
