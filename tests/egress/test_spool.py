"""The spool: in order, bounded, whole after any crash, exact about what it gave up."""

from __future__ import annotations

from pathlib import Path

import pytest

from egress import spool as spool_module
from egress.errors import StoreError
from egress.spool import Spool
from tests.egress.spools import KIB, ROOMY, deliver, everything, parcel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_messages_leave_in_the_order_in_which_they_came(folder: Path) -> None:
    """Over many segments, with their keys, values and headers as they were."""
    spool = Spool(folder, 400 * KIB)
    sent = [parcel(n) for n in range(300)]
    for each in sent:
        assert spool.append(each)

    assert len(list(folder.glob("*.seg"))) > 4
    taken = [each for _ in range(300) for _, each in spool.take(1)]
    assert taken == sent
    assert spool.take(1) == []
    spool.close()


def test_what_has_arrived_is_deleted(folder: Path) -> None:
    spool = Spool(folder, ROOMY)
    for n in range(200):
        spool.append(parcel(n))

    assert deliver(spool) == list(range(200))
    assert spool.waiting == 0
    assert spool.held_bytes == 0
    spool.close()
    assert list(folder.glob("*.seg")) == []


def test_messages_may_arrive_in_any_order(folder: Path) -> None:
    """Partitions acknowledge as they please."""
    spool = Spool(folder, 400 * KIB)
    for n in range(100):
        spool.append(parcel(n))
    taken = [number for _ in range(100) for number, _ in spool.take(1)]

    for number in [*taken[1::2], *reversed(taken[::2])]:
        spool.arrived(number)

    assert spool.waiting == 0


def test_what_has_not_arrived_is_there_after_closing(folder: Path) -> None:
    """And what has is not."""
    spool = Spool(folder, ROOMY)
    for n in range(50):
        spool.append(parcel(n))
    assert deliver(spool, 20) == list(range(20))
    everything(spool)
    spool.close()

    again = Spool(folder, ROOMY)

    assert everything(again) == list(range(20, 50))
    assert again.damaged_bytes == 0
    again.close()


def test_what_is_on_its_way_can_be_taken_back(folder: Path) -> None:
    """The producer failed for good: another one sends what was not acknowledged."""
    spool = Spool(folder, 400 * KIB)
    for n in range(100):
        spool.append(parcel(n))
    first = [number for _ in range(30) for number, _ in spool.take(1)]
    for number in first[::3]:
        spool.arrived(number)

    spool.take_back()

    assert everything(spool) == [n for n in range(100) if n >= 30 or n % 3]
    spool.close()


def test_a_full_spool_gives_up_its_oldest_and_says_which(folder: Path) -> None:
    """Rows in = rows that wait + rows in tombstones."""
    spool = Spool(folder, 64 * KIB)
    for n in range(200):
        assert spool.append(parcel(n, host=f"h{n % 2}"))

    left = everything(spool)
    shed = spool.shed

    assert left == list(range(200 - len(left), 200))
    assert spool.held_bytes <= 64 * KIB
    assert [(stone.host, stone.first_seq) for stone in shed] == [("h0", 0), ("h1", 1)]
    assert {stone.last_seq for stone in shed} == {left[0] - 1, left[0] - 2}
    assert sum(stone.messages for stone in shed) + len(left) == 200
    assert sum(stone.rows for stone in shed) == 10 * (200 - len(left))
    assert sum(stone.bytes for stone in shed) == sum(parcel(n, host="h0").bytes for n in range(200 - len(left)))
    assert "cap of 65,536 B" in spool.why_full
    spool.close()


def test_what_is_on_its_way_is_not_given_up(folder: Path) -> None:
    """It may arrive, and then a tombstone for it would be a lie: the newest goes instead."""
    spool = Spool(folder, 64 * KIB)
    for n in range(60):
        spool.append(parcel(n))
    taken = []
    while found := spool.take(KIB):
        taken += found

    kept = [spool.append(parcel(n)) for n in range(60, 80)]

    assert not kept[-1]
    assert [(stone.last_seq, stone.messages) for stone in spool.shed] == [(79, kept.count(False))]
    for number, _ in taken:
        spool.arrived(number)
    assert spool.append(parcel(80))
    spool.close()


def test_losses_are_known_until_they_were_told(folder: Path) -> None:
    """Also by the next process; and telling of them forgets only what was told."""
    spool = Spool(folder, 64 * KIB)
    for n in range(200):
        spool.append(parcel(n))
    told = spool.shed
    spool.close()
    again = Spool(folder, 64 * KIB)
    assert again.shed == told

    for n in range(200, 300):
        again.append(parcel(n))
    again.forget(told)
    more = again.shed
    again.forget(more)

    assert more[0].messages > told[0].messages
    assert again.shed == []
    again.close()
    assert Spool(folder, 64 * KIB).shed == []


def test_tombstones_stay_few_files(folder: Path) -> None:
    """A week without a broker is one sum, not a folder of files."""
    spool = Spool(folder, 64 * KIB)
    for n in range(450):
        spool.append(parcel(n))
    shed = spool.shed
    spool.close()

    assert len(list(folder.iterdir())) < 60
    assert Spool(folder, 64 * KIB).shed == shed


def test_a_message_larger_than_the_spool_is_given_up(folder: Path) -> None:
    spool = Spool(folder, 64 * KIB)

    assert not spool.append(parcel(0, size=70 * KIB))
    assert [stone.messages for stone in spool.shed] == [1]
    with pytest.raises(ValueError, match="at most"):
        spool.append(parcel(1, size=5 << 20))


def test_one_process_uses_a_spool_at_a_time(folder: Path) -> None:
    """The second hears which process is the first."""
    spool = Spool(folder, ROOMY)

    with pytest.raises(StoreError, match=r"in use by process [0-9]+; stop it, or name another folder"):
        Spool(folder, ROOMY)
    spool.close()
    Spool(folder, ROOMY).close()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(StoreError, match="not a spool's"):
        Spool(tmp_path, ROOMY)
    with pytest.raises(StoreError, match="a file, not a folder"):
        Spool(tmp_path / "thesis.tex", ROOMY)


def test_a_cap_that_holds_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="at least"):
        Spool(folder, spool_module.LEAST_BYTES - 1)
