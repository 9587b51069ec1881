"""What a spool holds after a crash, on a broken disk and on a full one."""

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

from egress.spool import Spool
from egress.tombstones import Tombstone
from tests.egress.spools import KIB, ROOMY, deliver, everything, parcel

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


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


@pytest.mark.slow
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
    from tests.egress.spools import parcel
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
