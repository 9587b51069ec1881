"""What left is charged to its sender and compared with the models it holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest

from egress import portions
from egress.config import Config
from egress.contracts import Level
from tests.egress.strategies import (
    HOUR,
    MODEL_BYTES,
    NOON,
    SECOND,
    Transfer,
    address_of,
    cells_of,
    findings_of,
    fleet,
    site,
)


def test_a_whole_model_in_four_files_is_one_critical_finding() -> None:
    """One transfer is one episode, naming host, model and destination."""
    files = [Transfer(sent=MODEL_BYTES // 4, start=NOON + n * 30 * SECOND) for n in range(4)]

    (finding,) = findings_of(site(), *files)

    assert (finding.level, finding.host, finding.bytes) == (Level.CRITICAL, "h1", MODEL_BYTES)
    assert finding.models[0].fraction == 1
    assert finding.destinations[0].addresses == ("198.51.100.10",)


def test_a_level_is_reached_when_its_byte_left() -> None:
    """At a steady 1 % of the model a second, 1/16 is reached after 6.25 s."""
    (finding,) = findings_of(site(size=1_000_000), Transfer(sent=1_000_000, seconds=100))

    assert finding.level_times[Level.HIGH] - NOON == pytest.approx(6.25 * SECOND, abs=2)
    assert finding.level_times[Level.CRITICAL] - NOON == pytest.approx(25 * SECOND, abs=2)


def test_a_download_costs_nothing() -> None:
    """Pulling a model sends ACKs only."""
    assert findings_of(site(), Transfer(sent=300, back=MODEL_BYTES)) == []


def test_a_model_fetched_from_outside_is_an_upload() -> None:
    """The sender pays, whoever connected."""
    (finding,) = findings_of(site(), Transfer(sent=MODEL_BYTES, dst_port=51000).turned())

    assert (finding.level, finding.bytes) == (Level.CRITICAL, MODEL_BYTES)
    assert any("connected to port 51000 here" in reason for reason in finding.reasons)


def test_portions_of_hosts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes from host to host is told by several of them, by another sensor each."""
    ways = pairwise([*map(address_of, (1, 2, 3)), "198.51.100.10"])
    moves = [Transfer(*way, sent=MODEL_BYTES, sensor=sensor) for way, sensor in zip(ways, "abc", strict=True)]
    chain = replace(site(), fleet=fleet(hosts=3))
    whole = findings_of(chain, *moves)

    monkeypatch.setattr(portions, "PORTION_ROWS", 1)

    assert findings_of(chain, *moves) == whole
    assert max(len(finding.path) for finding in whole) == 4


def test_a_host_without_models_never_raises() -> None:
    """There is nothing that its bytes could be."""
    assert findings_of(site(), Transfer(src="10.0.1.1", sent=10 * MODEL_BYTES)) == []


def test_a_slow_drip_reaches_the_lifetime() -> None:
    """1/100 of the model every second day passes 1/4 after 50 days, though no month holds it."""
    drips = [Transfer(sent=MODEL_BYTES // 100, start=NOON + n * 48 * HOUR) for n in range(26)]

    levels = {finding.level for finding in findings_of(site(), *drips)}

    assert Level.CRITICAL in levels


def test_assumed_models_have_their_own_levels() -> None:
    """Without an inventory, 100 MB leaving one private address is high; 26 MB is info."""
    assumed = replace(Config(), is_assumed=True)

    small = findings_of(assumed, Transfer(sent=26_000_000))
    large = findings_of(assumed, Transfer(sent=100_000_000))

    assert [finding.level for finding in small + large] == [Level.INFO, Level.HIGH]


def test_counters_past_53_bits_are_exact() -> None:
    """Sums are integers throughout."""
    sent = 2**61 + 1
    cells = cells_of(site(), [Transfer(sent=sent), Transfer(sent=sent)])

    assert cells["sent"].cast(pl.Int128).sum() == 2 * sent
    assert findings_of(site(), Transfer(sent=sent), Transfer(sent=sent, start=NOON + HOUR))[0].bytes == 2 * sent
