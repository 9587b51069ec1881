"""Coverage-guided fuzzing of whatever reads foreign bytes: `make fuzz`, or `fuzz.py SECONDS [TARGET...]`.

Each target runs in a process of its own under atheris (libFuzzer), with kernels as Python so that coverage is seen and
every access is checked. It starts from `corpus/` and ends with what it found there, minimised. A crash stands in
`.cache/fuzz/` with its traceback printed, and the exit code says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = HERE / "corpus"
WORK = ROOT / ".cache" / "fuzz"

MAX_INPUT_BYTES = 4096
SLOWEST_S = 10
"""One input of that size takes milliseconds."""
MAX_MEMORY_MB = 2048
LIMITS = (
    f"-max_len={MAX_INPUT_BYTES}",
    f"-timeout={SLOWEST_S}",
    f"-rss_limit_mb={MAX_MEMORY_MB}",
    "-print_final_stats=1",
    "-seed=1",
)


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--run":
        return run(sys.argv[2], sys.argv[3:])
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    names = sys.argv[2:] or target_names()
    failed = [name for name in names if not _fuzz(name, seconds)]
    if failed:
        print(f"Found something: {', '.join(failed)}. The inputs are in {WORK}", file=sys.stderr)
    return 1 if failed else 0


def target_names() -> list[str]:
    from targets import TARGETS

    return list(TARGETS)


def run(name: str, options: list[str]) -> int:
    """One target in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["collectors", "egress", "targets"]):
        import targets
    target = targets.TARGETS[name]

    def once(data: bytes) -> None:
        target(data)

    atheris.Setup([str(_program(name)), *options], once)
    atheris.Fuzz()
    return 0


def _program(name: str) -> Path:
    """libFuzzer's merge calls itself again by the first of its arguments, which therefore must be a program."""
    path = WORK / f"{name}.sh"
    WORK.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fuzz.py"} --run {name} "$@"\n')
    path.chmod(0o755)
    return path


def _fuzz(name: str, seconds: int) -> bool:
    work, kept = WORK / name, KEPT / name
    work.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seconds} s", flush=True)
    limits = [f"-max_total_time={seconds}", f"-artifact_prefix={work}/", *LIMITS]
    words = HERE / "words" / name
    if words.exists():
        limits.append(f"-dict={words}")
    done = _libfuzzer(name, [*limits, str(work), str(kept)], WORK / f"{name}.log")
    if done == 0:
        _libfuzzer(name, ["-merge=1", str(kept), str(work)], WORK / f"{name}.merge.log")
    return done == 0


def _libfuzzer(name: str, arguments: list[str], log: Path) -> int:
    command = [sys.executable, str(HERE / "fuzz.py"), "--run", name, *arguments]
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    lines = log.read_text(errors="replace").splitlines()
    interesting = [line for line in lines if line.startswith(("stat::number_of_executed_units", "#"))]
    print("\n".join(lines[-30:] if done.returncode else interesting[-2:]), flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
