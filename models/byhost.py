"""What detectors with a small past of each host have in common: scores, lessons, snapshots and forgetting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl

from models.outside import Row
from models.reading import Once, Reader, scores
from models.state import pack, unpack

MAX_HOSTS = 65_536
"""Beyond, the hosts that have been silent for longest are forgotten."""

Past = TypeVar("Past")


class ByHost(ABC, Generic[Past]):
    """A past for each host. A frame holds one window, windows come in order of time."""

    name: ClassVar[str]
    version: ClassVar[str]

    def __init__(self, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._hosts: dict[str, Past] = {}
        self._judged = Once(self._judge)

    def score(self, signals: pl.DataFrame) -> pl.DataFrame:
        """One row for each host of which there is something to tell with this window in."""
        return scores([row for _, _, row in self._judged(signals) if row] if signals.height else [])

    def learn(self, signals: pl.DataFrame) -> None:
        for host, past, row in self._judged(signals) if signals.height else ():
            self._hosts[host] = self._told(past, row) if row else past
        self._judged.forget()
        forget(self._hosts, MAX_HOSTS, self._heard)

    def snapshot(self) -> bytes:
        return pack(self.name, self.version, {host: self._dump(past) for host, past in self._hosts.items()})

    def restore(self, state: bytes) -> None:
        hosts: dict[str, list[Any]] = unpack(self.name, self.version, state)
        self._hosts = {host: self._load(values) for host, values in hosts.items()}
        self._judged.forget()

    @abstractmethod
    def _judge(self, signals: pl.DataFrame) -> list[tuple[str, Past, Row | None]]:
        """Hosts with something to learn: the past with this window in, and a row to tell."""

    @staticmethod
    @abstractmethod
    def _told(past: Past, row: Row) -> Past:
        """A past of which this was told."""

    @staticmethod
    @abstractmethod
    def _heard(past: Past) -> int:
        """Larger for who was heard later."""

    @staticmethod
    @abstractmethod
    def _dump(past: Past) -> Sequence[object]: ...

    @staticmethod
    @abstractmethod
    def _load(values: list[Any]) -> Past:
        """What was dumped, as it came out of JSON."""


Kept = TypeVar("Kept")


def forget(hosts: dict[str, Kept], most: int, heard: Callable[[Kept], int]) -> None:
    """Leaves those that were heard last; of equals those whose names sort last."""
    if len(hosts) > most:
        for host in sorted(hosts, key=lambda host: (heard(hosts[host]), host))[:-most]:
            del hosts[host]
