"""Packets and bytes of every conversation, each way, against an independent decoder and four other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus.comparison import ANY_FLOW, Difference, differences, exceptions, unexplained
from tests.corpus.conftest import Metered
from tests.corpus.conversations import Sums, Way, new_sums, of_capture
from tests.corpus.exceptions_page import PAGE, page_with
from tests.corpus.oracles import READERS, Oracle

pytestmark = [pytest.mark.corpus, pytest.mark.slow]


def test_every_conversation_is_what_the_independent_decoder_says(
    corpus: Path, captures: list[Path], meter: Callable[[Path], Metered]
) -> None:
    """Packets, IP bytes and payload each way, over every capture of the corpus."""
    exempt, wrong, count = exceptions(), [], Counter[str]()
    for path in captures:
        expected, actual = of_capture(path)[0], meter(path).sums
        keys = sorted(set(expected) | set(actual))
        pairs = {key: (_comparable(expected[key]), _comparable(actual[key])) for key in keys}
        found = [Difference(key, f"told {told}, counted {ours}") for key, (told, ours) in pairs.items() if told != ours]
        wrong += unexplained("decoder", _name(path, corpus), found, exempt)
        count += Counter(captures=1, told=len(keys), differing=len(found))
    print("decoder", dict(count))

    assert wrong == []


@pytest.mark.parametrize("tool", READERS)
def test_conversations_agree_with(tool: str, corpus: Path, meter: Callable[[Path], Metered]) -> None:
    """Whatever differs is in `exceptions.tsv` with its reason, and what is there still differs."""
    exempt, wrong, count = exceptions(), [], Counter[str]()
    for oracle in READERS[tool](corpus / "corpus"):
        own, carriers = _in_frames(corpus / "corpus" / oracle.path, meter)
        found = list(differences(oracle.flows, own, carriers))
        wrong += unexplained(tool, oracle.path, found, exempt)
        count += _counted(oracle, len(found))
    print(tool, dict(count))

    assert wrong == []


def test_every_exception_names_a_comparison(corpus: Path, captures: list[Path]) -> None:
    """A line for a capture that no tool speaks of would never be checked."""
    compared = {(oracle.name, oracle.path) for read in READERS.values() for oracle in read(corpus / "corpus")}
    compared |= {("decoder", _name(path, corpus)) for path in captures}

    assert [line for line in exceptions() if (line.oracle, line.path) not in compared] == []


def test_an_exception_that_differs_no_longer_fails(corpus: Path) -> None:
    """The list cannot rot: taking all differences away must be noticed for each line."""
    exempt = exceptions()
    lines = {(line.oracle, line.path) for line in exempt}

    assert all(unexplained(tool, path, [], exempt) for tool, path in lines)
    assert any(line.flow == ANY_FLOW for line in exempt)


def _name(path: Path, corpus: Path) -> str:
    return str(path.relative_to(corpus)).removeprefix("corpus/")


def _comparable(ways: tuple[Way, Way]) -> list[tuple[int, int, int]]:
    return [(way.packets, way.ip_bytes, way.payload) for way in ways]


def _in_frames(path: Path, meter: Callable[[Path], Metered]) -> tuple[Sums, Sums]:
    """Our conversations in every tool's units: our IP bytes, and what the independent decoder saw around them."""
    ours, (seen, carriers) = meter(path).sums, of_capture(path)
    own = new_sums()
    for key, ways in ours.items():
        own[key] = (_around(ways[0], seen[key][0]), _around(ways[1], seen[key][1]))
    return own, carriers


def _around(ours: Way, seen: Way) -> Way:
    frame_bytes, seen_bytes = (ours.ip_bytes + around - seen.ip_bytes for around in (seen.frame_bytes, seen.seen_bytes))
    return Way(ours.packets, ours.ip_bytes, ours.payload, frame_bytes, seen_bytes)


def _counted(oracle: Oracle, found: int) -> Counter[str]:
    return Counter(captures=1, told=len(oracle.flows), differing=found)


def test_the_page_lists_every_exception() -> None:
    """`python -m tests.corpus.exceptions_page` writes it."""
    assert page_with(exceptions()) == PAGE.read_text()
