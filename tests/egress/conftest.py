"""The judge of thefts: from flows and the files that a site writes to findings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.egress.thefts import Judge, judged


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(transfers, site, lifecycle, receipts)` gives the findings."""
    return partial(judged, tmp_path)
