"""The command line: which words there are and what each ends with. What they do is in `commands`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from egress import __version__, clicollect, cliservices
from egress.errors import EgressError
from egress.extras import missing

INTERRUPTED = 130
LEVELS = ("info", "medium", "high", "critical")
"""Words of `contracts.Level`, without importing what it needs: `--help` answers at once."""

KEPT = "where `replay --store` kept it: a directory or http(s)://user@host:8123/database"


GARBAGE = 100_000, 50, 50
"""Objects made until Python looks for cycles among them. Records have none, and looking took a tenth of a replay."""


FREED = "_RJEM_MALLOC_CONF", "background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0"
"""What Polars is done with goes back to the system soon, not when the system asks: a tenth of a replay's memory.
Services do the same again and again: getting it back took a tenth of a collector's CPU."""


def program() -> NoReturn:
    """`egress` itself. A command that returned has closed what it opened and written what it had to: the process ends
    here, without 0.3 s in which Python and ClickHouse would be taken apart (a tenth of a large replay)."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 clean, 1 found, 2 usage, 3 unreadable input, 4 service."""
    gc.set_threshold(*GARBAGE)
    options = _parsed(arguments)
    if options.run == "replay":
        os.environ.setdefault(*FREED)  # read when Polars is imported, which no module is that is imported by now
    try:
        code = int(getattr(import_module("egress.commands"), options.run)(options))
        sys.stdout.flush()
        return code
    except EgressError as error:
        return _complain(error)
    except ModuleNotFoundError as error:
        remedy = missing(error)
        if remedy is None:
            raise
        return _complain(remedy)
    except KeyboardInterrupt:
        print("egress: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(error: EgressError) -> int:
    print(f"egress: {error}", file=sys.stderr)
    return error.exit_code


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse takes captures only before the first option; people also name them last."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    captures = getattr(options, "captures", None)
    if rest and (captures is None or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if captures is not None:
        options.captures = [*captures, *map(Path, rest)]
    return options


def parser() -> argparse.ArgumentParser:
    """The whole command line; `docs/commands.md` is generated from it."""
    top = argparse.ArgumentParser(
        prog="egress",
        description="Watches what leaves AI hosts and notices when model weights go with it.",
        epilog="exit codes: 0 clean, 1 findings at or above --fail-on, 2 usage or configuration, "
        "3 input unreadable, 4 service unreachable",
    )
    top.add_argument("--version", action="version", version=f"egress {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_replay(commands)
    _add_findings(commands)
    _add_ledger(commands)
    _add_init(commands)
    _add_check(commands)
    _add_collect(commands)
    _add_detect(commands)
    cliservices.add_store(commands, _add, _service_options)
    cliservices.add_status(commands, _add, _config_option)
    _add_simulate(commands)
    _add_evaluate(commands)
    return top


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str, run: str = ""
) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        name, help=text, description=text, epilog=f"example:\n  {example}", formatter_class=form
    )
    command.set_defaults(run=run)
    return command


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = _add(
        commands,
        "replay",
        "meter captures and flow files, charge the ledger, say what left and what nobody saw",
        "egress replay capture.pcap --config egress.toml --findings findings.jsonl",
        "replay",
    )
    replay.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="pcap, pcapng (also .gz, .zst), flow Parquet, heartbeats (Parquet, JSON lines), a directory of them, "
        "- for standard input",
    )
    _config_option(replay)
    replay.add_argument(
        "--store",
        metavar="WHERE",
        default="",
        help="keep everything in ClickHouse: a directory (embedded) or http(s)://user@host:8123/database",
    )
    replay.add_argument("--findings", type=Path, metavar="FILE", help="write findings as OCSF events, one a line")
    replay.add_argument(
        "--flows", type=Path, metavar="FILE", help="write flows as Parquet, an input as good as a capture"
    )
    replay.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="write what each host did in each hour as Parquet: bytes, destinations, ratios (docs/fields.md)",
    )
    replay.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    replay.add_argument("--quiet", action="store_true", help="print nothing but errors")
    replay.add_argument("--fail-on", choices=LEVELS, help="exit with 1 if there is a finding at this level or above")
    replay.add_argument(
        "--disjoint",
        action="store_true",
        help="captures that overlap in time saw different traffic: add them up instead of taking the larger",
    )
    replay.add_argument(
        "--threads",
        type=int,
        choices=(1, 2),
        default=2,
        help="2 (default) reads and decompresses beside metering; results are the same",
    )
    replay.add_argument(
        "--chunk-bytes",
        type=int,
        default=8 << 20,
        metavar="N",
        help="read so much at a time (default 8 MiB); results are the same",
    )
    replay.add_argument(
        "--max-flows",
        type=int,
        default=1 << 18,
        metavar="N",
        help="conversations held at once; above it the smallest are merged (default 262,144)",
    )


