"""Which bytes are unapproved, unproven or proven, and what only looks approved."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import accounts
from egress.addresses import bytes_of, network_of
from egress.config import Approval, Config, LifecycleEvent, Receipt
from egress.inventory import Inventory
from egress.proof import overhead
from egress.vantage import dated, largest_view
from tests.egress.strategies import (
    DAY,
    HOUR,
    MINUTE,
    MODEL_BYTES,
    NOON,
    Transfer,
    alarm_of,
    cells_of,
    few,
    findings_of,
    fleet,
    site,
    traffic,
)

PARTNER = "198.51.100.10"
MB = 1_000_000

PUSH = Approval("push", ("h1",), 10**12, NOON + 30 * DAY, "o", "t", networks=(network_of("198.51.100.0/24"),))
BY_NAME = replace(PUSH, id="named", networks=(), names=("*.partner.example",))
SERVING = replace(PUSH, id="serving", networks=(), serve=(443,))


def approved(*approvals: Approval, events: tuple[LifecycleEvent, ...] = ()) -> Config:
    return site(approvals=approvals, lifecycle=events, fleet=fleet(resolvers=frozenset([bytes_of("10.0.0.53")])))


def entries_of(config: Config, *transfers: Transfer) -> pl.DataFrame:
    inventory = Inventory(config)
    clock = dated(cells_of(config, transfers))
    seen = largest_view(clock.cells, ())
    return accounts.charge(accounts.left(accounts.sent(seen, inventory)), inventory, clock.watermark)


def sums_of(config: Config, *transfers: Transfer) -> dict[str, int]:
    """Bytes by account, where each was first; what lapsed stands under `lapsed` and, later, `unapproved`."""
    entries = entries_of(config, *transfers)
    return {str(name): sum(part["bytes"]) for (name,), part in entries.group_by("account")}


@few
@given(traffic)
@pytest.mark.slow
def test_accounts_divide_and_lose_nothing(transfers: list[Transfer]) -> None:
    """Caps, peers and overlapping approvals cut entries; their bytes stay."""
    capped = replace(PUSH, bytes_per_day=2**54, bytes_per_peer_per_day=2**32)
    plain, cut = entries_of(approved(), *transfers), entries_of(approved(capped, SERVING), *transfers)

    assert sum(cut["bytes"]) == sum(plain["bytes"])
    assert set(plain["account"]) <= {"unapproved"}


def test_an_approval_makes_bytes_unproven() -> None:
    """Without receipts and manifests nothing proves them."""
    assert sums_of(approved(PUSH), Transfer(sent=MB)) == {"unproven": MB}


@pytest.mark.parametrize(
    "transfer",
    [
        Transfer(sent=MB, dst="203.0.113.9"),
        Transfer(sent=MB, src="10.0.1.1"),
        Transfer(sent=MB, start=PUSH.expires),
        Transfer(sent=MB, tunnel="gre", outer_src="10.0.0.1", outer_dst="203.0.113.9"),
        Transfer(sent=MB, dst="203.0.113.9", tunnel="gre", outer_src="10.0.0.1", outer_dst=PARTNER),
    ],
    ids=["other destination", "other host", "expired", "other tunnel end", "other address inside the tunnel"],
)
def test_an_approval_covers_nothing_else(transfer: Transfer) -> None:
    """Host, time and every address outside must be approved."""
    assert sums_of(approved(PUSH), transfer) == {"unapproved": MB}


def test_an_expired_approval_is_named_as_the_reason() -> None:
    """Whoever reads the finding wants to know that it was approved once."""
    (finding,) = findings_of(approved(PUSH), Transfer(sent=MODEL_BYTES, start=PUSH.expires + HOUR))

    assert any("after approval push expired" in reason for reason in finding.reasons)


@pytest.mark.parametrize("name_from", ["sni", "host", ""])
def test_a_name_that_the_sender_claims_approves_nothing(name_from: str) -> None:
    """SNI and Host are written by whoever sends."""
    claimed = Transfer(sent=MB, name="files.partner.example", name_from=name_from)

    assert sums_of(approved(BY_NAME), claimed) == {"unapproved": MB}
    assert sums_of(approved(replace(BY_NAME, trust_names=True)), claimed) == {"unproven": MB}


def test_a_name_that_was_only_claimed_is_a_reason() -> None:
    """An analyst sees why the approval does not hold."""
    claimed = Transfer(sent=MODEL_BYTES, name="files.partner.example", name_from="sni")

    (finding,) = findings_of(approved(BY_NAME), claimed)

    assert any("which approval named covers, but only by sni" in reason for reason in finding.reasons)


def test_a_name_that_dns_gave_approves() -> None:
    """The resolver is the site's own."""
    assert sums_of(approved(BY_NAME), Transfer(sent=MB, name="Files.Partner.example", name_from="dns")) == {
        "unproven": MB
    }


