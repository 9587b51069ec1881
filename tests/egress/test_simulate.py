"""The made-up fleet: the same bytes for a seed, and a site that would find nothing wrong with its own traffic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from egress import attacks, cli, configfile, ledger, simulate
from egress.addresses import bytes_of, text_of
from egress.contracts import Finding, Level
from egress.errors import UsageError
from egress.inventory import Inventory
from egress.schema import FLOWS

MONDAY = 1_788_739_200_000_000
HOSTS, DAYS = 6, 2


def asked(out: Path, kinds: list[str], seed: int = 1) -> simulate.Simulation:
    return simulate.Simulation(out, HOSTS, DAYS, seed, MONDAY, kinds)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a fleet of these kinds of theft, made once."""
    made: dict[str, Path] = {}

    def find(kinds: str) -> Path:
        if kinds not in made:
            made[kinds] = tmp_path_factory.mktemp("fleet")
            simulate.simulate(asked(made[kinds], simulate.kinds_of(kinds)))
        return made[kinds]

    return find


def charged(folder: Path) -> list[Finding]:
    inventory = Inventory(configfile.load(folder / "egress.toml"))
    rows = inventory.attribute(pl.read_parquet(folder / "flows.parquet"))
    return ledger.evaluate(ledger.cells_of(rows), inventory)


def labels(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_every_file(fleet: Callable[[str], Path], tmp_path: Path) -> None:
    """Nothing depends on clocks, hashes of the process or threads."""
    once = fleet("all")

    simulate.simulate(asked(tmp_path, simulate.kinds_of("all")))

    assert [
        path.name for path in sorted(once.iterdir()) if path.read_bytes() != (tmp_path / path.name).read_bytes()
    ] == []


@pytest.mark.slow
def test_another_seed_gives_other_traffic(fleet: Callable[[str], Path], tmp_path: Path) -> None:
    """A seed that changes nothing would make one fleet of five."""
    simulate.simulate(asked(tmp_path, [], seed=2))

    assert (tmp_path / "flows.parquet").read_bytes() != (fleet("none") / "flows.parquet").read_bytes()


@pytest.mark.slow
def test_thefts_leave_honest_traffic_and_policy_as_they_were(fleet: Callable[[str], Path]) -> None:
    """Tolerances and caps come from honest bytes alone, and every honest row stands beside the thefts."""
    key = [name for name in FLOWS.names if name not in ("flow_id", "src_port")]
    honest, all_of_it = (pl.read_parquet(fleet(kinds) / "flows.parquet") for kinds in ("none", "all"))
    lost = honest.with_columns(ephemeral=0).join(all_of_it, on=[*key], how="anti")

    assert (fleet("none") / "egress.toml").read_bytes() == (fleet("all") / "egress.toml").read_bytes()
    assert lost.filter(pl.col("host") != "").height == 0


@pytest.mark.slow
def test_what_was_written_is_what_readers_take(fleet: Callable[[str], Path]) -> None:
    """Columns of FLOWS, and a configuration without a doubt but for jobs that nobody ran."""
    flows = pl.read_parquet(fleet("all") / "flows.parquet")
    config = configfile.load(fleet("all") / "egress.toml")

    assert flows.schema == FLOWS.polars
    assert flows["start"].is_sorted()
    assert (flows["end"] >= flows["start"]).all()
    assert configfile.warnings(config) == ()


@pytest.mark.slow
def test_a_site_finds_nothing_large_in_its_honest_traffic(fleet: Callable[[str], Path]) -> None:
    """Checkpoints, pulls, collectives and replies pass the ledger: approvals and receipts fit them."""
    assert [finding for finding in charged(fleet("none")) if finding.level >= Level.HIGH] == []


@pytest.mark.slow
def test_a_burst_stands_in_the_ledger_as_its_label_says(fleet: Callable[[str], Path]) -> None:
    """Ground truth and charging agree, by host, destination and bytes, but for what the host's role tolerates."""
    (label,) = labels(fleet("burst"))
    tolerated = Inventory(configfile.load(fleet("burst") / "egress.toml")).tolerance_of(str(label["host"]))

    found = next(each for each in charged(fleet("burst")) if each.host == label["host"])

    to_taker = next(each for each in found.destinations if label["destination"] in each.addresses)
    assert found.level == Level.CRITICAL
    assert 0 <= int(str(label["bytes"])) - to_taker.bytes <= tolerated


@pytest.mark.slow
def test_labels_count_what_left(fleet: Callable[[str], Path]) -> None:
    """The bytes of a label are those of the rows to its destinations , for thefts alone there."""
    flows = pl.read_parquet(fleet("all") / "flows.parquet")
    alone = [label for label in labels(fleet("all")) if label["kind"] in ("drip-weeks", "parallel", "delta", "ipv6")]

    for label in alone:
        there = [bytes_of(address) for address in label["destinations"]]  # type: ignore[union-attr,attr-defined]
        rows = flows.filter(pl.col("dst_ip").is_in(there) & (pl.col("host") == label["host"]))
        assert rows["src_payload"].sum() == label["bytes"], label["kind"]
    assert len(alone) == 4


@pytest.mark.slow
def test_replay_takes_a_fleet_as_it_is(fleet: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """No row is skipped, and thefts are found."""
    folder = fleet("burst")

    cli.main(["replay", str(folder / "flows.parquet"), "--config", str(folder / "egress.toml"), "--json"])

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["skipped"] == {}
    assert said["findings"]["critical"] >= 1


def test_a_kind_nobody_knows_is_refused_with_those_that_are_known() -> None:
    """A typing error in an evaluation would silently measure nothing."""
    with pytest.raises(UsageError, match=r"brust; known are all, none, burst, parallel"):
        simulate.kinds_of("burst,brust")


def test_every_kind_of_theft_says_what_it_is() -> None:
    """Kinds are what people type; their functions are named alike."""
    assert list(attacks.KINDS) == [each.__name__.replace("_", "-") for each in attacks.KINDS.values()]


def test_addresses_of_takers_are_nobodys() -> None:
    """RFC 5737 and 3849: for documentation."""
    from egress.fleetplan import plan

    fleet = plan(HOSTS, DAYS, 1, MONDAY)
    takers = [text_of(fleet.endpoints[number].address) for number in fleet.places["takers"]]

    assert all(address.startswith(("192.0.2.", "198.51.100.", "203.0.113.")) for address in takers)
