"""Where a replay leaves what it made while it goes on reading: flows in a file, everything in ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import polars as pl

from egress import registry
from egress.config import Fleet
from egress.contracts import Finding, Tally

if TYPE_CHECKING:
    from egress.store import Store


AT_ONCE = 50_000
"""Rows that are inserted together: ten inserts of a tenth take half as long again. A meter's frames hold more."""


class Keeper:
    """Writes to whichever of store and flow file were asked for; the store opens and inserts on its own thread."""

    def __init__(self, store: str, flows_file: Path | None) -> None:
        self._stack = ExitStack()
        self._store: Store | None = self._stack.enter_context(_opened(store)) if store else None
        self._waiting: list[pl.DataFrame] = []
        self._flows = self._stack.enter_context(closing(registry.flow_writer(flows_file))) if flows_file else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def bind(self, fleet: Fleet) -> None:
        """Where the store holds what was attributed to other hosts, keeping or closing will raise StoreError."""
        if self._store is not None:
            self._store.bind(fleet)

    def keep_flows(self, metered: pl.DataFrame, attributed: pl.DataFrame) -> None:
        """The file gets rows as they were metered, so that it can be replayed against any inventory."""
        if self._flows is not None:
            self._flows.write(metered)
        if self._store is not None:
            self._waiting.append(attributed)
            if sum(frame.height for frame in self._waiting) >= AT_ONCE:
                self._insert_waiting(self._store)

    def keep_cells(self, pieces: Iterable[pl.DataFrame]) -> None:
        """All that was charged, once nothing more will be fed; what is not much is written while it is judged."""
        if self._store is not None:
            self._insert_waiting(self._store)
            for cells in pieces:
                self._store.insert_cells(cells)

    def keep_outcome(self, paths: Sequence[Path], found: Sequence[Finding], tally: Tally) -> None:
        if self._store is not None:
            from egress.store import run_of

            self._store.insert_outcome(run_of(paths), tally, found)

    def _insert_waiting(self, store: Store) -> None:
        if self._waiting:
            store.insert_flows(pl.concat(self._waiting))
        self._waiting = []


def _opened(where: str) -> Store:
    from egress.store import open_store

    return open_store(where)
