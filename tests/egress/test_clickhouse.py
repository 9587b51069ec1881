"""Ways to a ClickHouse, and failures in words that help."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import threading
from pathlib import Path

import pytest

from egress import clickhouse
from egress.errors import StoreError, UsageError
from egress.store import open_store


def test_a_server_is_named_by_its_url() -> None:
    """With ports and database to fall back on."""
    assert clickhouse.parse_server("http://ann@ch.example/site") == clickhouse.Server(
        False, "ch.example", 8123, "ann", "site"
    )
    assert clickhouse.parse_server("https://ch.example") == clickhouse.Server(
        True, "ch.example", 8443, "default", "egress"
    )


@pytest.mark.parametrize("url", ["http://", "http://h:port/db", "http://h/a/b"])
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    """Before anything is opened."""
    with pytest.raises(UsageError, match="store "):
        clickhouse.parse_server(url)


def test_a_password_in_a_url_is_refused_without_showing_it() -> None:
    """URLs end up in process lists and logs."""
    with pytest.raises(UsageError, match="EGRESS_CLICKHOUSE_PASSWORD") as caught:
        clickhouse.parse_server("http://ann:secret@ch.example/site")

    assert "secret" not in str(caught.value)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """ClickHouse would scatter its files among somebody's."""
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(StoreError, match="not a store's; name an empty or a new folder"):
        open_store(str(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """A capture given by mistake is not touched."""
    capture = tmp_path / "lab.pcap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1")

    with pytest.raises(StoreError, match="a file, not a folder"):
        open_store(str(capture))


def test_a_folder_locked_in_this_process_says_so(tmp_path: Path) -> None:
    """The second `open_store` is a mistake of ours, not of somebody else."""
    lock = clickhouse.FolderLock(tmp_path / "s")

    with pytest.raises(StoreError, match="already open in this process"):
        clickhouse.FolderLock(tmp_path / "s")

    lock.release()
    clickhouse.FolderLock(tmp_path / "s").release()


def _hold(folder: str, held: threading.Event, done: threading.Event) -> None:
    lock = clickhouse.FolderLock(Path(folder))
    held.set()
    done.wait(30)
    lock.release()


@pytest.mark.slow
def test_a_folder_open_in_another_process_names_that_process(tmp_path: Path) -> None:
    """ClickHouse itself says only `Error initializing EmbeddedServer: .`"""
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / "s"), held, done))
    other.start()
    assert held.wait(30)

    with pytest.raises(StoreError) as caught:
        clickhouse.FolderLock(tmp_path / "s")

    done.set()
    other.join()
    assert f"open in process {other.pid}" in str(caught.value)
    assert "one process at a time" in str(caught.value)


def test_a_folder_below_a_file_is_explained(tmp_path: Path) -> None:
    """The system's words stay in the message."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="Not a directory"):
        open_store(str(tmp_path / "file" / "store"))


class _Coded(Exception):
    def __init__(self, code: int | None, words: str) -> None:
        super().__init__(words)
        self.code = code


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (_Coded(243, "Cannot reserve 1 MiB"), "the disk is full"),
        (_Coded(516, "Authentication failed"), "EGRESS_CLICKHOUSE_PASSWORD"),
        (_Coded(497, "Not enough privileges"), "grant SELECT, INSERT"),
        (_Coded(159, "Timeout exceeded"), "narrow its time range"),
        (_Coded(394, "Query was cancelled"), "was stopped"),
        (_Coded(241, "Memory limit exceeded"), "more memory"),
        (_Coded(36, "Error initializing EmbeddedServer: ."), "open in another program"),
        (_Coded(36, "EmbeddedServer already initialized with path '/a'"), "another store open"),
        (PermissionError(errno.EACCES, "Permission denied"), "a folder of your own"),
        (_Coded(62, "Syntax error"), "ClickHouse refused"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_failure_says_what_where_and_what_next(error: Exception, says: str) -> None:
    """And keeps the engine's own words for whoever reports it."""
    message = str(clickhouse.explain(error, "/srv/store"))

    assert says in message
    assert "store /srv/store: " in message
    assert str(error) in message


@pytest.mark.slow
def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Port 1 of the loopback: nobody listens."""
    store = open_store("http://127.0.0.1:1/site")

    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/site: the server cannot be reached; check host"):
        store.flush()


@pytest.mark.slow
def test_opening_a_store_imports_no_clickhouse(tmp_path: Path) -> None:
    """The half second is paid on the store's thread, and only by commands that keep something."""
    code = "import sys, egress.store; print([m for m in sys.modules if m.startswith(('chdb', 'clickhouse_connect'))])"

    with os.popen(f'{sys.executable} -c "{code}"') as process:
        assert process.read().strip() == "[]"
