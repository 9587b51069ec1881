"""The words people type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from egress import cli


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """What a script needs to know stands in `egress --help`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])

    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(code in said for code in ("0 clean", "1 findings", "2 usage", "3 input", "4 service"))


def test_help_answers_without_importing_what_commands_need() -> None:
    """The import cost is paid by the command that needs it."""
    code = (
        "import sys; from egress import cli; cli.parser(); print(sorted({'polars','numba','chdb'} & set(sys.modules)))"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


def test_the_package_runs_by_name() -> None:
    """Where the command is not on the path, as in a container."""
    said = subprocess.run([sys.executable, "-m", "egress", "--version"], capture_output=True, text=True, check=True)

    assert said.stdout.startswith("egress ")


def test_what_was_said_before_an_error_is_not_lost() -> None:
    """The process ends at once, and a pipe is written late."""
    code = (
        "from egress import cli, commands; from egress.errors import InputError\n"
        "def check(options): print('said'); raise InputError('broken')\n"
        "commands.check = check; cli.program()"
    )

    late = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    done = subprocess.run([sys.executable, "-c", code, "check"], env=late, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "egress: broken\n")


def test_an_absent_input_ends_with_code_3_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: what, where, what next."""
    assert cli.main(["replay", str(tmp_path / "gone.pcap")]) == 3
    assert "gone.pcap: No such file or directory; name a capture" in capsys.readouterr().err


def test_a_configuration_error_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt key is refused by its path."""
    bad = tmp_path / "egress.toml"
    bad.write_text("[fleet]\nintrenal = []\n")

    assert cli.main(["check", str(bad)]) == 2
    assert "fleet.intrenal" in capsys.readouterr().err


def test_init_writes_a_configuration_that_check_accepts_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a newcomer does first has to work as it stands."""
    file = tmp_path / "egress.toml"

    assert cli.main(["init", str(file)]) == 0
    assert cli.main(["check", str(file)]) == 0
    assert cli.main(["init", str(file)]) == 2
    assert "there already" in capsys.readouterr().err
