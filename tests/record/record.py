"""Records the captures in tests/data: `record.py FOLDER [SCENARIO...]`. Needs root, iproute2, tcpdump, curl, openssl.

Each scenario is played in a network of namespaces of its own. Beside each capture stands FOLDER/truth.json, which says
from the files that were moved, not from the packets, what happened.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from model import write_checkpoint, write_model
from network import INSIDE, OUTSIDE, Network
from scenarios import SCENARIOS, SERVERS, Scenario, Stage
from trim import trim

SNAPLEN = 256
"""Enough for a TLS client's first extensions, and for nobody's data."""

NAMES = {
    "checkpoints.backup.example.org": "backup",
    "api.example.com": "api",
    "hub.example.org": "hub",
    "drop.example.net": "drop6",
}


def record(folder: Path, name: str) -> dict[str, object]:
    """Plays one scenario, writes its captures and returns its line of truth.json."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory() as scratch, Network() as network:
        stage = _stage(network, Path(scratch))
        _start_servers(stage)
        captures = _listen(stage, scenario, folder / name)
        moved = scenario.play(stage)
        time.sleep(2)  # the kernel hands packets over in blocks, the last one after a second
        for process in captures:
            network.stop(process)
        _refuse_losses(Path(scratch))
        for suffix in scenario.captures:
            trim(folder / f"{name}{suffix}.pcap", scenario.kept_bytes)
        return {
            "what": scenario.what,
            "model_bytes": stage.model_bytes,
            "shards": [shard.stat().st_size for shard in stage.shards],
            "left": [asdict(each) for each in moved],
        }


def _stage(network: Network, scratch: Path) -> Stage:
    shards = write_model(scratch / "model")
    return Stage(network, scratch, shards, write_checkpoint(scratch / "step-48000.ckpt"))


def _start_servers(stage: Stage) -> None:
    certificate = _certificate(stage.folder)
    entries = [f"{name}={OUTSIDE[key]}" for name, key in NAMES.items()]
    log = stage.folder / "servers.log"
    stage.network.start("inside", sys.executable, SERVERS, "resolve", INSIDE["inside"][0], *entries, log=log)
    secure = [(address, "443", certificate) for address in OUTSIDE.values()]
    for address, port, *tls in (*secure, (OUTSIDE["drop"], "8080")):
        stage.network.start(
            "outside", sys.executable, SERVERS, "serve", address, port, str(stage.shards[0].parent), *tls, log=log
        )
    time.sleep(2)  # until all of them listen


def _certificate(folder: Path) -> str:
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=example.org"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return str(both)


def _listen(stage: Stage, scenario: Scenario, stem: Path) -> list[subprocess.Popen[bytes]]:
    listening = []
    for suffix, (where, interface) in scenario.captures.items():
        target = f"{stem}{suffix}.pcap"
        command = ("tcpdump", "-i", interface, "-s", str(SNAPLEN), "-B", "65536", "-U", "-Z", "root", "-w", target)
        noise = ("ip or ip6",) if interface == "any" else ("not arp and not ip6 multicast",)
        listening.append(stage.network.start(where, *command, *noise, log=stage.folder / f"tcpdump{suffix}.log"))
    time.sleep(1)  # until all of them capture
    return listening


def _refuse_losses(folder: Path) -> None:
    for log in folder.glob("tcpdump*.log"):
        if "\n0 packets dropped by kernel" not in log.read_text():
            raise SystemExit(f"{log.name}: packets were lost or tcpdump failed; record again\n{log.read_text()}")


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(SCENARIOS)
    truth_file = folder / "truth.json"
    truth = json.loads(truth_file.read_text()) if truth_file.exists() else {}
    for name in names:
        print(f"{name}: {SCENARIOS[name].what}", flush=True)
        truth[name] = record(folder, name)
        truth_file.write_text(json.dumps(truth, indent=2) + "\n")


if __name__ == "__main__":
    main()
