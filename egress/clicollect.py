"""Words of `egress collect`; see `cli`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

SPOOL_BYTES = 1 << 30


def add_file(
    sources: argparse._SubParsersAction[argparse.ArgumentParser],
    add: Callable[..., argparse.ArgumentParser],
    add_service_options: Callable[[argparse.ArgumentParser], None],
) -> None:
    """`collect file`: what can be read again."""
    file = add(
        sources,
        "file",
        "send captures, flow files and heartbeats to the bus, by way of a spool on disk; sent again, they count once",
        "egress collect file capture.pcap --config egress.toml --spool egress-spool",
        "collect_file",
    )
    file.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="pcap, pcapng (also .gz, .zst), flow Parquet, heartbeats (Parquet, JSON lines), a directory of them",
    )
    add_service_options(file)
    file.add_argument(
        "--sensor",
        metavar="NAME",
        default="replay",
        help="which instance of the collector this is (default replay): two taps have two names",
    )
    file.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        default=Path("egress-spool"),
        help="where messages wait until Kafka has them (default egress-spool); one process at a time",
    )
    file.add_argument(
        "--spool-bytes",
        type=int,
        metavar="N",
        default=SPOOL_BYTES,
        help="what it may take on disk (default 1 GiB); above it the oldest messages are given up, and said to be",
    )
    file.add_argument(
        "--pace",
        type=_pace,
        metavar="X",
        default=0.0,
        help="max (default): as fast as Kafka takes it, without giving anything up while the disk has room; "
        "a number: so many times faster than it happened, cut finer, so that one file sent both ways counts twice",
    )
    file.add_argument(
        "--follow",
        action="store_true",
        help="go on with files that a recorder puts beside them, each when a later one stands beside it or when it has "
        "not changed for 5 minutes",
    )
    file.add_argument(
        "--remove",
        action="store_true",
        help="with --follow: remove each file once all of it was sent or lies in the spool",
    )
    file.add_argument(
        "--wait-for-kafka",
        type=float,
        metavar="SECONDS",
        help="exit with 4 if Kafka takes nothing for so long (default: what it does not take in 10 s after the end "
        "stays in the spool)",
    )
    file.add_argument(
        "--disjoint",
        action="store_true",
        help="captures that overlap in time saw different traffic: add them up instead of taking the larger",
    )
    file.add_argument("--json", action="store_true", help="print one JSON object instead of a sentence")
    file.add_argument("--quiet", action="store_true", help="print nothing but log lines")


def _pace(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is neither max nor a number above 0")
    return found
