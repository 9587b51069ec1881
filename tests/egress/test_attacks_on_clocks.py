"""What broken clocks and huge counters must not hide, one test each."""

from __future__ import annotations

import polars as pl
import pytest

from egress.contracts import Level
from tests.egress.strategies import DAY, MINUTE, MODEL_BYTES, NOON, Transfer, flows_of
from tests.egress.thefts import APPROVAL, BACKUP, DROP, FLEET, GPU, Judge, assert_critical, theft, worst


class TestClocksAndCounters:
    def busy(self, minutes: int = 12_000) -> list[Transfer]:
        """More than a week of little things."""
        return [Transfer(GPU, DROP, sent=1, start=NOON + n * MINUTE, seconds=0) for n in range(minutes)]

    @pytest.mark.slow
    def test_a_theft_after_a_quiet_month_keeps_its_time(self, judge: Judge) -> None:
        """Few cells far from many others are no clock error: an approval that expired meanwhile stays expired."""
        site = FLEET + APPROVAL.replace("2027-01-01", "2026-12-15")

        (finding,) = judge([*self.busy(), theft(dst=BACKUP, start=NOON + 38 * DAY)], site)

        assert (finding.level, finding.start) == (Level.CRITICAL, NOON + 38 * DAY)

    @pytest.mark.slow
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