def test_without_declared_resolvers_no_name_approves() -> None:
    """A sender can run a resolver that says what it likes."""
    config = replace(approved(BY_NAME), fleet=fleet())

    assert sums_of(config, Transfer(sent=MB, name="files.partner.example", name_from="dns")) == {"unapproved": MB}


def test_an_approved_name_does_not_speak_for_the_outer_address() -> None:
    """The name belongs to the innermost address; the packets go to the outer one."""
    inner = Transfer(sent=MB, name="files.partner.example", name_from="dns", tunnel="vxlan", outer_src="10.0.0.1")

    assert sums_of(approved(BY_NAME), replace(inner, outer_dst="203.0.113.9")) == {"unapproved": MB}


@pytest.mark.parametrize(
    ("reply", "account"),
    [
        (Transfer(sent=MB, dst_port=50_000).turned(), "unapproved"),
        (replace(Transfer(sent=MB).turned(), dst_port=443), "unproven"),
        (Transfer(sent=MB, dst_port=443), "unapproved"),
        (replace(Transfer(sent=MB).turned(), dst_port=443, proto=1), "unapproved"),
        (replace(Transfer(sent=MB, tunnel="gre", outer_src="10.0.0.1", outer_dst=PARTNER).turned()), "unapproved"),
    ],
    ids=["other port", "served port", "as a client", "icmp", "in a tunnel"],
)
def test_serving_covers_replies_from_the_served_port_only(reply: Transfer, account: str) -> None:
    """The host answers, over TCP or UDP, without a tunnel."""
    assert sums_of(approved(SERVING), reply) == {account: MB}


def test_beyond_the_daily_cap_bytes_are_unapproved_at_once() -> None:
    """The cap starts anew at 00:00 UTC."""
    capped = replace(PUSH, bytes_per_day=3 * MB)
    days = [Transfer(sent=2 * MB, start=NOON + hour * HOUR) for hour in (0, 1, 24)]

    assert sums_of(approved(capped), *days) == {"unproven": 5 * MB, "unapproved": MB}


def test_a_peer_is_a_network() -> None:
    """Other addresses of one /24 share its cap, and what is beyond does not use the cap of the day."""
    capped = replace(PUSH, bytes_per_day=4 * MB, bytes_per_peer_per_day=MB, networks=(network_of("0.0.0.0/0"),))
    sent = [Transfer(sent=2 * MB, dst=dst) for dst in (PARTNER, "198.51.100.11", "203.0.113.5")]

    assert sums_of(approved(capped), *sent) == {"unproven": 2 * MB, "unapproved": 4 * MB}


def test_the_first_approval_that_covers_counts() -> None:
    """What exceeds it does not fall to the next."""
    first = replace(PUSH, bytes_per_day=MB)

    assert sums_of(approved(first, replace(PUSH, id="wide")), Transfer(sent=3 * MB)) == {
        "unproven": MB,
        "unapproved": 2 * MB,
    }


# Manifests


def manifest(size: int, to: str = "198.51.100.0/24", time: int = NOON) -> LifecycleEvent:
    return LifecycleEvent(time, "manifest", host="h1", job="migrate", to=(to,), files=(("a", size),))


@few
@given(st.integers(1, 100 * MB), st.integers(0, 100 * MB))
@pytest.mark.slow
def test_a_file_beyond_the_manifest_is_unapproved(listed: int, extra: int) -> None:
    """What is listed is proven, 6 % over it is overhead, all else is the extra file."""
    sums = sums_of(approved(PUSH, events=(manifest(listed),)), Transfer(sent=listed + extra))

    spare = listed * 6 // 100
    expected = {"proven": listed, "unproven": min(extra, spare), "unapproved": max(0, extra - spare)}
    assert sums == {account: amount for account, amount in expected.items() if amount}


def test_a_manifest_approves_nothing() -> None:
    """It says what a job sends, not that it may."""
    assert sums_of(approved(events=(manifest(9 * MB),)), Transfer(sent=MB)) == {"unapproved": MB}


