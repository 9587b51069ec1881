"""The store: flows, ledger, findings and coverage in ClickHouse, embedded in a folder or behind a URL.

Writing is idempotent by content: the same capture replayed again, or one replay interrupted and another run to its end,
leaves what a single run leaves (docs/decisions/0006-store-by-content.md).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

import polars as pl

from egress import clickhouse, ddl, findingjson, storerows
from egress.config import Fleet
from egress.contracts import Finding, Level, Tally
from egress.errors import StoreError, UsageError
from egress.schema import CELLS, FLOWS, SCHEMA_VERSION, Table, conform

if TYPE_CHECKING:
    import pyarrow as pa
    from clickhouse_connect.driver.client import Client

T = TypeVar("T")

BACKLOG = 1
"""Frames that are written while the next are made; bounds memory, not speed (measured: inserting is faster)."""
INSERT_ROWS = 100_000
"""Rows an insert: a meter's frame, whole; more at once take as long, and several times the memory."""
QUERY_SECONDS = 300
WAKE_S = 0.1
SAMPLE_BYTES = 64 << 10
_INSERT = {
    "async_insert": 0,  # on by default since 26.9; an insert that returned is written
    "max_partitions_per_insert_block": 0,  # captures may span years
    "optimize_on_insert": 0,  # merging a part before it is written took half of an insert; FINAL does it when asked
    "insert_deduplicate": 0,  # by hash of a block: what is told apart here is rows
}


def open_store(where: str) -> Store:
    """The store in folder `where`, or at the URL `http(s)://user@host:8123/database`; made if it is not there yet.

    Returns at once: importing and starting ClickHouse (about half a second) goes on in the store's own thread, and what
    goes wrong there is raised by the first call that needs it. A folder that is locked or not a store is refused here.
    """
    if where.startswith(("http://", "https://")):
        return open_on(clickhouse.parse_server(where))
    folder = Path(where)
    lock = clickhouse.FolderLock(folder)
    return Store(where, lambda: clickhouse.open_embedded(folder), lock)


def open_on(server: clickhouse.Server) -> Store:
    """The store on a server; its database is made if it is not there yet."""
    return Store(str(server), lambda: clickhouse.open_server(server), None)


def run_of(paths: Sequence[Path]) -> str:
    """Identity of a set of inputs, known before they are read: a hash of each one's size, first and last 64 kB.

    Names and order do not matter. Anything but a regular file (standard input) counts by its name alone.
    """
    marks = sorted(_mark(path) for path in paths)
    return hashlib.sha256(b"".join(marks)).hexdigest()[:16]


