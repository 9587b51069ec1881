"""The made-up fleet: the same bytes for a seed, and a site that would find nothing wrong with its own traffic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from egress import attacks, cardbytes, cli, configfile, coverage, heartbeats, ledger, simulate
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
    """Tolerances and caps come from honest bytes alone, and every honest row stands beside thefts that blind nobody."""
    key = [name for name in FLOWS.names if name not in ("flow_id", "src_port")]
    kinds = ",".join(kind for kind in attacks.KINDS if kind != "gap")

    honest, all_of_it = (pl.read_parquet(fleet(kinds) / "flows.parquet") for kinds in ("none", kinds))

    assert (fleet("none") / "egress.toml").read_bytes() == (fleet(kinds) / "egress.toml").read_bytes()
    assert honest.join(all_of_it, on=key, how="anti").height == 0


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


@pytest.mark.slow
def test_a_stopped_sensor_leaves_no_rows_and_its_card_counts_on(fleet: Callable[[str], Path]) -> None:
    """What the gap hides stands in the counter: between the last beat before and the first one after."""
    (label,) = labels(fleet("gap"))
    flows = pl.read_parquet(fleet("gap") / "flows.parquet")
    beats = pl.read_parquet(fleet("gap") / "heartbeats.parquet").filter(pl.col("host") == label["host"])
    start, end = (pl.lit(label[edge]).str.to_datetime(time_zone="UTC") for edge in ("start", "end"))

    before = beats.filter(pl.col("time") < start).sort("time").tail(1)
    after = beats.filter(pl.col("time") > end).sort("time").head(1)

    assert flows.filter(pl.col("process") == "theft").height == 0
    assert after["nic_tx_bytes"][0] - before["nic_tx_bytes"][0] > int(str(label["bytes"]))
    assert before["epoch"][0] != after["epoch"][0]


@pytest.mark.slow
def test_heartbeats_of_watched_hosts_leave_no_gap_beyond_their_outages(fleet: Callable[[str], Path]) -> None:
    """The card counts what the flows say, its frames, and some chatter: too little for any model."""
    inventory = Inventory(configfile.load(fleet("none") / "egress.toml"))
    rows = inventory.attribute(pl.read_parquet(fleet("none") / "flows.parquet"))
    beats = heartbeats.add([pl.read_parquet(fleet("none") / "heartbeats.parquet")])

    found = coverage.of(beats, cardbytes.add([cardbytes.of(rows, inventory)]), ledger.cells_of(rows), 0, inventory)

    quiet = found.gaps.join(found.events.select("host").unique(), on="host", how="anti")
    sums = quiet.group_by("host").agg(pl.col("beyond").sum())
    assert found.hosts == {host.id for host in inventory.config.fleet.hosts}
    assert sums.filter(pl.col("beyond") > min(model.bytes for model in inventory.config.models) // 640).height == 0


@pytest.mark.slow
def test_a_capture_of_a_theft_holds_its_bytes(tmp_path: Path) -> None:
    """Metered like any capture: payload, direction and time are those of the label."""
    simulate.simulate(simulate.Simulation(tmp_path, HOSTS, DAYS, 1, MONDAY, ["delta"], has_packets=True))
    (label,) = labels(tmp_path)
    out = tmp_path / "metered.parquet"

    cli.main(["replay", str(tmp_path / "pcap" / "delta-1.pcap"), "--flows", str(out), "--quiet"])

    metered = pl.read_parquet(out)
    assert metered["src_payload"].sum() == label["bytes"]
    assert {text_of(address) for address in metered["dst_ip"]} == {label["destination"]}
    assert metered["missed"].sum() == 0


@pytest.mark.slow
def test_zeek_logs_tell_of_each_conversation_that_passed_the_perimeter_once(tmp_path: Path) -> None:
    """Bytes are those of the flows, names those that were asked for before."""
    simulate.simulate(simulate.Simulation(tmp_path, HOSTS, DAYS, 1, MONDAY, ["burst"], has_zeek=True))
    (label,) = labels(tmp_path)

    log = pl.read_ndjson(tmp_path / "zeek" / "conn.log")
    names = pl.read_ndjson(tmp_path / "zeek" / "dns.log")

    assert log["uid"].is_duplicated().any() is False
    assert log.filter(pl.col("id.resp_h") == label["destination"])["orig_bytes"].to_list() == [label["bytes"]]
    assert "api.model-api.home.arpa" in names["query"]


def test_a_kind_nobody_knows_is_refused_with_those_that_are_known() -> None:
    """A typing error in an evaluation would silently measure nothing."""
    with pytest.raises(UsageError, match=r"brust; known are all, none, burst, parallel"):
        simulate.kinds_of("burst,brust")


@pytest.mark.parametrize(("hosts", "days", "seed"), [(4, 2, 1), (5, 1, 1), (5, 2, -1)])
def test_a_fleet_too_small_for_its_roles_is_refused(hosts: int, days: int, seed: int, tmp_path: Path) -> None:
    """Said before anything is written."""
    with pytest.raises(UsageError, match="needs 5 hosts and 2 days"):
        simulate.simulate(simulate.Simulation(tmp_path / "out", hosts, days, seed, MONDAY, []))

    assert not (tmp_path / "out").exists()


def test_every_kind_of_theft_says_what_it_is() -> None:
    """Kinds are what people type; their functions are named alike."""
    assert list(attacks.KINDS) == [each.__name__.replace("_", "-") for each in attacks.KINDS.values()]


def test_addresses_of_takers_are_nobodys() -> None:
    """RFC 5737 and 3849: for documentation."""
    from egress.fleetplan import plan

    fleet = plan(HOSTS, DAYS, 1, MONDAY)
    takers = [text_of(fleet.endpoints[number].address) for number in fleet.places["takers"]]

    assert all(address.startswith(("192.0.2.", "198.51.100.", "203.0.113.")) for address in takers)
