"""Draws what `make demo` prints into docs/demo.svg: the real tables of a real run, nothing is made up."""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from egress import configfile, inputs, report
from egress.contracts import ReadSettings
from egress.replay import Request, replay

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "tests" / "data" / "demo"
WIDTH = 124
COMMAND = "$ egress replay tests/data/demo/*.pcap --config tests/data/demo/egress.toml"


def picture() -> str:
    """The SVG; the same for the same findings, whatever terminal this runs in."""
    config = configfile.load(DEMO / "egress.toml")
    paths = tuple(inputs.expand(sorted(DEMO.glob("*.pcap"))))
    outcome = replay(Request(paths, config, ReadSettings(resolvers=config.fleet.resolvers)))
    console = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    console.print(Text(f"{COMMAND}\n"))
    report.show(outcome, console)
    # rich would have the reader's browser fetch a font from somewhere
    return re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="egress replay", theme=MONOKAI), flags=re.S)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "demo.svg"
    target.write_text(picture(), encoding="utf-8")
    print(target)
