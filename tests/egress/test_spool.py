"""The spool: in order, bounded, whole after any crash, exact about what it gave up."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress import spool as spool_module
from egress.errors import StoreError
from egress.segments import Parcel
from egress.spool import Spool
from egress.tombstones import Tombstone

KIB = 1 << 10
ROOMY = 64 << 20

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def parcel(seq: int, size: int = 900, host: str = "h1", rows: int = 10) -> Parcel:
    """Its value says which it is."""
    said = {"schema": "egress.flows.v1", "host": host, "sensor": "capture/replay", "boot": "", "epoch": "e1"}
    headers = [*said.items(), ("seq", str(seq)), ("rows", str(rows))]
    value = f"{host}:{seq}:".encode().ljust(size, b"x")
    return Parcel("flows", host.encode(), value, tuple((name, text.encode()) for name, text in headers))


def seq_of(found: Parcel) -> int:
    return int(found.value.split(b":")[1])


def everything(spool: Spool) -> list[int]:
    """Takes all that there is, in the order in which it comes, without letting it arrive."""
    found = []
    while taken := spool.take(4 * KIB):
        found += [seq_of(each) for _, each in taken]
    return found


def deliver(spool: Spool, most: int = 1 << 30) -> list[int]:
    found = []
    while len(found) < most and (taken := spool.take(1)):
        for number, each in taken:
            found.append(seq_of(each))
            spool.arrived(number)
    return found


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


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments as a killed process leaves them: no `close`."""
    folder = tmp_path_factory.mktemp("filled") / "spool"
    spool = Spool(folder, 64 * KIB)
    for n in range(20):
        spool.append(parcel(n))
    return folder


def copied(filled: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(filled, target)
    return target


SEGMENT = 8 * KIB


@one_folder
@given(st.integers(0, SEGMENT))
def test_killed_at_any_byte_everything_before_it_is_there(filled: Path, tmp_path: Path, cut: int) -> None:
    """The last segment ends anywhere: what was whole stays, and new messages follow it."""
    target = copied(filled, tmp_path)
    last = sorted(target.glob("*.seg"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[:cut])
    first_in_last = int(last.stem)
    record = len(whole) // (20 - first_in_last)

    spool = Spool(target, 64 * KIB)
    spool.append(parcel(99))

    kept = min(cut, len(whole)) // record
    assert everything(spool) == [*range(first_in_last + kept), 99]
    assert spool.damaged_bytes == min(cut, len(whole)) - kept * record
    spool.close()


@one_folder
@given(st.integers(0, 20 * KIB), st.integers(1, 255), st.integers(1, 3))
def test_flipped_bytes_cost_the_messages_they_hit_and_no_other(
    filled: Path, tmp_path: Path, place: int, difference: int, length: int
) -> None:
    """The checksum finds them, and the next record is found behind them."""
    target = copied(filled, tmp_path)
    path = sorted(target.glob("*.seg"))[place % 3]
    data = bytearray(path.read_bytes())
    for at in range(place % len(data), min(place % len(data) + length, len(data))):
        data[at] ^= difference
    path.write_bytes(bytes(data))

    spool = Spool(target, 64 * KIB)
    found = everything(spool)

    assert found == sorted(set(found))
    assert 18 <= len(found) <= 19
    assert spool.damaged_bytes > 0
    spool.close()


def test_a_disk_that_forgets_while_running_costs_what_it_forgot(folder: Path) -> None:
    """Read back with its checksum, counted, and never sent."""
    spool = Spool(folder, ROOMY)
    for n in range(20):
        spool.append(parcel(n))
    (path,) = folder.glob("*.seg")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    found = deliver(spool)

    assert len(found) == 19
    assert spool.damaged_messages == 1
    assert spool.waiting == 0
    spool.close()


def test_a_crash_while_giving_up_is_still_a_loss_that_is_known(folder: Path) -> None:
    """The segment has its new name, and its records in it: they are read as tombstones, once."""
    spool = Spool(folder, 64 * KIB)
    for n in range(20):
        spool.append(parcel(n))
    spool.close()
    first = sorted(folder.glob("*.seg"))[0]
    first.rename(folder / "00000000000000000001.shed")

    again = Spool(folder, 64 * KIB)

    assert again.shed == [Tombstone("flows", "h1", "capture/replay", "e1", 0, 6, 7, 70, 7 * parcel(0).bytes)]
    assert everything(again) == list(range(7, 20))
    again.close()
    assert (folder / "00000000000000000001.shed").stat().st_size < 500
    assert Spool(folder, 64 * KIB).shed[0].messages == 7


def test_files_that_may_not_grow_are_made_smaller(folder: Path) -> None:
    """A limit on file size (EFBIG) is no reason to lose anything: the next segment begins."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    spool = Spool(folder, ROOMY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * KIB, hard))
    try:
        kept = [spool.append(parcel(n)) for n in range(40)]
        too_large = spool.append(parcel(40, size=20 * KIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)

    assert all(kept)
    assert not too_large
    assert spool.why_full == "File too large"
    assert [stone.messages for stone in spool.shed] == [41]
    spool.close()


@pytest.mark.service
def test_a_full_disk_costs_the_oldest_and_never_the_process(tmp_path: Path, root_user: None) -> None:
    """A disk of 256 kB that somebody else also fills; when there is room again, everything goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        spool = Spool(disk / "spool", ROOMY)
        for n in range(400):
            assert spool.append(parcel(n))
        assert spool.why_full == "No space left on device"
        (disk / "somebody_else").write_bytes(bytes(20 * KIB))
        for n in range(400, 600):
            spool.append(parcel(n))
        (disk / "somebody_else").unlink()
        for n in range(600, 610):
            assert spool.append(parcel(n))
        shed = spool.shed
        left = everything(spool)
        spool.take_back()
        spool.close()
        again = Spool(disk / "spool", ROOMY)

        assert left[-10:] == list(range(600, 610))
        assert left == sorted(left)
        assert sum(stone.messages for stone in shed) + len(left) == 610
        assert again.shed == shed
        assert everything(again) == left
        again.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


KILLED = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from tests.egress.test_spool import parcel
    from egress.spool import Spool
    spool = Spool(Path(sys.argv[1]), 1 << 20)
    for n in range(1_000_000):
        spool.append(parcel(n))
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
        if n % 7 == 6:
            for number, _ in spool.take(3000):
                spool.arrived(number)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_everything_that_it_had_taken(folder: Path) -> None:
    """Killed while it appends, sheds and delivers; what `append` returned for is there, sent, or in a tombstone."""
    root = Path(__file__).resolve().parents[2]
    for after in (10, 300, 1500):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seen = [int(process.stdout.readline()) for _ in range(after)]
            process.kill()
            seen += [int(line) for line in process.stdout]

        spool = Spool(folder, 1 << 20)
        found = everything(spool)

        gone = sum(stone.messages for stone in spool.shed)
        assert found[-1] >= seen[-1]
        assert found == sorted(set(found))
        assert found == list(range(found[0], found[-1] + 1))
        assert found[0] == 0 or gone or found[0] <= 3 * after
        spool.close()


def test_a_cap_that_holds_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="at least"):
        Spool(folder, spool_module.LEAST_BYTES - 1)
