"""Fixtures shared by every room: where the corpus is, and which services are here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.services import broker as brokers

# No deadline: what a machine does beside is not the code's fault. `make fast` asks for the second one.
settings.register_profile("whole", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=15)
settings.load_profile("whole")

ROOT = Path(__file__).resolve().parent.parent


def services_are_required() -> bool:
    return os.environ.get("EGRESS_REQUIRE_SERVICES") == "1"


def absent(what: str, remedy: str) -> None:
    """Skip by name, or fail where every service is required."""
    message = f"{what} is not here: {remedy}"
    if services_are_required():
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def data() -> Path:
    """The project's own small samples."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Test data that nobody on the project wrote; `EGRESS_CORPUS` names its folder."""
    folder = Path(os.environ.get("EGRESS_CORPUS", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no corpus at {folder}: set EGRESS_CORPUS")
    return folder


@pytest.fixture(scope="session")
def require() -> Callable[[str, str], str]:
    """`require("tshark", "apt-get install tshark")` gives the program's path, or skips by name."""

    def find(program: str, remedy: str) -> str:
        path = shutil.which(program)
        if path is None:
            absent(program, remedy)
        return path or ""

    return find


@pytest.fixture(scope="session")
def root_user() -> None:
    """For tests that make network namespaces: skips by name without privilege."""
    if os.geteuid() != 0:
        absent("root", "network namespaces need it: sudo -E .venv/bin/pytest -m service")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Servers of a real Kafka of one node, shared by all tests: each makes topics under a prefix of its own."""
    try:
        with brokers.running(tmp_path_factory.mktemp("broker")) as servers:
            yield servers
    except brokers.NotHere as problem:
        absent("Apache Kafka", str(problem))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[brokers.Brokers]:
    """A real Kafka of three nodes for one test, which may kill, freeze and restart them."""
    try:
        with brokers.cluster(tmp_path / "cluster", nodes=3) as found:
            yield found
    except brokers.NotHere as problem:
        absent("Apache Kafka", str(problem))