class Store:
    """Everything one replay keeps. All ClickHouse work happens on one thread of its own, so that Ctrl-C stays alive."""

    def __init__(self, where: str, connect: Callable[[], Client], lock: clickhouse.FolderLock | None) -> None:
        self.where = where
        self._connect = connect
        self._lock = lock
        self._pool = ThreadPoolExecutor(1, "egress-store")
        self._pending: list[Future[None]] = []
        self._queries = itertools.count(1)
        self._failed: StoreError | None = None
        self._is_closed = False
        self._opening: Future[Client] = self._pool.submit(self._open)

    def insert_flows(self, frame: pl.DataFrame) -> None:
        """Queues attributed FLOWS rows; errors of earlier inserts are raised here, by `flush` or by `close`."""
        self._queue(lambda client: write(client, "flows_parts", frame, FLOWS, gives_back=self._lock is not None))

    def insert_cells(self, frame: pl.DataFrame) -> None:
        """Queues CELLS; per cell the larger counters stay, as `ledger.join` has it."""
        self._queue(lambda client: write(client, "ledger_parts", frame, ddl.LEDGER))

    def insert_outcome(self, run: str, tally: Tally, findings: Sequence[Finding]) -> None:
        """Queues what a replay of `run` came to, whole or interrupted.

        It replaces what the same run came to before, findings that are no more included, unless that had read further.
        """

        def put(client: Client) -> None:
            edition = client.command(
                "SELECT max(edition) + 1 FROM coverage_parts WHERE run = {run:String}", parameters={"run": run}
            )
            outcome = storerows.Outcome(run, tally.read.frames, int(str(edition)))
            write(client, "findings_parts", storerows.of_findings(findings, outcome), ddl.FINDINGS)
            write(client, "coverage_parts", storerows.of_tally(tally, outcome), ddl.COVERAGE)  # last: makes it current

        self._queue(put)

    def bind(self, fleet: Fleet) -> None:
        """Queues tying the store to who is who: rows attributed to other hosts must not be added to these.

        If the store holds rows attributed by another fleet (hosts, addresses, perimeter), nothing queued later is
        written, and the next call that looks raises StoreError.
        """
        mark = storerows.fingerprint(fleet)

        def tie(client: Client) -> None:
            known = _meta_of(client).get("fleet")
            if known is None:
                _put_meta(client, "fleet", mark)
            elif known == storerows.STREAM.run:
                raise StoreError(f"store {self.where}: is filled by `egress store`; replay into a new folder")
            elif known != mark:
                raise StoreError(
                    f"store {self.where}: holds results for other hosts or another perimeter (fleet section of"
                    " egress.toml, or none); replay into a new folder"
                )

        self._queue(tie)

    def bind_stream(self) -> None:
        """Ties the store to a bus. Raises StoreError where it holds replays: the same rows could be in it twice."""
        known = self._call(_meta_of).get("fleet")
        if known is None:
            self._call(_open_stream)
        elif known != storerows.STREAM.run:
            raise StoreError(f"store {self.where}: holds replays of captures; name a folder or database of its own")

    def run(self, job: Callable[[Client], T]) -> Future[T]:
        """Queues `job` on the store's own thread; what goes wrong comes out of the future, as StoreError."""
        self._refuse_closed()
        return self._pool.submit(self._guarded, job)

    def findings(self, level: Level | None = None, host: str | None = None, limit: int = 1000) -> list[Finding]:
        """Findings at or above `level`, of `host`; worst first, then largest."""
        rows = self.query(
            "SELECT finding FROM findings WHERE level >= {level:UInt8} AND ({host:String} = '' OR host = {host:String})"
            " ORDER BY level DESC, bytes DESC, uid LIMIT {limit:UInt32}",
            {"level": int(level or 0), "host": host or "", "limit": limit},
        )
        return [self._decode(text) for text in rows["finding"]]

    def finding(self, uid_prefix: str) -> Finding:
        """The one finding whose uid begins with `uid_prefix`. Raises UsageError for none or several."""
        rows = self.query(
            "SELECT uid, finding FROM findings WHERE startsWith(uid, {prefix:String}) ORDER BY uid LIMIT 6",
            {"prefix": uid_prefix},
        )
        if rows.height == 1:
            return self._decode(rows["finding"][0])
        if rows.is_empty():
            raise UsageError(
                f"store {self.where}: no finding {uid_prefix!r}; `egress findings list` shows what there is"
            )
        several = ", ".join(uid[: len(uid_prefix) + 6] for uid in rows["uid"])
        raise UsageError(f"store {self.where}: {uid_prefix!r} begins several findings ({several}); write more of it")

    def cells(self, host: str | None = None, start_us: int | None = None, end_us: int | None = None) -> pl.DataFrame:
        """CELLS of the ledger in canonical order, of `host` and of minutes in [start_us, end_us)."""
        rows = self.query(
            f"SELECT {', '.join(CELLS.names)} FROM ledger WHERE {_RANGE.format(time='minute')}"
            f" ORDER BY {', '.join(ddl.CELLS_KEY)}",
            _range(host, start_us, end_us),
        )
        return conform(rows, CELLS)

    def flows(self, host: str | None = None, start_us: int | None = None, end_us: int | None = None) -> pl.DataFrame:
        """FLOWS rows in canonical order, of `host` and of parts that begin in [start_us, end_us)."""
        rows = self.query(
            f"SELECT {', '.join(FLOWS.names)} FROM flows WHERE {_RANGE.format(time='start')}"
            " ORDER BY host, start, flow_id, part, side, end, position",
            _range(host, start_us, end_us),
        )
        return conform(rows, FLOWS)

    def conversations(self, finding: Finding) -> pl.DataFrame:
        """Ends, names, first and last packet (UTC us) of what the finding's hosts did while it lasted."""
        hosts = [finding.host] if finding.host else [*finding.path]
        return self.query(
            "SELECT side, src_ip, dst_ip, outer_src_ip, outer_dst_ip, name,"
            " toUnixTimestamp64Micro(min(start)) AS first, toUnixTimestamp64Micro(max(end)) AS last"
            " FROM flows WHERE (has({hosts:Array(String)}, host) OR empty({hosts:Array(String)}))"
            " AND start <= fromUnixTimestamp64Micro({end:Int64}) AND end >= fromUnixTimestamp64Micro({start:Int64})"
            " GROUP BY ALL ORDER BY ALL",
            {"hosts": hosts, "start": finding.first_seen, "end": finding.last_seen},
        )

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pl.DataFrame:
        """Rows of a SELECT; values go in as `{name:Type}`. Ctrl-C stops the query, not only the waiting for it."""
        mark = f"/* egress {os.getpid()}-{next(self._queries)} */"

        def run(client: Client) -> pl.DataFrame:
            settings = {"max_execution_time": QUERY_SECONDS}
            table = client.query_arrow(f"{mark} {sql}", parameters=dict(parameters or {}), settings=settings)
            return cast(pl.DataFrame, pl.from_arrow(table))

        try:
            return self._call(run)
        except KeyboardInterrupt:
            self._cancel(mark)
            raise

    def flush(self) -> None:
        """Waits until everything queued is written."""
        self._call(lambda _: None)
        self._reap(0)

    def close(self) -> None:
        """Writes what is queued, then lets go of the folder. Closing twice is fine."""
        if self._is_closed:
            return
        try:
            self.flush()
        finally:
            self._is_closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, KeyboardInterrupt):
            self.close()
            return
        with suppress(StoreError):  # the first error is the one to show
            self.close()

    def _open(self) -> Client:
        client = self._connect()
        try:
            _prepare(client, self.where)
        except BaseException:
            client.close()
            raise
        return client

    def _queue(self, job: Callable[[Client], None]) -> None:
        self._refuse_closed()
        self._reap(BACKLOG - 1)
        if self._failed is not None:
            raise self._failed
        self._pending.append(self._pool.submit(self._in_turn, job))

    def _in_turn(self, job: Callable[[Client], None]) -> None:
        """What was queued behind a failure is not written: its error is raised in front of it."""
        if self._failed is not None:
            return
        try:
            self._guarded(job)
        except StoreError as error:
            self._failed = error
            raise

    def _reap(self, keep: int) -> None:
        """Waits until at most `keep` inserts are under way; raises what went wrong in those that ended."""
        while len(self._pending) > keep or (self._pending and self._pending[0].done()):
            _await(self._pending.pop(0))

    def _call(self, job: Callable[[Client], T]) -> T:
        """Runs `job` after everything queued before it."""
        self._refuse_closed()
        return _await(self._pool.submit(self._guarded, job))

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StoreError(f"store {self.where}: closed; open it again")

    def _guarded(self, job: Callable[[Client], T]) -> T:
        try:
            return job(self._opening.result())
        except StoreError:
            raise
        except Exception as error:
            raise clickhouse.explain(error, self.where) from error

    def _cancel(self, mark: str) -> None:
        with suppress(Exception), self._connect() as other:  # best effort: the query ends by itself at QUERY_SECONDS
            text = mark.strip("/* ")
            other.command(f"KILL QUERY WHERE query LIKE '%{text} %' AND query NOT LIKE '%KILL QUERY%' ASYNC")

    def _decode(self, text: str) -> Finding:
        try:
            return findingjson.decode(text)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"store {self.where}: a finding in it cannot be understood ({error!r});"
                " replay the inputs into a new folder"
            ) from error

    def _release(self) -> None:
        with suppress(Exception):  # an opening that failed has been raised already
            self._pool.submit(lambda: self._opening.result().close()).result()
        self._pool.shutdown(wait=True)
        if self._lock is not None:
            self._lock.release()


