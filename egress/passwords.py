"""Passwords of services: declared by where they are, never held in a file of settings; read when they are needed."""

from __future__ import annotations

import os
from pathlib import Path

from egress import configvalues as read
from egress.configtable import Key
from egress.errors import ConfigError


def keys(variable: str, file: str) -> tuple[Key, ...]:
    """The keys of a section whose service asks for a password; the arguments are examples."""
    return (
        Key(
            "password_env",
            read.identifier,
            "environment variable that holds the password",
            f'"{variable}"',
            default="",
            shown_default="none",
        ),
        Key(
            "password_file",
            read.text,
            "file that holds the password, relative to this file",
            f'"{file}"',
            default="",
            shown_default="none",
        ),
        Key(
            "password",
            read.text,
            "",
            "",
            refused="secrets do not belong here: name an environment variable in password_env, or use password_file",
        ),
    )


def password_of(section: str, variable: str, file: Path | None) -> str:
    """What the file's first line, or the variable, holds. Raises ConfigError where that is nothing."""
    if file is not None:
        return _first_line(section, file)
    found = os.environ.get(variable, "")
    if not found:
        raise ConfigError(f"{section}.password_env: the environment variable {variable} is not set")
    return found


def _first_line(section: str, path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(f"{section}.password_file: {path}: cannot be read ({why})") from error
    if not lines or not lines[0]:
        raise ConfigError(f"{section}.password_file: {path}: its first line is empty; it must be the password")
    return lines[0]
