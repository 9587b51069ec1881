"""From captures and flow files to findings: reads, charges, detects and stores, offline, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from egress import features, findings, inputs, memory, ocsf, registry
from egress.config import Config
from egress.contracts import Batch, Count, Finding, InputTally, Level, ReadSettings, Skipped, Tally
from egress.detect import Engine
from egress.feeding import Feeder
from egress.inventory import Inventory
from egress.keeping import Keeper
from egress.schema import FLOWS
from egress.wholefile import leads_elsewhere, whole, write_whole

UNKNOWN_INPUT = "unknown_input"


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay, against what, and where to leave it."""

    paths: tuple[Path, ...]
    config: Config
    settings: ReadSettings = field(default_factory=ReadSettings)
    store: str = ""
    """Directory or URL; empty: nothing is stored."""
    findings_file: Path | None = None
    flows_file: Path | None = None
    features_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay found and what it read on the way."""

    findings: tuple[Finding, ...]
    tally: Tally
    flows: int
    """Conversations."""
    rows: int
    """Their parts, as metered (before a row is told for each watched side)."""
    unwatched: Count = field(default_factory=Count)
    """Rows in which neither side is a watched host, and their IP bytes: stored, charged to nobody."""
    was_interrupted: bool = False

    def summary(self, seconds: float) -> dict[str, object]:
        """The object that `--json` ends with; `read == metered + sum(skipped)` holds exactly."""
        levels = Counter(finding.level.word for finding in self.findings if not finding.suppressed_by)
        return {
            **self.tally.summary(),
            "flows": self.flows,
            "rows": self.rows,
            "unwatched": {"rows": self.unwatched.frames, "bytes": self.unwatched.bytes},
            "findings": {level.word: levels[level.word] for level in Level},
            "suppressed": sum(bool(finding.suppressed_by) for finding in self.findings),
            "interrupted": self.was_interrupted,
            "seconds": round(seconds, 3),
        }

    @property
    def is_readable(self) -> bool:
        """False where no input held a single frame or record that could be read."""
        return self.tally.read.frames > 0


def replay(request: Request, watch: Callable[[Tally], bool] = lambda tally: True) -> Outcome:
    """Reads everything and evaluates once at the end. `watch` gets the tally so far; its False ends the reading.

    What was read until then is evaluated, stored and said to be a part. Raises InputError where an input is not
    there, StoreError where the store cannot be used.
    """
    with ExitStack() as stack:
        keeper = stack.enter_context(Keeper(request.store, request.flows_file))
        keeper.bind(request.config.fleet)
        engine = Engine(Inventory(request.config), registry.detectors)
        read = _read(request, engine, keeper, watch)
        memory.give_back()  # what is judged needs about as much as reading did
        keeper.keep_cells(engine.pieces_of_cells())
        found = tuple(engine.findings())
        keeper.keep_outcome(request.paths, found, read.tally)
    if request.findings_file is not None:
        write_findings(found, request.findings_file)
    if request.features_file is not None:
        with whole(request.features_file) as path:
            features.of(engine.signals()).write_parquet(path)
    return replace(read, findings=found)


def write_findings(found: Sequence[Finding], path: Path) -> None:
    """One OCSF event a line, byte for byte the same for the same traffic; locations stand in `*.evidence.jsonl`.

    Where the path leads to a pipe or the like nothing stands beside it.
    """
    write_whole(path, "".join(ocsf.line(ocsf.event(finding)) + "\n" for finding in found))
    if not leads_elsewhere(path):
        beside = path.with_name(path.stem + ".evidence.jsonl")
        write_whole(beside, "".join(findings.evidence_line(finding) + "\n" for finding in found))


def _read(request: Request, engine: Engine, keeper: Keeper, watch: Callable[[Tally], bool]) -> Outcome:
    def feed(flows: pl.DataFrame) -> Count:
        attributed = engine.feed(flows)
        keeper.keep_flows(flows, attributed)
        return _of_nobody(attributed)

    tally, flows, rows, unwatched, goes_on = Tally(), 0, 0, Count(), True
    with Feeder(feed) as feeder:
        for batch in _batches(request):
            tally += batch.tally
            if batch.heartbeats is not None:
                engine.feed_heartbeats(batch.heartbeats)
            if batch.flows.height:
                rows += batch.flows.height
                flows += int((batch.flows["part"] == 0).sum())
                unwatched = sum(feeder.put(batch.flows), unwatched)
            goes_on = watch(tally)
            if not goes_on:
                break
        unwatched = sum(feeder.finish(), unwatched)
    return Outcome((), tally, flows, rows, unwatched, was_interrupted=not goes_on)


def _of_nobody(attributed: pl.DataFrame) -> Count:
    strangers = attributed.lazy().filter(pl.col("host") == "")
    sums = strangers.select(pl.len(), (pl.col("src_bytes") + pl.col("dst_bytes")).sum()).collect()
    return Count(*sums.row(0))


def _batches(request: Request) -> Iterator[Batch]:
    known = inputs.sort(inputs.expand(request.paths))
    for path in known.unknown:
        yield Batch(FLOWS.empty(), unknown(path))
    for collector, paths in known.claimed:
        yield from collector.read(paths, request.settings)


def unknown(path: Path) -> Tally:
    example = Skipped(UNKNOWN_INPUT, str(path), "neither a capture nor a flow file nor heartbeats; skipped")
    size = path.stat().st_size
    return Tally(
        skipped={UNKNOWN_INPUT: Count()},
        notes={"unknown_inputs": 1, "unknown_input_bytes": size},
        examples=(example,),
        inputs=(InputTally(str(path), "", size, 0, 0),),
    )
