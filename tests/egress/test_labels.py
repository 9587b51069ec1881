"""Ground truth: how much of a theft had left at a moment, and when a meter could have said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egress import configfile, labels
from egress.errors import InputError
from egress.inventory import Inventory
from tests.egress import labelled
from tests.egress.labelled import DAY, GB, SECOND, START

BEGIN = START + 3 * DAY


def known(tmp_path: Path, rows: list[dict[str, object]]) -> labels.Theft:
    folder = labelled.write(tmp_path, rows, [labelled.label()])
    inventory = Inventory(configfile.load(folder / "egress.toml"))
    (theft,) = labels.thefts(labels.read(folder / "labels.jsonl"), labelled.frame(rows), inventory)
    return theft


def test_bytes_of_a_theft_leave_evenly_over_its_parts(tmp_path: Path) -> None:
    """800 s at 10 MB/s: a part under way counts in proportion, honest traffic not at all."""
    theft = known(tmp_path, labelled.honest() + labelled.theft())

    times = (BEGIN - SECOND, BEGIN + 5 * SECOND - 1, BEGIN + 400 * SECOND - 1, BEGIN + DAY)

    assert [theft.left_by(time) for time in times] == pytest.approx([0, 50_000_000, 4 * GB, 8 * GB], abs=1)


def test_a_meter_reports_at_the_end_of_the_part(tmp_path: Path) -> None:
    """What is under way is not known yet."""
    theft = known(tmp_path, labelled.theft())

    assert theft.heard_at(BEGIN + 25 * SECOND) == BEGIN + 30 * SECOND - 1
    assert theft.heard_at(BEGIN + 2 * DAY) == BEGIN + 2 * DAY


def test_a_theft_that_no_sensor_saw_leaves_evenly_between_the_ends_of_its_label(tmp_path: Path) -> None:
    """A silent sensor leaves no rows."""
    theft = known(tmp_path, labelled.honest())

    assert theft.left_by(BEGIN + 200 * SECOND) == pytest.approx(2 * GB, rel=0.001)


def test_a_label_that_lacks_something_is_refused_with_its_line(tmp_path: Path) -> None:
    """Half a ground truth would measure half of the thefts."""
    whole = labelled.label()
    lacking = {key: value for key, value in whole.items() if key != "model"}
    (tmp_path / "labels.jsonl").write_text(json.dumps(whole) + "\n" + json.dumps(lacking) + "\n")

    with pytest.raises(InputError, match=r"labels\.jsonl, line 2: KeyError\('model'\)"):
        labels.read(tmp_path / "labels.jsonl")


def test_a_theft_that_no_sensor_saw_can_only_be_found_as_unseen(tmp_path: Path) -> None:
    """A finding about a silent sensor says nothing about a theft that the flows show."""
    unseen, seen = known(tmp_path / "unseen", labelled.honest()), known(tmp_path / "seen", labelled.theft())

    assert (labels.UNSEEN in unseen.places, labels.UNSEEN in seen.places) == (True, False)