def test_a_manifest_speaks_about_its_destination_and_later_bytes_only() -> None:
    """What left before, or elsewhere, stays what the approval made it."""
    config = approved(PUSH, events=(manifest(9 * MB, to="198.51.100.10", time=NOON + HOUR),))

    before, elsewhere = Transfer(sent=MB), Transfer(sent=MB, start=NOON + 2 * HOUR, dst="198.51.100.11")

    assert sums_of(config, before, elsewhere) == {"unproven": 2 * MB}


def test_a_second_job_brings_credit_of_its_own() -> None:
    """Two manifests, two jobs, nothing beyond."""
    jobs = (manifest(MB), manifest(2 * MB, time=NOON + HOUR))
    sent = [Transfer(sent=MB), Transfer(sent=2 * MB, start=NOON + 2 * HOUR)]

    assert sums_of(approved(PUSH, events=jobs), *sent) == {"proven": 3 * MB}


# Receipts


def receipted(*receipts: tuple[int, int]) -> Approval:
    return replace(PUSH, receipts=tuple(Receipt(time, "push", "h1", "o", size) for time, size in receipts))


TICK = Transfer(src="10.0.2.1", sent=1, start=NOON + 3 * DAY)
"""Three days later somebody else sends a byte, so the data has reached that time."""


def test_a_receipt_before_its_deadline_proves() -> None:
    """Up to what it says; 6 % over it are overhead."""
    approval = receipted((NOON + HOUR, 10 * MB))

    sums = sums_of(approved(approval), Transfer(sent=10 * MB + MB // 2), TICK)

    assert (sums["proven"], sums["unproven"], sums["unapproved"]) == (10 * MB, MB // 2, 1)


@pytest.mark.parametrize("late", [None, NOON + DAY + 2 * MINUTE, NOON - 6 * MINUTE])
def test_without_a_receipt_in_time_bytes_become_unapproved_at_the_deadline(late: int | None) -> None:
    """None, one too late, one from before: nothing is proven."""
    config = approved(receipted((late, 10 * MB)) if late else receipted())

    entries = entries_of(config, Transfer(sent=10 * MB), TICK).filter(pl.col("host") == "h1")

    lapsed = entries.filter(pl.col("account") == "unapproved")
    assert (sum(lapsed["bytes"]), lapsed["first"].to_list()) == (10 * MB, [NOON + DAY + MINUTE])


@pytest.mark.parametrize(("ahead_us", "proven"), [(5 * MINUTE, 10 * MB), (5 * MINUTE + 1, 0)])
def test_a_fast_clock_of_the_host_costs_no_receipt(ahead_us: int, proven: int) -> None:
    """Up to five minutes apart: the bytes seem to leave after the receipt for them had come."""
    config = approved(receipted((NOON, 10 * MB)))

    sums = sums_of(config, Transfer(sent=10 * MB, start=NOON + ahead_us, seconds=1), TICK)

    assert sums.get("proven", 0) == proven


@pytest.mark.parametrize("receipts", [(), ((NOON + 9 * DAY, MB),)], ids=["none", "one that is late"])
def test_a_deadline_that_the_data_has_not_reached_has_not_passed(receipts: tuple[tuple[int, int], ...]) -> None:
    """Time comes from the record."""
    assert sums_of(approved(receipted(*receipts)), Transfer(sent=MB)) == {"unproven": MB}


def test_missed_receipts_raise_at_their_deadline() -> None:
    """The finding names the approval and begins when the bytes became unapproved."""
    config = approved(receipted())

    (finding,) = findings_of(config, Transfer(sent=MODEL_BYTES), TICK)

    assert finding.start == NOON + DAY + MINUTE
    assert any("push without a receipt within 24 h" in reason for reason in finding.reasons)


def test_honest_receipts_do_not_carry_a_theft_along() -> None:
    """A copy to one's own bucket, amid daily uploads that are confirmed, stands alone at its deadline."""
    days = range(12)
    approval = receipted(*((NOON + day * DAY + HOUR, 10 * MB) for day in days))
    uploads = [Transfer(sent=10 * MB, start=NOON + day * DAY) for day in days]
    theft = Transfer(sent=5 * MB, start=NOON + 2 * DAY + 2 * HOUR)

    entries = entries_of(approved(approval), *uploads, theft, replace(TICK, start=NOON + 13 * DAY))

    lapsed = entries.filter((pl.col("account") == "unapproved") & (pl.col("host") == "h1"))
    assert lapsed["first"].to_list() == [NOON + 3 * DAY + 2 * HOUR + MINUTE]
    assert lapsed["bytes"].to_list() == [5 * MB - overhead(10 * MB)]


def test_overhead_is_not_saved_up_for_a_theft() -> None:
    """Ten days of uploads without any overhead excuse no more than the last one does."""
    days = range(11)
    approval = receipted(*((NOON + day * DAY + HOUR, 10 * MB) for day in days))
    uploads = [Transfer(sent=10 * MB, start=NOON + day * DAY) for day in days]
    theft = Transfer(sent=5 * MB, start=NOON + 10 * DAY + HOUR // 2)

    sums = sums_of(approved(approval), *uploads, theft, replace(TICK, start=NOON + 13 * DAY))

    assert (sums["proven"], sums["unproven"], sums["lapsed"]) == (
        110 * MB,
        overhead(10 * MB),
        5 * MB - overhead(10 * MB),
    )


@few
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20 * MB)), max_size=6))
@pytest.mark.slow
def test_receipts_never_prove_more_than_they_say(receipts: list[tuple[int, int]]) -> None:
    """Nor more than left; and no byte is lost on the way."""
    times = tuple((NOON + hour * HOUR, size) for hour, size in receipts)
    sent = [Transfer(sent=4 * MB, start=NOON + hour * HOUR) for hour in range(0, 30, 3)]

    sums = sums_of(approved(receipted(*times)), *sent, TICK)

    assert sums.get("proven", 0) <= min(40 * MB, sum(size for _, size in receipts))
    assert sums.get("proven", 0) + sums.get("unproven", 0) + sums["unapproved"] - 1 == 40 * MB
    assert sums.get("lapsed", 0) == sums["unapproved"] - 1


