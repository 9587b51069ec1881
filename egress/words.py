"""Numbers, times and foreign text as a person should see them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEPS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(number: int) -> str:
    """Bytes in decimal units, three digits that count: `24.0 MB`."""
    value = float(number)
    for unit in STEPS:
        if abs(value) < 999.5 or unit == STEPS[-1]:
            return f"{number} B" if unit == "B" else f"{value:.3g} {unit}" if value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def share(fraction: float) -> str:
    """A fraction in percent: `8.9 %`, `100 %`, `<0.1 %`."""
    percent = 100 * fraction
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:,.0f} %"


def moment(time_us: int) -> str:
    """UTC to the second, as ISO 8601."""
    return at(time_us).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def at(time_us: int) -> datetime:
    """Microseconds as a datetime; what no calendar holds becomes the nearest that one does."""
    latest = 253_402_300_799_000_000
    return EPOCH + timedelta(microseconds=max(-62_135_596_800_000_000, min(time_us, latest)))


def safe(text: str) -> str:
    """Foreign text with everything that could steer a terminal or reverse a line spelled out (`\\x1b`)."""
    return "".join(char if _is_plain(char) else _spelled(char) for char in text)


def _is_plain(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] not in "CZ"


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
