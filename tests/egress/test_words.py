"""Numbers, times and foreign text as a person should see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.words import moment, safe, share, size


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (24_000_352, "24.0 MB"),
        (141_000_000_000, "141 GB"),
        (999_600, "1.0 MB"),
        (2**63, "9.2 EB"),
    ],
)
def test_sizes_read_in_decimal_units(number: int, text: str) -> None:
    """Three digits that count, and never `1000 kB`."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0, "0.0 %"), (0.0004, "<0.1 %"), (0.0891, "8.9 %"), (1.0, "100 %"), (35.7, "3,570 %")]
)
def test_shares_read_in_percent(fraction: float, text: str) -> None:
    """A trace is said to be a trace, not nothing."""
    assert share(fraction) == text


def test_times_of_impossible_years_are_still_shown() -> None:
    """A counter of 2^63 microseconds is a wrong clock, not a crash."""
    assert moment(2**63 - 1) == "9999-12-31T23:59:59Z"
    assert moment(-(2**63)) == "0001-01-01T00:00:00Z"


def test_terminal_sequences_are_spelled_out() -> None:
    """Escape, carriage return and a right-to-left override can rewrite a line on the analyst's screen."""
    assert safe("ok\x1b[2J\r\u202egnp") == "ok\\x1b[2J\\x0d\\u202egnp"


@given(st.text())
def test_safe_text_holds_no_control_or_format_character(text: str) -> None:
    """Whatever a capture holds."""
    assert safe(text).isprintable()
