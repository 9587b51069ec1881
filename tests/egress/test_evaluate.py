"""A labelled fleet through Egress and through everybody's rules: numbers that can be worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from egress import cli, evaluationpage, results, standings
from egress.detect import Engine
from egress.errors import InputError
from egress.evaluate import EGRESS, LEDGER, LISTED, PUBLISHED, Evaluation, evaluate
from tests.egress import labelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = labelled.honest() + labelled.theft()
    return labelled.write(tmp_path_factory.mktemp("fleet"), rows, [labelled.label()])


@pytest.fixture(scope="module")
def measured(folder: Path) -> Evaluation:
    return evaluate([folder])


@pytest.mark.slow
def test_the_ledger_finds_half_a_model_at_the_part_in_which_a_level_is_reached(measured: Evaluation) -> None:
    """16 GB at 10 MB/s: 1/16 is 1 GB after 100 s, 1/4 is 4 GB after 400 s, each told at the end of its part."""
    marks = measured.named(LEDGER).marks

    gone = [marks[word].outcomes[0].gone for word in ("info", "high", "critical")]

    assert gone == pytest.approx([300 / 16000, 1000 / 16000, 4000 / 16000], abs=1e-6)
    assert [marks[word].false_episodes for word in ("info", "high", "critical")] == [0, 0, 0]


@pytest.mark.slow
def test_egress_says_which_model_went_where_first(measured: Evaluation) -> None:
    """One model, one destination that stands out."""
    (outcome,) = measured.named(EGRESS).marks["high"].outcomes

    assert (outcome.names_model, outcome.leads_with_destination) == (True, True)


@pytest.mark.slow
def test_a_peers_rule_finds_it_at_its_own_threshold(measured: Evaluation) -> None:
    """1 GiB of 10 MB a second is reached after 107.4 s, in the part that ends at 110 s: 1.1 of 16 GB."""
    point = measured.named("1 GiB in 8 h", LISTED).marks[PUBLISHED]

    assert point.outcomes[0].gone == pytest.approx(1100 / 16000, abs=1e-6)
    assert point.false_episodes == 0


@pytest.mark.slow
def test_the_truth_is_shown_to_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The column that holds the ground truth is cleared before the engine sees a row."""
    shown: set[str] = set()
    feed = Engine.feed

    def spy(engine: Engine, flows: pl.DataFrame) -> pl.DataFrame:
        shown.update(flows["process"].unique())
        return feed(engine, flows)

    monkeypatch.setattr(Engine, "feed", spy)

    evaluate([folder])

    assert shown == {""}


@pytest.mark.slow
def test_the_same_fleets_give_the_same_bytes(folder: Path, measured: Evaluation) -> None:
    """Results are a document that people compare."""
    assert results.document(evaluate([folder])) == results.document(measured)


@pytest.mark.slow
def test_two_fleets_are_judged_together(folder: Path, tmp_path: Path, measured: Evaluation) -> None:
    """Thefts and host-days add up; a quiet fleet has no theft to find."""
    quiet = labelled.write(tmp_path / "quiet", labelled.honest(), [])

    both = evaluate([folder, quiet])

    assert both.thefts == measured.thefts == 1
    assert both.host_days == pytest.approx(2 * measured.host_days, rel=0.01)
    assert both.named(LEDGER).marks["high"].found == 1


@pytest.mark.slow
def test_the_page_loads_nothing_and_runs_nothing(measured: Evaluation) -> None:
    """No scripts, no addresses but those of text; every table is on it."""
    page = evaluationpage.page(measured)

    assert re.findall(r"<script|<link|<img|src=|href=|url\(|@import", page) == []
    assert [each.title for each in standings.tables(measured) if each.rows and each.title not in page] == []
    assert page.count("<svg") == 2


@pytest.mark.slow
def test_the_command_prints_json_that_it_also_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the example of its help."""
    results, page = tmp_path / "results.json", tmp_path / "evaluation.html"

    code = cli.main(["evaluate", str(folder), "--json", "--results", str(results), "--page", str(page)])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == json.loads(results.read_text())
    assert page.read_text().startswith("<!doctype html>")


def test_a_folder_without_a_fleet_is_refused_by_name(tmp_path: Path) -> None:
    """It says what is missing and who writes it."""
    with pytest.raises(InputError, match=r"holds no flows\.parquet; name a folder that `egress simulate` wrote"):
        evaluate([tmp_path])