# Tolerance


def test_tolerance_is_used_up_each_day_and_not_saved() -> None:
    """Excess begins where the day's tolerance ends."""
    host = replace(fleet().hosts[0], tolerated_bytes_per_day=3 * MB)
    config = replace(site(), fleet=replace(fleet(), hosts=(host,)))
    days = [Transfer(sent=size * MB, start=NOON + day * DAY) for day, size in enumerate((0, 5, 2))]

    over = accounts.excess(entries_of(config, *days), Inventory(config))

    assert over["bytes"].to_list() == [2 * MB, 0]
    assert over["tolerated"].to_list() == [3 * MB, 2 * MB]


def test_tolerated_traffic_raises_nothing_and_theft_beyond_it_does() -> None:
    """1 MB a day would pass 1/4 of the model in a week."""
    host = replace(fleet().hosts[0], tolerated_bytes_per_day=MB)
    config = replace(site(), fleet=replace(fleet(), hosts=(host,)))
    chatter = [Transfer(sent=MB, start=NOON + day * DAY) for day in range(30)]

    assert findings_of(config, *chatter) == []
    assert alarm_of(findings_of(config, *chatter, Transfer(sent=MODEL_BYTES, start=NOON + 9 * DAY + HOUR))) == 5


# What hides nothing


@pytest.mark.parametrize(
    "theft",
    [
        Transfer(src="10.0.0.77"),
        Transfer(src="203.0.113.77", tunnel="ipip", outer_src="10.0.0.1", outer_dst=PARTNER),
        Transfer(dst="10.5.5.5", tunnel="gre", outer_src="10.0.0.1", outer_dst=PARTNER),
        Transfer(dst="fe80::1", tunnel="gre", outer_src="10.0.0.1", outer_dst=PARTNER),
        Transfer(dst="2001:db8::7", tunnel="6in4", outer_src="10.0.0.1", outer_dst="10.0.2.1"),
        Transfer(name="files.partner.example", name_from="sni", dst="203.0.113.9"),
    ],
    ids=["unlisted source", "spoofed inner source", "private inner", "link-local inner", "inner outside", "sni"],
)
def test_no_disguise_hides_a_theft(theft: Transfer) -> None:
    """Whoever sends pays for what left, by its inner or its outer address, once."""
    found = findings_of(approved(BY_NAME), replace(theft, sent=MODEL_BYTES))

    assert [finding.bytes for finding in found] == [MODEL_BYTES]
    assert alarm_of(found) == 5
