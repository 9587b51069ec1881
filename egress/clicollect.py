"""Words of `egress collect`; see `cli`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from egress import cliservices

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


def add_goflow(
    sources: argparse._SubParsersAction[argparse.ArgumentParser],
    add: Callable[..., argparse.ArgumentParser],
    add_service_options: Callable[[argparse.ArgumentParser], None],
) -> None:
    """`collect goflow`: what others put on topics of their own."""
    goflow = add(
        sources,
        "goflow",
        "send on what goflow2 puts on its topics (NetFlow, IPFIX, sFlow), each row once; several may share the work",
        "egress collect goflow flow-messages --config egress.toml",
        "collect_goflow",
    )
    goflow.add_argument("topics", nargs="+", metavar="TOPIC", help="by the names that goflow2 knows them by")
    add_service_options(goflow)
    goflow.add_argument(
        "--encoding",
        choices=("protobuf", "json"),
        default="protobuf",
        help="what goflow2 writes: -format bin is protobuf (default), three times faster to read than json",
    )
    goflow.add_argument(
        "--from",
        dest="source",
        metavar="HOST:PORT,...",
        default="",
        help="another Kafka that has the topics, reached as [kafka] says (default: the same one)",
    )
    goflow.add_argument(
        "--sensor",
        metavar="NAME",
        default="goflow2",
        help="which source this is (default goflow2): two clusters have two names; topic and partition are added",
    )
    cliservices.member_option(goflow)
    goflow.add_argument(
        "--until-idle",
        type=float,
        metavar="SECONDS",
        help="end when everything has arrived and nothing came for so long (default: run until stopped)",
    )


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
