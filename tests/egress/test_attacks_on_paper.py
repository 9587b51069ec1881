"""What a thief would try with approvals, receipts, tolerances and reviews, one test each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from egress.contracts import Level
from tests.egress.strategies import DAY, MINUTE, MODEL_BYTES, NOON, Transfer
from tests.egress.thefts import (
    APPROVAL,
    BACKUP,
    DROP,
    FLEET,
    GPU,
    OTHER_DROP,
    SECOND_GPU,
    Judge,
    assert_critical,
    theft,
    worst,
)


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

    @pytest.mark.slow
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