def _config_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        "--inventory",
        type=Path,
        metavar="FILE",
        help="egress.toml: fleet, models, approvals (default: ./egress.toml if it is there; "
        "without one, every private address is a host that holds one model of 100 MB)",
    )


def _service_options(command: argparse.ArgumentParser) -> None:
    """What all commands that run until they are stopped have in common."""
    _config_option(command)
    command.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        default="",
        help="serve numbers for Prometheus at http://HOST:PORT/metrics (default: none; a PORT alone: 127.0.0.1)",
    )
    command.add_argument("--log", choices=("text", "json"), default="text", help="form of log lines on stderr")


def _add_findings(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    findings = _add(commands, "findings", "list and show stored findings", "egress findings list --store egress-store")
    inner = findings.add_subparsers(required=True, metavar="COMMAND")
    listing = _add(
        inner,
        "list",
        "stored findings, worst first",
        "egress findings list --store egress-store --level high",
        "list_findings",
    )
    listing.add_argument("--store", metavar="WHERE", required=True, help=KEPT)
    listing.add_argument("--level", choices=LEVELS, default="info", help="this level and above (default info)")
    listing.add_argument("--host", help="of this host only")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (default 100)")
    listing.add_argument("--json", action="store_true", help="one OCSF event a line")
    showing = _add(
        inner,
        "show",
        "one finding with its reasons, evidence and, on request, packets",
        "egress findings show 3fa2b1 --store egress-store --packets out.pcapng capture.pcap",
        "show_finding",
    )
    showing.add_argument("id", help="its id, or as much of it as is unique")
    showing.add_argument("captures", nargs="*", type=Path, metavar="CAPTURE", help="captures to cut packets from")
    showing.add_argument("--store", metavar="WHERE", required=True, help=KEPT)
    showing.add_argument(
        "--packets", type=Path, metavar="OUT.pcapng", help="cut the packets of this finding into a file"
    )
    showing.add_argument("--dissect", action="store_true", help="say what tshark sees in those packets")
    showing.add_argument("--json", action="store_true", help="print the OCSF event")


def _add_ledger(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ledger = _add(commands, "ledger", "what was charged to whom", "egress ledger show --store egress-store")
    inner = ledger.add_subparsers(required=True, metavar="COMMAND")
    showing = _add(
        inner,
        "show",
        "bytes sent by host and remote, largest first",
        "egress ledger show --store egress-store --host gpu-01",
        "show_ledger",
    )
    showing.add_argument("--store", metavar="WHERE", required=True, help=KEPT)
    showing.add_argument("--host", help="of this host only")
    showing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many rows (default 50)")
    showing.add_argument("--json", action="store_true", help="one JSON object a line")
    proving = _add(
        inner,
        "certify",
        "whether a model can have left a host or the fleet in a period",
        "egress ledger certify --store egress-store --config egress.toml --model llama-70b --heartbeats beats.jsonl",
        "certify",
    )
    proving.add_argument("--store", metavar="WHERE", required=True, help=KEPT)
    _config_option(proving)
    proving.add_argument("--model", required=True, metavar="ID", help="as the configuration names it")
    proving.add_argument("--host", help="one host; without it, the fleet")
    proving.add_argument(
        "--heartbeats",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="what sensors said of themselves: what a card sent beyond the flows, and silences, become the gap",
    )
    proving.add_argument("--from", dest="start", metavar="TIME", help="ISO 8601 with zone (default: the first record)")
    proving.add_argument(
        "--to", dest="end", metavar="TIME", help="ISO 8601 with zone, exclusive (default: the last record)"
    )
    proving.add_argument("--json", action="store_true", help="print one JSON object")


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = _add(
        commands,
        "init",
        "write a commented egress.toml to start from, or make the topics of the bus",
        "egress init egress.toml",
        "init",
    )
    init.add_argument("file", nargs="?", type=Path, default=Path("egress.toml"), help="where to (default egress.toml)")
    init.add_argument(
        "--kafka",
        action="store_true",
        help="instead, make the topics of [kafka] or bring them in line, and say what was done; "
        "EGRESS_KAFKA=host:port stands for its servers",
    )
    _config_option(init)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = _add(
        commands,
        "check",
        "read a configuration and say what is wrong or doubtful in it",
        "egress check egress.toml",
        "check",
    )
    check.add_argument("file", nargs="?", type=Path, default=Path("egress.toml"), help="which (default egress.toml)")
    check.add_argument("--on", metavar="TIME", help="say what has expired by then (ISO 8601 with zone; default now)")


def _add_collect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    collect = _add(
        commands, "collect", "send flows to the bus", "egress collect file capture.pcap --config egress.toml"
    )
    sources = collect.add_subparsers(required=True, metavar="SOURCE")
    clicollect.add_file(sources, _add, _service_options)
    clicollect.add_goflow(sources, _add, _service_options)


def _add_detect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    detect = _add(
        commands,
        "detect",
        "read flows from the bus, charge the ledger, put findings on the bus; several may share the work",
        "egress detect --config egress.toml --member detect-1 --metrics 127.0.0.1:9108",
        "detect",
    )
    _service_options(detect)
    cliservices.member_option(detect)
    detect.add_argument(
        "--until-idle",
        type=float,
        metavar="SECONDS",
        help="end when everything was read and judged and nothing came for so long (default: run until stopped)",
    )
    detect.add_argument("--fail-on", choices=LEVELS, help="then exit with 1 if a finding holds at this level or above")


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = _add(
        commands,
        "simulate",
        "make up a fleet with labelled thefts: flows, configuration, receipts, ground truth",
        "egress simulate fleet --hosts 10 --days 3 --seed 1 --attacks burst,drip-days",
        "simulate",
    )
    simulate.add_argument("out", type=Path, metavar="OUT", help="folder for the files; what is there is overwritten")
    simulate.add_argument("--hosts", type=int, default=100, metavar="N", help="5 or more (default 100)")
    simulate.add_argument("--days", type=int, default=30, metavar="N", help="2 or more (default 30)")
    simulate.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same seed gives the same bytes (default 1)"
    )
    simulate.add_argument(
        "--attacks",
        default="all",
        metavar="KIND,...",
        help="kinds of theft, with commas; all (default) or none; a wrong word lists them",
    )
    simulate.add_argument(
        "--start",
        default="2026-09-07T00:00:00Z",
        metavar="TIME",
        help="first day, from 00:00 UTC (default 2026-09-07T00:00:00Z, a Monday)",
    )
    simulate.add_argument("--zeek", action="store_true", help="Zeek's conn.log and dns.log of the perimeter too")
    simulate.add_argument(
        "--pcap", action="store_true", help="headers of each theft's packets too, where that makes 2 million or fewer"
    )


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = _add(
        commands,
        "evaluate",
        "run labelled fleets through Egress and through other tools' rules: who finds what, and at which cost",
        "egress evaluate fleet --page evaluation.html",
        "evaluate",
    )
    evaluate.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folders that `egress simulate` wrote, judged together"
    )
    evaluate.add_argument("--results", type=Path, metavar="FILE", help="write everything that was measured as JSON")
    evaluate.add_argument("--page", type=Path, metavar="FILE", help="write the tables with plots as one HTML page")
    evaluate.add_argument("--tables", type=Path, metavar="FILE", help="write the tables as Markdown")
    evaluate.add_argument("--json", action="store_true", help="print the JSON instead of tables")
    evaluate.add_argument(
        "--processes", type=int, choices=(1, 2), default=1, help="2 runs two fleets at a time; results are the same"
    )
