"""The list of exceptions as `docs/corpus.md` shows it; `python -m tests.corpus.exceptions_page` writes it there."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.corpus.comparison import Exempt, exceptions

PAGE = Path(__file__).parents[2] / "docs" / "corpus.md"
BEGIN, END = "<!-- exceptions: begin, generated -->\n", "<!-- exceptions: end -->\n"


def table(exempt: list[Exempt]) -> str:
    """One line a capture and tool, with how many conversations differ."""
    lines = ["| tool | capture | conversations | why |", "|---|---|---|---|"]
    for (oracle, path, reason), same in groupby(exempt, key=lambda line: (line.oracle, line.path, line.reason)):
        count = sum(line.flows for line in same)
        lines.append(f"| {oracle} | `{path.removeprefix('pcap/')}` | {count} | {reason} |")
    return "\n".join(lines) + "\n"


def page_with(exempt: list[Exempt]) -> str:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table(exempt) + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page_with(exceptions()))
