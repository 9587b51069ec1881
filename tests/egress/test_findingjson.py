"""Findings survive the trip through JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress import findingjson
from egress.contracts import Destination, Finding, Level, ModelShare

WORDS = st.text(max_size=20)
BYTES = st.integers(0, 2**64 - 1)
TIMES = st.integers(0, 2**53)

FINDINGS = st.builds(
    Finding,
    uid=WORDS,
    detector=WORDS,
    subject=WORDS,
    host=WORDS,
    level=st.sampled_from(Level),
    title=WORDS,
    bytes=BYTES,
    window=WORDS,
    start=TIMES,
    first_seen=TIMES,
    last_seen=TIMES,
    level_times=st.dictionaries(st.sampled_from(Level), TIMES),
    models=st.lists(st.builds(ModelShare, WORDS, BYTES, BYTES, st.booleans()), max_size=3).map(tuple),
    destinations=st.lists(
        st.builds(
            Destination,
            WORDS,
            WORDS,
            BYTES,
            st.lists(WORDS, max_size=2).map(tuple),
            st.lists(WORDS, max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    path=st.lists(WORDS, max_size=3).map(tuple),
    reasons=st.lists(WORDS, max_size=3).map(tuple),
    evidence=st.lists(st.dictionaries(WORDS, WORDS | BYTES, max_size=3), max_size=3).map(tuple),
    is_closed=st.booleans(),
    revision=st.integers(1, 2**32 - 1),
)


@given(FINDINGS)
def test_what_was_encoded_is_decoded_to_the_same_finding(finding: Finding) -> None:
    """Including bytes past 2^53 and any text."""
    assert findingjson.decode(findingjson.encode(finding)) == finding


@given(FINDINGS)
@pytest.mark.slow
def test_a_finding_is_one_line(finding: Finding) -> None:
    """Line breaks in captured strings stay inside their quotes."""
    assert "\n" not in findingjson.encode(finding)
