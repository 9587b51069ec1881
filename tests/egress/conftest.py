"""The judge of thefts: from flows and the files that a site writes to findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from egress.config import Kafka
from egress.kafka import Consumer, make_topics
from tests.egress.thefts import Judge, judged

_prefixes = count()


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(transfers, site, lifecycle, receipts)` gives the findings."""
    return partial(judged, tmp_path)


@pytest.fixture
def bus(broker: str) -> Kafka:
    """Fresh topics, four partitions of flows; its prefix is also the name of a group that nobody else is in."""
    settings = Kafka(tuple(broker.split(",")), prefix=f"test{next(_prefixes)}-{time.monotonic_ns()}", partitions=4)
    make_topics(settings)
    return settings


@pytest.fixture
def consumers() -> Iterator[Callable[..., Consumer]]:
    """`consumers(settings, group, topics, ...)`, closed at the end."""
    made: list[Consumer] = []

    def make(*arguments: Any, **options: Any) -> Consumer:
        made.append(Consumer(*arguments, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()
