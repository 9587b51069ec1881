"""A file is there whole, or as it was before."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from egress.wholefile import whole


def test_a_file_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.jsonl"

    with whole(path) as unfinished:
        unfinished.write_text("all")
        assert not path.exists()

    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    path.write_text("before")

    with pytest.raises(UnicodeEncodeError), whole(path) as unfinished:
        unfinished.write_text("half é", encoding="ascii")

    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_it_stays_as_it_was(tmp_path: Path) -> None:
    """Also while it is written."""
    path = tmp_path / "found.jsonl"
    path.write_text("before")
    path.chmod(0o600)

    with whole(path) as unfinished:
        unfinished.write_text("all")
        assert unfinished.stat().st_mode & 0o777 == 0o600

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """`/dev/stdout` is one, also where the output was sent to a file."""
    path, target = tmp_path / "link", tmp_path / "target"
    target.write_text("")
    path.symlink_to(target)

    with whole(path) as there:
        there.write_text("all")

    assert path.is_symlink()
    assert target.read_text() == "all"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()

    with whole(path) as there:
        there.write_text("all")
    reader.join()

    assert read == ["all"]
