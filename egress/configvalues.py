"""Readers of single values that people write: each gives the checked value, or raises ValueError saying what must be.

The message completes a sentence that begins with the value's place: `fleet.hosts[0].id` "is 7, must be text".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv6Address, IPv6Network, ip_interface
from typing import TypeVar

from egress.addresses import NEVER_LEAVING, bytes_of, network_of

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
DURATION_UNITS = {"s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": 86_400 * SECOND_US}
MAX_BYTES = 1 << 62
"""Sums of sizes must fit into 64 bits."""
MAX_PORT = 65_535
GLOB_CHARACTERS = "*?["

_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_NAME = re.compile(r"[a-z0-9*?_](?:[a-z0-9*?_-]*[a-z0-9*?_])?(?:\.[a-z0-9*?_](?:[a-z0-9*?_-]*[a-z0-9*?_])?)*", re.ASCII)
_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", re.ASCII)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_ADDRESS_LIKE = re.compile(r"[0-9./]+|[0-9a-fA-F:./]*:[0-9a-fA-F:./]*", re.ASCII)


def text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"is {_shown(value)}, must be text of printable characters")
    return value


def identifier(value: object) -> str:
    """A name for one thing: patterns and roles refer to it, so it may not look like either."""
    name = text(value)
    if name != name.strip() or any(character in name for character in GLOB_CHARACTERS) or name.startswith("role:"):
        raise ValueError(f"is {_shown(value)}, must be an id without `*`, `?`, `[`, outer blanks and `role:`")
    return name


def claim(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"is {_shown(value)}, must be true or false")
    return value


def size(value: object) -> int:
    """Bytes, 0 allowed."""
    return _whole(value, 0, MAX_BYTES, "bytes")


def positive_size(value: object) -> int:
    return _whole(value, 1, MAX_BYTES, "bytes")


def fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"is {_shown(value)}, must be a number, 0..1")
    return float(value)


def port(value: object) -> int:
    return _whole(value, 1, MAX_PORT, "a port")


def count(low: int, high: int, what: str) -> Callable[[object], int]:
    """A whole number of things within bounds."""
    return lambda value: _whole(value, low, high, what)


def server(value: object) -> str:
    """`host:port`, IPv6 in brackets."""
    found = _SERVER.fullmatch(text(value))
    if found is None or not 1 <= int(found[1]) <= MAX_PORT:
        raise ValueError(f"is {_shown(value)}, must be host:port such as kafka-1.example.org:9092")
    return str(value)


def topic_prefix(value: object) -> str:
    name = text(value)
    if not _TOPIC.fullmatch(name):
        raise ValueError(f"is {_shown(value)}, must be 1 to 100 letters, digits, dots, dashes or underscores")
    return name


def address(value: object) -> bytes:
    try:
        found = bytes_of(text(value))
    except ValueError:
        raise ValueError(f"is {_shown(value)}, must be an address such as 10.0.0.1 or fd00::1") from None
    return found


def host_address(value: object) -> bytes:
    """An address that can tell one host from another."""
    found = address(value)
    if any(IPv6Address(found) in network for network in NEVER_LEAVING):
        raise ValueError(f"is {_shown(value)}, must be an address that only this host has, beyond its own link")
    return found


def network(value: object) -> IPv6Network:
    try:
        return network_of(text(value))
    except ValueError:
        raise ValueError(f"is {_shown(value)}, must be a network such as 10.0.0.0/8{_meant(value)}") from None


def destination(value: object) -> IPv6Network | str:
    """A network, or a server name in lower case with `*` for any part of it."""
    written = text(value)
    if _ADDRESS_LIKE.fullmatch(written):
        return network(written)
    name = written.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or not any("a" <= character <= "z" for character in name.rpartition(".")[2]):
        raise ValueError(
            f"is {_shown(value)}, must be an address, a network, or a server name such as *.backup.example.org"
        )
    return name


def duration(value: object) -> int:
    """Microseconds of `90m`, `24h`, `7d`."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'is {_shown(value)}, must be a duration such as "90m", "24h" or "7d"')
    return int(found[1]) * DURATION_UNITS[found[2]]


def duration_between(least: str, most: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        found = duration(value)
        if not duration(least) <= found <= duration(most):
            raise ValueError(f"is {_shown(value)}, must be between {least} and {most}")
        return found

    return read


def day(value: object) -> int:
    """00:00 UTC of a TOML date, or the moment of a TOML date-time with zone, in UTC microseconds."""
    if isinstance(value, datetime):
        return _microseconds(value, value)
    if isinstance(value, date):
        return _microseconds(datetime(value.year, value.month, value.day, tzinfo=UTC), value)
    raise ValueError(f"is {_shown(value)}, must be a date such as 2027-01-01, without quotes")


def time(value: object) -> int:
    """UTC microseconds of an ISO 8601 time with its zone."""
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        raise ValueError(f"is {_shown(value)}, must be a time such as 2026-11-20T10:00:00Z") from None
    return _microseconds(moment, value)


def one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"is {_shown(value)}, must be one of {', '.join(words)}")
        return str(value)

    return read


def list_of(read: Callable[[object], T], *, at_least: int = 0) -> Callable[[object], tuple[T, ...]]:
    """Reads each item; the ValueError has one argument for each item that cannot be read, by index from 0."""

    def read_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) < at_least:
            raise ValueError(f"is {_shown(value)}, must be a list" + (f" of {at_least} or more" if at_least else ""))
        items: list[T] = []
        problems: list[str] = []
        for index, item in enumerate(value):
            try:
                items.append(read(item))
            except ValueError as problem:
                problems.append(f"[{index}] {problem}")
        if problems:
            raise ValueError(*problems)
        return tuple(items)

    return read_all


def _whole(value: object, low: int, high: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"is {_shown(value)}, must be a whole number ({what}), {low}..{high}")
    return value


def _microseconds(moment: datetime, written: object) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"is {_shown(written)}, must name its zone: add Z for UTC")
    return (moment - EPOCH) // timedelta(microseconds=1)


def _meant(value: object) -> str:
    try:
        return f"; {ip_interface(str(value)).network} is meant?"
    except ValueError:
        return ""


def _shown(value: object) -> str:
    """A value as it may stand in a message: printable, and not longer than a line bears."""
    if isinstance(value, date):
        return value.isoformat()
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
