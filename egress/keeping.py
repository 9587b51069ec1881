"""Where a replay leaves what it made: flows in Parquet, everything in ClickHouse, both while it goes on reading."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import polars as pl

from egress import registry
from egress.contracts import Finding, FlowWriter, Tally

if TYPE_CHECKING:
    from egress.store import Store

PENDING = 4
"""Inserts under way before reading waits for the store: back-pressure instead of memory."""


class Keeper:
    """Opens the store on a thread of its own (its engine takes a second to start) and feeds it in order."""

    def __init__(self, store: str, flows_file: Path | None) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._pending: deque[Future[None]] = deque()
        self._store: Future[Store] | None = self._thread.submit(_open, store) if store else None
        self._flows: FlowWriter | None = registry.flow_writer(flows_file) if flows_file else None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._flows is not None:
            self._flows.close()
        try:
            if self._store is not None and self._store.exception() is None:
                self._submit(lambda store: store.close())
            if kind is None:
                self._drain(0)
        finally:
            self._thread.shutdown(wait=True)

    def keep_flows(self, metered: pl.DataFrame, attributed: pl.DataFrame) -> None:
        """The file gets rows as they were metered, so that it can be replayed against any inventory."""
        if self._flows is not None:
            self._flows.write(metered)
        self._submit(lambda store: store.insert_flows(attributed))

    def keep_results(self, found: Sequence[Finding], cells: pl.DataFrame, tally: Tally) -> None:
        self._submit(lambda store: store.insert_cells(cells))
        self._submit(lambda store: store.insert_findings(found))
        self._submit(lambda store: store.insert_coverage(tally))

    def _submit(self, work: Callable[[Store], None]) -> None:
        """Raises StoreError here if the store could not be opened or an earlier insert failed."""
        if self._store is None:
            return
        opening = self._store
        self._pending.append(self._thread.submit(lambda: work(opening.result())))
        self._drain(PENDING)

    def _drain(self, keep: int) -> None:
        while len(self._pending) > keep:
            self._pending.popleft().result()


def _open(where: str) -> Store:
    from egress.store import open_store

    return open_store(where)