def _await(future: Future[T]) -> T:
    """The future's result, waking up now and then: a wait without end was seen to sleep through Ctrl-C."""
    while not future.done():
        wait((future,), timeout=WAKE_S)
    return future.result()


def _prepare(client: Client, where: str) -> None:
    """Makes the tables of a new store, or of one whose making was interrupted; refuses one that other code made."""
    known = _meta_of(client) if client.command("EXISTS TABLE meta") else {}
    if "schema_version" not in known:
        for statement in ddl.statements():
            client.command(statement.sql)
        _put_meta(client, "tables", ddl.fingerprint())
        _put_meta(client, "schema_version", str(SCHEMA_VERSION))  # last: its presence says that the rest is there
        return
    version = int(known["schema_version"])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {where}: made by a newer Egress (schema {version}, this one knows {SCHEMA_VERSION}); update Egress"
        )
    if version < SCHEMA_VERSION or known["tables"] != ddl.fingerprint():
        raise StoreError(f"store {where}: made by another build of Egress; replay the inputs into a new folder")


def _open_stream(client: Client) -> None:
    """A line of coverage makes the stream's findings current."""
    note = Tally(notes={"filled by egress store": 1})
    write(client, "coverage_parts", storerows.of_tally(note, storerows.STREAM), ddl.COVERAGE)
    _put_meta(client, "fleet", storerows.STREAM.run)


