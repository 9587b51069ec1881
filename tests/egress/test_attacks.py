"""What a thief would try, one test each: from flows and the files that a site writes to findings.

The model is four files of 6,000,088 bytes. Levels are 1/64, 1/32, 1/16 and 1/4 of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from egress import configfile, ledger
from egress.contracts import Finding, Level
from egress.inventory import Inventory
from tests.egress.strategies import DAY, HOUR, MINUTE, MODEL_BYTES, NOON, Transfer, flows_of

GPU, SECOND_GPU, RELAY, AGENT = "10.0.1.10", "10.0.2.20", "10.0.3.30", "10.0.4.40"
GPU_V6 = "fd00:1::10"
DROP, OTHER_DROP, BACKUP = "198.51.100.10", "192.0.2.77", "203.0.113.5"
QUARTER = MODEL_BYTES // 4

FLEET = f"""
lifecycle = "lifecycle.jsonl"
[fleet]
internal = ["10.0.0.0/8", "fd00::/8"]
resolvers = ["10.0.0.53"]
[[fleet.hosts]]
id = "gpu"
addresses = ["{GPU}", "{GPU_V6}"]
role = "training"
[[fleet.hosts]]
id = "gpu-2"
addresses = ["{SECOND_GPU}"]
role = "training"
[[fleet.hosts]]
id = "relay"
addresses = ["{RELAY}"]
[[fleet.hosts]]
id = "agent"
addresses = ["{AGENT}"]
role = "agent"
[[models]]
id = "m"
bytes = {MODEL_BYTES}
holders = ["gpu", "gpu-2"]
"""
APPROVAL = """
[[approvals]]
id = "backup"
hosts = ["role:training"]
to = ["203.0.113.0/24", "*.backup.example.org"]
bytes_per_day = 100_000_000
expires = 2027-01-01
owner = "platform@example.org"
ticket = "OPS-1"
"""
Judge = Callable[..., list[Finding]]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Findings of flows, or of transfers, at a site that wrote these files."""

    def findings(
        flows: pl.DataFrame | Sequence[Transfer],
        site: str = FLEET,
        lifecycle: Sequence[dict[str, object]] = (),
        receipts: Sequence[dict[str, object]] = (),
    ) -> list[Finding]:
        path = tmp_path / "egress.toml"
        path.write_text(site, encoding="utf-8")
        for name, lines in (("lifecycle", lifecycle), ("receipts", receipts)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
        inventory = Inventory(configfile.load(path))
        frame = flows if isinstance(flows, pl.DataFrame) else flows_of(flows)
        return ledger.evaluate(ledger.cells_of(inventory.attribute(frame)), inventory)

    return findings


def worst(findings: Sequence[Finding]) -> Level | None:
    return max((finding.level for finding in findings), default=None)


def theft(**changes: object) -> Transfer:
    """The whole model from the holder to a drop outside."""
    return replace(Transfer(GPU, DROP, sent=MODEL_BYTES, seconds=40), **changes)  # type: ignore[arg-type]


def assert_critical(findings: Sequence[Finding], host: str = "gpu", size: int = MODEL_BYTES) -> None:
    """One finding about the host, for all the bytes."""
    assert [(finding.host, finding.level, finding.bytes) for finding in findings] == [(host, Level.CRITICAL, size)]


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

    def test_patience_does_not_help(self, judge: Judge) -> None:
        """Half a percent of the model every other day reaches the lifetime's levels."""
        drops = [theft(sent=MODEL_BYTES // 200, start=NOON + n * 2 * DAY) for n in range(60)]

        assert worst(judge(drops)) == Level.CRITICAL

    def test_two_thefts_are_two_findings(self, judge: Judge) -> None:
        """The lifetime is long full when the second one comes."""
        first, second = judge([theft(), theft(start=NOON + 90 * DAY)])

        assert (first.level, second.level) == (Level.CRITICAL, Level.CRITICAL)
        assert second.start >= NOON + 90 * DAY

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


class TestApprovals:
    def test_hold_within_their_cap(self, judge: Judge) -> None:
        """The counterpart of all that follows."""
        assert judge([theft(dst=BACKUP)], FLEET + APPROVAL) == []

    def test_cover_nothing_beyond_their_cap(self, judge: Judge) -> None:
        """A copy hidden in an approved migration."""
        site = FLEET + APPROVAL.replace("100_000_000", "10_000_000")

        assert_critical(judge([theft(dst=BACKUP)], site), size=MODEL_BYTES - 10_000_000)

    def test_have_a_cap_for_each_peer(self, judge: Judge) -> None:
        """One client of a service takes what a thousand would."""
        serving = APPROVAL.replace('to = ["203.0.113.0/24", "*.backup.example.org"]', "serve = [443]")
        site = FLEET + serving + "bytes_per_peer_per_day = 1_000_000\n"

        answered = Transfer(DROP, GPU, back=MODEL_BYTES, seconds=40)
        assert_critical(judge([answered], site), size=MODEL_BYTES - 1_000_000)

    def test_to_serve_do_not_cover_connections_of_the_host(self, judge: Judge) -> None:
        """Port 443 over there is not port 443 here."""
        serving = APPROVAL.replace('to = ["203.0.113.0/24", "*.backup.example.org"]', "serve = [443]")

        assert_critical(judge([theft()], FLEET + serving))

    def test_that_expired_cover_nothing(self, judge: Judge) -> None:
        """From 00:00 UTC of the day."""
        site = FLEET + APPROVAL.replace("2027-01-01", "2026-11-22")

        assert_critical(judge([theft(dst=BACKUP)], site))

    def test_of_other_hosts_cover_nothing(self, judge: Judge) -> None:
        """An approval for one role is none for another."""
        assert_critical(judge([theft(dst=BACKUP)], FLEET + APPROVAL.replace("role:training", "role:agent")))

    def test_with_a_manifest_leave_the_extra_file_unapproved(self, judge: Judge) -> None:
        """The job said one checkpoint, and took the model along."""
        checkpoint = {"path": "step-1.ckpt", "bytes": 8_000_000}
        manifest = {
            "time": "2026-11-22T11:00:00Z",
            "event": "manifest",
            "job": "nightly",
            "host": "gpu",
            "to": ["203.0.113.0/24"],
            "files": [checkpoint],
        }
        as_declared = [theft(dst=BACKUP, sent=8_000_000)]
        with_model = [*as_declared, theft(dst=BACKUP, start=NOON + 5 * MINUTE)]

        assert judge(as_declared, FLEET + APPROVAL, [manifest]) == []
        (finding,) = judge(with_model, FLEET + APPROVAL, [manifest])
        assert finding.level == Level.CRITICAL
        assert finding.bytes == pytest.approx(MODEL_BYTES, rel=0.03)


class TestReceipts:
    SITE = FLEET + APPROVAL + 'receipts = "receipts.jsonl"\nreceipt_deadline = "24h"\n'
    LATER = Transfer(GPU, DROP, sent=10, start=NOON + 3 * DAY)
    """Time goes on: without it no deadline would have passed."""

    def receipt(self, time: str, size: int = MODEL_BYTES, host: str = "gpu") -> dict[str, object]:
        return {"time": time, "approval": "backup", "host": host, "object": "o", "bytes": size}

    def test_in_time_prove(self, judge: Judge) -> None:
        """The destination has all of it."""
        proof = [self.receipt("2026-11-22T13:00:00Z")]

        assert judge([theft(dst=BACKUP), self.LATER], self.SITE, receipts=proof) == []

    def test_that_never_come_make_bytes_unapproved(self, judge: Judge) -> None:
        """Somebody else's machine behind an approved address."""
        found = judge([theft(dst=BACKUP), self.LATER], self.SITE)

        assert (worst(found), found[0].host) == (Level.CRITICAL, "gpu")
        assert found[0].bytes == pytest.approx(MODEL_BYTES, rel=0.001)

    def test_that_have_not_come_yet_prove_nothing_and_accuse_of_nothing(self, judge: Judge) -> None:
        """The deadline is a day away."""
        assert judge([theft(dst=BACKUP)], self.SITE) == []

    def test_that_come_twice_prove_once(self, judge: Judge) -> None:
        """A third of the bytes, said three times."""
        thrice = [self.receipt("2026-11-22T13:00:00Z", size=MODEL_BYTES // 3)] * 3

        assert worst(judge([theft(dst=BACKUP), self.LATER], self.SITE, receipts=thrice)) == Level.CRITICAL

    @pytest.mark.parametrize(
        "proof",
        [
            {"time": "2026-11-23T13:00:00Z"},
            {"time": "2026-11-22T13:00:00Z", "host": "gpu-2"},
            {"time": "2026-11-22T13:00:00Z", "size": 8_000_000},
        ],
        ids=["late", "of another host", "for a third of it"],
    )
    def test_that_do_not_cover_it_prove_no_copy(self, judge: Judge, proof: dict[str, object]) -> None:
        """Too late, somebody else's, or less than what was sent."""
        found = judge([theft(dst=BACKUP), self.LATER], self.SITE, receipts=[self.receipt(**proof)])  # type: ignore[arg-type]

        assert worst(found) == Level.CRITICAL


class TestTolerance:
    SITE = FLEET + '[[fleet.roles]]\nid = "training"\ntolerated_bytes_per_day = 100_000\n'

    def drip(self, size: int) -> list[Transfer]:
        return [theft(sent=size, start=NOON + n * DAY) for n in range(100)]

    def test_is_what_a_site_accepts(self, judge: Judge) -> None:
        """Signed off, so silent; the board shows how many days it takes."""
        assert judge(self.drip(100_000), self.SITE) == []

    def test_covers_nothing_above_it(self, judge: Judge) -> None:
        """70 kB a day too much is 7 MB after a hundred days."""
        assert worst(judge(self.drip(170_000), self.SITE)) == Level.CRITICAL

    def test_is_not_saved_up(self, judge: Judge) -> None:
        """A hundred silent days buy nothing."""
        found = judge([theft(sent=10), theft(start=NOON + 100 * DAY)], self.SITE)

        assert [(finding.level, finding.bytes) for finding in found] == [(Level.CRITICAL, MODEL_BYTES - 100_000)]

    def test_of_each_holder_does_not_hide_what_a_cap_forbids(self, judge: Judge) -> None:
        """Two holders within their tolerance, above what the model may lose a day."""
        site = self.SITE.replace('holders = ["gpu", "gpu-2"]', 'holders = ["gpu*"]\ntolerated_bytes_per_day = 100_000')
        drips = [replace(each, src=src) for each in self.drip(100_000) for src in (GPU, SECOND_GPU)]

        assert worst(judge(drips, site)) == Level.CRITICAL


class TestReviews:
    def review(self, **changes: object) -> dict[str, object]:
        return {"time": "2026-11-23T12:00:00Z", "event": "review", "host": "gpu", "by": "alice"} | changes

    AFTERWARDS = theft(sent=MODEL_BYTES // 300, start=NOON + 60 * DAY)

    def test_of_another_destination_forgive_nothing(self, judge: Judge) -> None:
        """Who looked at one place has not seen the other."""
        slow = [theft(sent=MODEL_BYTES // 100, start=NOON - n * 3 * DAY) for n in range(30)]
        about_other = self.review(destinations=[f"{OTHER_DROP}/32"])

        assert worst(judge(slow, lifecycle=[about_other])) == worst(judge(slow))

    def test_do_not_cover_what_comes_after_them(self, judge: Judge) -> None:
        """A review is no licence."""
        assert worst(judge([theft(start=NOON + 3 * DAY)], lifecycle=[self.review()])) == Level.CRITICAL


class TestRetirement:
    def test_makes_everything_weigh_one_level_more(self, judge: Judge) -> None:
        """A model about to go has a reason to hurry."""
        request = {"time": "2026-11-22T11:00:00Z", "event": "retire_requested", "model": "m", "by": "alice"}
        a_little = [theft(sent=MODEL_BYTES // 60)]

        assert worst(judge(a_little)) == Level.INFO
        assert worst(judge(a_little, lifecycle=[request])) == Level.MEDIUM

    def test_counts_what_is_unproven_as_unapproved(self, judge: Judge) -> None:
        """An approved destination is the best place to hide a copy."""
        request = {"time": "2026-11-22T11:00:00Z", "event": "retire_requested", "model": "m", "by": "alice"}

        assert worst(judge([theft(dst=BACKUP)], FLEET + APPROVAL, [request])) == Level.CRITICAL


class TestClocksAndCounters:
    def busy(self, minutes: int = 12_000) -> list[Transfer]:
        """More than a week of little things."""
        return [Transfer(GPU, DROP, sent=1, start=NOON + n * MINUTE, seconds=0) for n in range(minutes)]

    def test_a_theft_after_a_quiet_month_keeps_its_time(self, judge: Judge) -> None:
        """Few cells far from many others are no clock error: an approval that expired meanwhile stays expired."""
        site = FLEET + APPROVAL.replace("2027-01-01", "2026-12-15")

        (finding,) = judge([*self.busy(), theft(dst=BACKUP, start=NOON + 38 * DAY)], site)

        assert (finding.level, finding.start) == (Level.CRITICAL, NOON + 38 * DAY)

    def test_a_few_packets_after_a_quiet_month_close_nothing(self, judge: Judge) -> None:
        """They may come from a clock that is a month ahead."""
        ahead = Transfer(GPU, DROP, sent=1, start=NOON + 38 * DAY, seconds=0)

        (finding,) = judge([*self.busy(), theft(start=NOON + 8 * DAY), ahead])

        assert not finding.is_closed

    @pytest.mark.parametrize("broken", [4_300_000_000_000_000, 0], ids=["2106", "1970"])
    def test_a_packet_from_another_century_hides_nothing(self, judge: Judge, broken: int) -> None:
        """It moves no window and closes no episode."""
        stray = Transfer(GPU, DROP, sent=100, start=broken, seconds=0)
        plain, (finding,) = judge([theft()]), judge([theft(), stray])

        assert (finding.level, finding.start, finding.is_closed) == (plain[0].level, plain[0].start, False)
        assert finding.bytes == MODEL_BYTES + 100

    def test_a_theft_stamped_in_another_century_is_still_found(self, judge: Judge) -> None:
        """Charged, at the nearest credible time."""
        ordinary = [Transfer(GPU, DROP, sent=10, start=NOON + n * MINUTE) for n in range(200)]

        assert worst(judge([*ordinary, theft(start=4_300_000_000_000_000)])) == Level.CRITICAL

    @pytest.mark.parametrize("size", [2**31 + 1, 2**32 + 1, 2**53 + 1, 2**61 + 1])
    def test_counters_do_not_wrap_or_round(self, judge: Judge, size: int) -> None:
        """In one row."""
        assert_critical(judge([theft(sent=size)]), size=size)

    def test_a_conversation_of_weeks_is_charged_where_it_went(self, judge: Judge) -> None:
        """One record at the end of a connection that never closed."""
        assert worst(judge([theft(seconds=20 * 86_400)])) == Level.CRITICAL

    def test_a_row_that_ends_before_it_starts_is_charged(self, judge: Judge) -> None:
        """Somebody else's exporter lost its clock."""
        flows = flows_of([theft()]).with_columns(start=pl.col("end"), end=pl.col("start"))

        assert_critical(judge(flows))
