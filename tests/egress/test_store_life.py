"""A store that is opened again, interrupted, killed, full, or of other code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from egress.errors import StoreError
from egress.store import Store, open_store, run_of
from tests.egress.stored import SUMS, flows, sums

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_what_was_stored_is_there_after_reopening(tmp_path: Path) -> None:
    """And writing goes on."""
    where = str(tmp_path / "store")
    given = flows(100)
    with open_store(where) as store:
        store.insert_flows(given[:60])
    with open_store(where) as store:
        store.insert_flows(given[40:])
    with open_store(where) as store:
        assert store.query(SUMS).row(0) == sums(given)


def _with_meta(where: str, key: str, value: str) -> None:
    with open_store(where) as store:
        store._call(lambda client: client.command(f"ALTER TABLE meta DELETE WHERE key = '{key}'"))
        store._call(lambda client: client.insert("meta", [[key, value]], column_names=["key", "value"]))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("schema_version", "99", "newer Egress .schema 99.*update Egress"), ("tables", "x", "another build of Egress")],
)
def test_a_store_that_other_code_made_is_refused(tmp_path: Path, key: str, value: str, says: str) -> None:
    """Before anything is written into it."""
    _with_meta(str(tmp_path / "store"), key, value)
    store = open_store(str(tmp_path / "store"))

    with pytest.raises(StoreError, match=says):
        store.flush()


def test_a_store_whose_making_was_interrupted_is_finished(tmp_path: Path) -> None:
    """Its version is written last."""
    where = str(tmp_path / "store")
    with open_store(where) as store:
        store._call(lambda client: client.command("DROP VIEW peers"))
        store._call(lambda client: client.command("ALTER TABLE meta DELETE WHERE 1"))

    with open_store(where) as store:
        assert store.query("SELECT count() AS n FROM peers")["n"][0] == 0


def test_a_query_that_is_wrong_is_a_store_error(store: Store) -> None:
    """With ClickHouse's words in it."""
    with pytest.raises(StoreError, match="Unknown table expression identifier 'nosuch'"):
        store.query("SELECT * FROM nosuch")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Closing twice is fine."""
    store = open_store(str(tmp_path / "store"))
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed; open it again"):
        store.query("SELECT 1")


def test_ctrl_c_stops_a_query_and_leaves_the_store_usable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """ClickHouse itself does not listen to it."""
    monkeypatch.setattr("egress.store.QUERY_SECONDS", 20)
    store.flush()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        store.query("SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 9")

    assert store.query("SELECT 1 AS one")["one"].to_list() == [1]
    assert time.monotonic() - begun < 10


def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """Its lock goes with it, what it had written stays."""
    code = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[2]); import test_store as t;"
        "s = t.open_store(sys.argv[1]);"
        "s.insert_flows(t.flows(100)); s.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    where = str(tmp_path / "store")
    process = subprocess.run([sys.executable, "-c", code, where, str(Path(__file__).parent)], check=False)

    with open_store(where) as store:
        assert process.returncode == -signal.SIGKILL
        assert store.query(SUMS).row(0) == sums(flows(100))


def test_a_run_is_known_by_what_is_in_its_inputs(tmp_path: Path) -> None:
    """Not by names or order; a changed end, or one more file, is another run."""
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    one.write_bytes(b"a" * 200_000)
    two.write_bytes(b"a" * 200_000)
    three.write_bytes(b"a" * 199_999 + b"b")

    assert run_of([one]) == run_of([two])
    assert run_of([one, three]) == run_of([three, two])
    assert len({run_of(paths) for paths in ([one], [three], [one, one], [Path("-")], [])}) == 5


@pytest.mark.service
def test_a_full_disk_is_explained(tmp_path: Path, require: Callable[[str, str], str]) -> None:
    """A file system of 24 MB, which a million rows do not fit into."""
    mount = require("mount", "apt-get install mount")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False).returncode:
        require("the right to mount", "run the tests as root")
    try:
        with pytest.raises(StoreError, match="the disk is full; make room"):
            _fill(str(place / "store"))
    finally:
        subprocess.run(["umount", place], check=True)


def _fill(where: str) -> None:
    with open_store(where) as store:
        for seed in range(60):
            store.insert_flows(flows(20_000, seed))