def _meta_of(client: Client) -> dict[str, str]:
    return dict(cast("list[tuple[str, str]]", client.query("SELECT key, value FROM meta").result_rows))


def write(client: Client, table: str, frame: pl.DataFrame, columns: Table, gives_back: bool = False) -> None:
    """Rows whose table tells by their content which are the same; an embedded ClickHouse may give memory back then."""
    for piece in frame.iter_slices(INSERT_ROWS):
        _put(client, table, storerows.to_arrow(piece, columns), _INSERT)
    if gives_back:
        clickhouse.give_back(client)


def write_once(client: Client, table: str, rows: pa.Table, token: str) -> None:
    """Rows of one partition of the table, unless an insert with this token was done before: of it or of its retry.

    The same token must stand for the same rows: ClickHouse drops what comes second without looking at it.
    """
    settings = _INSERT | {"insert_deduplicate": 1, "insert_deduplication_token": token}
    # In one piece: of several, each counts towards what ClickHouse makes of the token (measured with 26.9).
    _put(client, table, rows.unify_dictionaries().combine_chunks(), settings)


def _put(client: Client, table: str, rows: pa.Table, settings: Mapping[str, object]) -> None:
    """What `insert_arrow` does, with two copies less."""
    from egress.packing import written

    if rows.num_rows:
        stream = cast("bytes", memoryview(written(rows, client.write_compression)))
        client.raw_insert(table, rows.column_names, stream, dict(settings), "ArrowStream")


def _put_meta(client: Client, key: str, value: str) -> None:
    """Not by `client.insert`, which imports pandas where it is installed: 0.3 s."""
    client.command("INSERT INTO meta SELECT {key:String}, {value:String}", {"key": key, "value": value})


_RANGE = (
    "({{host:String}} = '' OR host = {{host:String}})"
    " AND {time} >= fromUnixTimestamp64Micro({{start:Int64}}) AND {time} < fromUnixTimestamp64Micro({{end:Int64}})"
)


def _range(host: str | None, start_us: int | None, end_us: int | None) -> dict[str, object]:
    last = 1 << 62
    return {"host": host or "", "start": start_us or 0, "end": last if end_us is None else end_us}


def _mark(path: Path) -> bytes:
    if not path.is_file():
        return hashlib.sha256(os.fsencode(path)).digest()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(SAMPLE_BYTES)
        file.seek(max(size - SAMPLE_BYTES, 0))
        return hashlib.sha256(size.to_bytes(8, "big") + head + file.read(SAMPLE_BYTES)).digest()
