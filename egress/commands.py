"""What each command does. It takes parsed options, prints for a person or a program, and returns the exit code."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from egress import configfile, inputs
from egress.config import Config
from egress.contracts import Finding, Level, ReadSettings
from egress.errors import UsageError
from egress.inventory import Inventory
from egress.wholefile import write_whole
from egress.words import safe

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from egress.replay import Outcome, Request

FOUND = 1
UNREADABLE = 3
INTERRUPTED = 130
PIPED_WIDTH = 160


def replay(options: Namespace) -> int:
    from egress.progress import watching
    from egress.replay import replay

    if options.chunk_bytes < 1 or options.max_flows < 16:
        raise UsageError("--chunk-bytes must be at least 1 and --max-flows at least 16")
    request = _request(options)
    started = time.monotonic()
    with watching(request.paths, _drawn_on(options)) as watch:
        outcome = replay(request, watch)
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps(outcome.summary(seconds)))
    elif not options.quiet:
        from egress import report  # and with it what draws tables: not for who does not look at them

        report.show(outcome, _console())
        _say_where(request)
    return _exit_code(options, outcome)


def list_findings(options: Namespace) -> int:
    from egress import ocsf, report
    from egress.store import open_store

    with open_store(options.store) as store:
        found = store.findings(Level[options.level.upper()], options.host, options.limit)
    if options.json:
        for finding in found:
            print(ocsf.line(ocsf.event(finding)))
        return 0
    queue, console = report.in_queue(found), _console()
    console.print(report.findings_table(queue) if queue else "No findings.")
    if len(queue) < len(found):
        console.print(report.suppressed(found))
    return 0


def show_finding(options: Namespace) -> int:
    from egress import ocsf, report
    from egress.store import open_store

    if options.packets and not options.captures:
        raise UsageError("--packets needs the captures to cut from: egress findings show ID --packets OUT CAPTURE...")
    if options.dissect and not options.packets:
        raise UsageError(
            "--dissect looks at the packets of the finding: name a file for them with --packets OUT.pcapng"
        )
    with open_store(options.store) as store:
        finding = store.finding(options.id)
        conversations = store.conversations(finding) if options.packets else None
    if options.json:
        print(ocsf.line(ocsf.event(finding)))
    else:
        report.show_one(finding, _console())
    if options.packets:
        _cut(finding, conversations, options)
    return 0


def show_ledger(options: Namespace) -> int:
    from egress import report
    from egress.store import open_store

    with open_store(options.store) as store:
        cells = store.cells(options.host)
    totals = report.ledger_totals(cells, options.limit)
    if options.json:
        for row in totals.iter_rows(named=True):
            print(json.dumps(row, default=str))
    else:
        _console().print(report.ledger_table(totals))
    return 0


def certify(options: Namespace) -> int:
    from egress import certificate, report, watched
    from egress.store import open_store

    inventory = Inventory(_config(options))
    start, end = _time(options.start, "--from"), _time(options.end, "--to")
    with open_store(options.store) as store:
        cells = store.cells()
        seen = watched.coverage_of(options.heartbeats, store, cells, end, inventory) if options.heartbeats else None
    gaps, remarks = (seen.gap_bytes(start, end), seen.remarks(inventory, start, end)) if seen else (None, None)
    issued = certificate.certify(cells, inventory, options.model, options.host, start, end, gaps, remarks)
    if options.json:
        print(json.dumps(issued.summary()))
    else:
        report.show_certificate(issued, _console())
    return 0 if issued.verdict == "excluded" else FOUND


def init(options: Namespace) -> int:
    if options.kafka:
        from egress.kafka import make_topics, settings_of

        for line in make_topics(settings_of(_config(options))):
            print(line)
        return 0
    if options.config:
        raise UsageError("--config is read for --kafka only; a new configuration is written where FILE says")
    if options.file.exists():
        raise UsageError(f"{options.file} is there already; name another file or remove it")
    options.file.write_text(configfile.template(), encoding="utf-8")
    print(f"{options.file}: written; edit fleet, models and approvals, then: egress check {options.file}")
    return 0


def check(options: Namespace) -> int:
    config = configfile.load(options.file)
    for warning in (*configfile.warnings(config), *configfile.expired(config, _time(options.on, "--on") or _now())):
        print(f"{options.file}: {safe(warning)}")
    fleet = config.fleet
    print(f"{options.file}: {len(fleet.hosts)} hosts, {len(config.models)} models, {len(config.approvals)} approvals")
    return 0


def collect_file(options: Namespace) -> int:
    from egress import following, service
    from egress.collect import Request, collect
    from egress.kafka import settings_of
    from egress.progress import drawing
    from egress.sender import Sender

    if options.remove and not options.follow:
        raise UsageError("--remove goes with --follow: what is collected once stays where it is")
    config = _config(options)
    settings = settings_of(config)
    paths = tuple(inputs.expand(options.paths))
    reading = ReadSettings(
        resolvers=None if config.is_assumed else config.fleet.resolvers, is_disjoint=options.disjoint
    )
    request = Request(
        paths, config, options.spool, options.spool_bytes, options.sensor, options.pace, options.wait_for_kafka, reading
    )
    if options.follow:
        with service.of_options("collect", options) as running:
            connect = partial(Sender, settings, running.log, _now)
            following.follow(
                options.paths,
                lambda path: collect(replace(request, paths=(path,)), connect, running),
                running,
                options.remove,
            )
        return 0
    started = time.monotonic()
    with (
        service.of_options("collect", options) as running,
        drawing(paths, _drawn_on(options)) as draw,
    ):
        outcome = collect(request, partial(Sender, settings, running.log, _now), running, draw)
    if options.json:
        print(json.dumps(outcome.summary(time.monotonic() - started)))
    elif not options.quiet:
        print(outcome.sentence(options.spool))
    if outcome.was_interrupted:
        return INTERRUPTED
    return 0 if outcome.tally.read.frames else UNREADABLE


def collect_goflow(options: Namespace) -> int:
    from egress import configvalues, service
    from egress.forwarding import Request, forward
    from egress.kafka import settings_of

    try:
        servers = tuple(configvalues.server(name.strip()) for name in options.source.split(",") if name.strip())
    except ValueError as error:
        raise UsageError(f"--from {error}") from error
    config = _config(options)
    request = Request(
        *(tuple(options.topics), options.encoding, config, settings_of(config)),
        *(servers, options.sensor, options.member),
    )
    with service.of_options("collect", options) as running:
        forward(request, running, options.until_idle)
    return 0


def detect(options: Namespace) -> int:
    from egress import service
    from egress.detecting import detect
    from egress.kafka import settings_of

    config = _config(options)
    with service.of_options("detect", options) as running:
        worst = detect(config, settings_of(config), running, options.member, options.until_idle)
    return FOUND if options.fail_on and worst and worst >= Level[options.fail_on.upper()] else 0


def store(options: Namespace) -> int:
    from egress import service
    from egress.clickhouse import declared_server
    from egress.kafka import settings_of
    from egress.store import open_on, open_store
    from egress.storing import store

    config = _config(options)
    settings = settings_of(config)
    named = config.clickhouse
    if not options.store and named is None:
        raise UsageError("no store is named: give --store DIRECTORY or URL, or write [clickhouse] into egress.toml")
    opened = open_store(options.store) if options.store or named is None else open_on(declared_server(named))
    with service.of_options("store", options) as running, opened as kept:
        store(settings, kept, running, options.member, options.until_idle)
    return 0


def status(options: Namespace) -> int:
    from egress import statuspage, statusreader
    from egress.kafka import settings_of

    config = _config(options)
    found = statusreader.status(config, settings_of(config), _now, options.seconds)
    if options.json:
        print(json.dumps(found.summary()))
    else:
        statuspage.show(found, _console())
    return FOUND if found.problems else 0


def simulate(options: Namespace) -> int:
    from egress.simulate import Simulation, kinds_of, simulate

    start = _time(options.start, "--start")
    assert start is not None
    kinds, size = kinds_of(options.attacks), (options.hosts, options.days)
    made = simulate(Simulation(options.out, *size, options.seed, start, kinds, options.zeek, options.pcap))
    print(f"{options.out}: {options.hosts} hosts, {options.days} days, {made.rows:,} flow rows, {made.thefts} thefts")
    if made.without_packets:
        print(f"too large for a capture: {', '.join(made.without_packets)}")
    print(f"then: egress replay {options.out / 'flows.parquet'} --config {options.out / 'egress.toml'}")
    return 0


def evaluate(options: Namespace) -> int:
    from egress import evaluationpage, results, standings
    from egress.evaluate import evaluate

    measured = evaluate(options.folders, options.processes)
    document = results.document(measured)
    if options.results:
        write_whole(options.results, document)
    if options.tables:
        write_whole(options.tables, standings.markdown(measured))
    if options.page:
        write_whole(options.page, evaluationpage.page(measured))
    if options.json:
        print(document, end="")
    else:
        standings.show(measured, _console())
    return 0


def _request(options: Namespace) -> Request:
    from egress.replay import Request

    config = _config(options)
    settings = ReadSettings(
        resolvers=None if config.is_assumed else config.fleet.resolvers,
        chunk_bytes=options.chunk_bytes,
        threads=options.threads,
        max_flows=options.max_flows,
        is_disjoint=options.disjoint,
    )
    paths = tuple(inputs.expand(options.paths))
    return Request(paths, config, settings, options.store, options.findings, options.flows, options.features)


def _config(options: Namespace) -> Config:
    path = options.config or configfile.discover(Path.cwd())
    return configfile.assumed() if path is None else configfile.load(path)


def _drawn_on(options: Namespace) -> Console | None:
    """Where progress is drawn, if anywhere."""
    return None if options.quiet or options.json else _console(sys.stderr)


def _console(stream: TextIO | None = None) -> Console:
    """No markup, highlighting or emoji: much of what is printed is foreign text. Piped output is not cut at 80."""
    from rich.console import Console

    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def _cut(finding: Finding, conversations: pl.DataFrame | None, options: Namespace) -> None:
    from egress import evidence, report

    cut = evidence.cut(finding, inputs.expand(options.captures), options.packets, conversations)
    print(f"packets: {options.packets} ({cut.frames:,} frames, {cut.bytes:,} B)", file=sys.stderr)
    if options.dissect:
        from egress import dissect

        report.show_dissection(dissect.summarise(options.packets), _console())


def _say_where(request: Request) -> None:
    left = {
        "findings": request.findings_file,
        "flows": request.flows_file,
        "features": request.features_file,
        "store": request.store,
    }
    for what, where in left.items():
        if where:
            print(f"{what}: {where}")


def _exit_code(options: Namespace, outcome: Outcome) -> int:
    if outcome.was_interrupted:
        print("egress: stopped early; what was read until then is evaluated and kept", file=sys.stderr)
        return INTERRUPTED
    if not outcome.is_readable:
        for example in outcome.tally.examples:
            print(f"egress: {safe(example.where)}: {safe(example.what)}", file=sys.stderr)
        return UNREADABLE
    queue = [finding for finding in outcome.findings if not finding.suppressed_by]
    if options.fail_on and any(finding.level >= Level[options.fail_on.upper()] for finding in queue):
        return FOUND
    return 0


def _now() -> int:
    """UTC microseconds. Only for what is asked about the present, as `check` is; findings know event time alone."""
    return time.time_ns() // 1000


def _time(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} is {text}, must be ISO 8601 such as 2026-11-20T10:00:00Z") from error
    if moment.tzinfo is None:
        raise UsageError(f"{option} is {text}, must name its zone, such as 2026-11-20T10:00:00Z")
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000
