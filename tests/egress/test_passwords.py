"""Passwords are read from where the configuration says, or it is said what is wrong there."""

from __future__ import annotations

from pathlib import Path

import pytest

from egress.clickhouse import declared_server
from egress.config import ClickHouse
from egress.errors import ConfigError
from egress.passwords import password_of


def test_the_first_line_of_a_file_is_the_password(tmp_path: Path) -> None:
    """Editors end files with a newline, which is no part of it."""
    path = tmp_path / "secret"
    path.write_text("pa ss\nnot this\n")

    assert password_of("clickhouse", "", path) == "pa ss"


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"\xff\xfe"], ids=["empty", "an empty line", "no text"])
def test_a_file_without_a_password_is_no_empty_password(content: bytes, tmp_path: Path) -> None:
    """To sign in without one would be refused by a server that has one, and let in by one that should."""
    path = tmp_path / "secret"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"clickhouse.password_file: .*secret"):
        declared_server(ClickHouse("http://db:8123", password_file=path))


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ClickHouse("http://db:8123", password_env="SECRET")
    monkeypatch.setenv("SECRET", "word")
    assert declared_server(declared).password == "word"
    monkeypatch.delenv("SECRET")

    with pytest.raises(ConfigError, match=r"clickhouse.password_env: .* SECRET is not set"):
        declared_server(declared)


def test_nothing_declared_is_left_to_the_environment() -> None:
    """`EGRESS_CLICKHOUSE_PASSWORD`, as for a store named by URL."""
    assert declared_server(ClickHouse("http://db:8123")).password is None
