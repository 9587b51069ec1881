"""What people write is read as it was meant, or refused with every problem and its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress import configfile
from egress.addresses import bytes_of, network_of
from egress.config import DAY_US, ClickHouse, Config, Host, LifecycleEvent, Receipt, Role
from egress.configkeys import SECTIONS
from egress.errors import ConfigError

HOST = '[[fleet.hosts]]\nid = "gpu-01"\naddresses = ["10.77.1.10", "fd77:1::10"]\n'
MODEL = '[[models]]\nid = "m"\nbytes = 24_000_352\nholders = ["gpu-01"]\n'
APPROVAL = (
    '[[approvals]]\nid = "copy"\nhosts = ["gpu-*"]\nto = ["203.0.113.0/24", "*.Backup.example.org."]\n'
    'bytes_per_day = 1\nexpires = 2027-01-01\nowner = "o"\nticket = "T-1"\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def written(folder: Path, text: str, **companions: str) -> Path:
    for name, content in companions.items():
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    path = folder / "egress.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configfile.load(path)
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).splitlines()]


def microseconds(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


class TestLoad:
    def test_reads_a_whole_site(self, folder: Path) -> None:
        """Everything of the published example, as records."""
        text = (
            '[fleet]\ninternal = ["10.0.0.0/8"]\nresolvers = ["10.0.0.53"]\n'
            + HOST
            + 'role = "agent"\n[[fleet.roles]]\nid = "agent"\ntolerated_bytes_per_day = 5\n'
            + MODEL
            + "shards = [6_000_088]\n"
            + APPROVAL
            + '[clickhouse]\nurl = "http://db:8123"\npassword_env = "SECRET"\n'
        )
        config = configfile.load(written(folder, text))

        assert config.fleet.internal == (network_of("10.0.0.0/8"),)
        assert config.fleet.resolvers == {bytes_of("10.0.0.53")}
        assert config.fleet.hosts == (Host("gpu-01", (bytes_of("10.77.1.10"), bytes_of("fd77:1::10")), "agent"),)
        assert config.fleet.roles == (Role("agent", 5),)
        assert (config.models[0].bytes, config.models[0].shards) == (24_000_352, (6_000_088,))
        assert config.approvals[0].networks == (network_of("203.0.113.0/24"),)
        assert config.approvals[0].names == ("*.backup.example.org",)
        assert config.approvals[0].expires == microseconds(2027, 1, 1)
        assert (config.approvals[0].receipts, config.approvals[0].receipt_deadline) == (None, DAY_US)
        assert config.clickhouse == ClickHouse("http://db:8123", password_env="SECRET")
        assert not config.is_assumed

    def test_assumes_a_model_where_none_is_declared(self, folder: Path) -> None:
        """A file that only says how large the assumed model is."""
        config = configfile.load(written(folder, "[detect]\nassumed_model_bytes = 7\n"))

        assert config == configfile.assumed(7)
        assert config.is_assumed

    def test_reads_lifecycle_events_in_the_order_of_time(self, folder: Path) -> None:
        """Zones are heeded; the file's order is not."""
        lines = (
            '{"time": "2026-11-20T12:00:00+01:00", "event": "review", "host": "gpu-01", "by": "bob"}\n\n'
            '{"time": "2026-11-20T10:00:00.5Z", "event": "manifest", "job": "j", "host": "gpu-01", '
            '"to": ["203.0.113.7"], "files": [{"path": "a", "bytes": 9007199254740993}]}\n'
        )
        path = written(folder, 'lifecycle = "events.jsonl"\n' + MODEL, events=lines)

        first, second = configfile.load(path).lifecycle

        assert first == LifecycleEvent(
            microseconds(2026, 11, 20, 10) + 500_000,
            "manifest",
            host="gpu-01",
            job="j",
            to=("203.0.113.7",),
            files=(("a", 9_007_199_254_740_993),),
        )
        assert second == LifecycleEvent(microseconds(2026, 11, 20, 11), "review", host="gpu-01", by="bob")

    def test_gives_each_approval_its_own_receipts(self, folder: Path) -> None:
        """One file may serve several approvals; deadlines are durations."""
        lines = "".join(
            f'{{"time": "2026-11-20T10:00:00Z", "approval": "{name}", "host": "gpu-01", "object": "o", "bytes": 3}}\n'
            for name in ("copy", "other")
        )
        one = APPROVAL + 'receipts = "r.jsonl"\nreceipt_deadline = "90m"\n'
        config = configfile.load(written(folder, MODEL + one + one.replace('"copy"', '"other"'), r=lines))

        assert [approval.receipts for approval in config.approvals] == [
            (Receipt(microseconds(2026, 11, 20, 10), name, "gpu-01", "o", 3),) for name in ("copy", "other")
        ]
        assert config.approvals[0].receipt_deadline == 90 * 60 * 1_000_000

    def test_names_every_problem_at_once(self, folder: Path) -> None:
        """Nobody should have to start ten times to learn of ten mistakes."""
        text = HOST.replace("addresses", "adresses") + MODEL.replace("24_000_352", "0") + "[rabbit]\n"

        found = problems_of(written(folder, text))

        assert found == [
            "egress.toml: rabbit is not known; "
            "known here: approvals, clickhouse, detect, fleet, kafka, lifecycle, models, suppressions",
            "egress.toml: fleet.hosts[0].adresses is not known; did you mean addresses?",
            f"egress.toml: models[0].bytes is 0, must be a whole number (bytes), 1..{1 << 62}",
        ]

    def test_names_a_bad_line_by_file_and_number(self, folder: Path) -> None:
        """Companions too."""
        lines = (
            '{"time": "2026-11-20T10:00:00", "event": "review"}\n{"event": "fled"}\n{\n[]\n'
            '{"time": "2026-11-20T10:00:00Z", "event": "manifest", "job": "j", "files": [{"path": "a"}]}\n'
            '{"time": "2026-11-20T10:00:00Z", "event": "review", "by": "bob"}\n'
        )
        found = problems_of(written(folder, 'lifecycle = "events.jsonl"\n', events=lines))

        assert found[0] == "events.jsonl, line 1: time is '2026-11-20T10:00:00', must name its zone: add Z for UTC"
        assert found[1].startswith("events.jsonl, line 2: time is missing")
        assert found[2].startswith("events.jsonl, line 2: event is 'fled', must be one of deployed, ")
        assert found[3].startswith("events.jsonl, line 3: not JSON")
        assert found[4] == "events.jsonl, line 4: must be a table, with keys"
        assert found[5].startswith("events.jsonl, line 5: files[0] must be an object with a `path`")
        assert found[6] == "events.jsonl, line 6: a review needs host or model"
        assert len(found) == 7

    def test_says_how_many_problems_it_leaves_out(self, folder: Path) -> None:
        """A million broken lines make no million messages."""
        found = problems_of(written(folder, 'lifecycle = "events.jsonl"\n', events="x\n" * 1000))

        assert len(found) == 51
        assert found[-1] == "egress.toml: and 950 more problems"

    def test_refuses_a_password_in_the_file(self, folder: Path) -> None:
        """With the way to give it instead."""
        (found,) = problems_of(written(folder, '[clickhouse]\nurl = "http://db"\npassword = "s3cret"\n'))

        assert "password_env" in found
        assert "s3cret" not in found

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HOST + HOST.replace("gpu-01", "b"), "address 10.77.1.10 belongs to gpu-01 and to b"),
            (MODEL + MODEL, "models[1].id is 'm', which another has already"),
            (HOST.replace("10.77.1.10", "127.0.0.1"), "fleet.hosts[0].addresses[0] is '127.0.0.1', must be an address"),
            (HOST.replace("10.77.1.10", "10.77.1"), "fleet.hosts[0].addresses[0] is '10.77.1', must be an address"),
            (HOST.replace('"gpu-01"', '"gpu-*"'), "fleet.hosts[0].id is 'gpu-*', must be an id without"),
            ('[fleet]\ninternal = ["10.1.0.0/8"]', "must be a network such as 10.0.0.0/8; 10.0.0.0/8 is meant?"),
            (APPROVAL.replace('to = ["203.0.113.0/24", "*.Backup.example.org."]\n', ""), "approvals[0].to is missing"),
            (APPROVAL.replace("203.0.113.0/24", "203.0.113"), "approvals[0].to[0] is '203.0.113', must be a network"),
            (APPROVAL.replace("203.0.113.0/24", "*"), "approvals[0].to[0] is '*', must be an address"),
            (APPROVAL.replace("203.0.113.0/24", "10.0.*"), "approvals[0].to[0] is '10.0.*', must be an address"),
            (APPROVAL.replace("2027-01-01", '"2027-01-01"'), "must be a date such as 2027-01-01, without quotes"),
            (APPROVAL.replace('ticket = "T-1"\n', ""), "approvals[0].ticket is missing; it is where it was decided"),
            (APPROVAL + 'receipts = "no.jsonl"\n', "no.jsonl: cannot be read (No such file or directory)"),
            (APPROVAL + 'receipt_deadline = "soon"\n', "must be a duration such as"),
            (APPROVAL + "serve = [0]\n", "approvals[0].serve[0] is 0, must be a whole number (a port), 1..65535"),
            (MODEL.replace("24_000_352", "true"), "models[0].bytes is True, must be a whole number"),
            (MODEL.replace("24_000_352", "1e9"), "models[0].bytes is 1000000000.0, must be a whole number"),
            (MODEL + 'status = "gone"\n', "models[0].status is 'gone', must be one of active, retiring, retired"),
            (MODEL + "shards = [24_000_353]\n", "a shard of m is larger than the 24000352 bytes"),
            (MODEL + 'delta_of = "m"\n', "m is delta_of itself"),
            (MODEL.replace('"m"', '"assumed"'), "the id 'assumed' stands for what is not declared"),
            ("models = 3\n", "models must be a list of tables: write [[models]]"),
            ("fleet = 3\n", "fleet must be a table, with keys"),
            ("x = ", "not TOML: "),
        ],
    )
    def test_refuses_what_cannot_hold(self, folder: Path, text: str, message: str) -> None:
        """Type, range, form, and what belongs together."""
        assert any(message in problem for problem in problems_of(written(folder, text)))

    def test_says_what_to_do_about_a_missing_file(self, folder: Path) -> None:
        assert problems_of(folder / "egress.toml") == [
            "egress.toml: cannot be read (No such file or directory); `egress init` writes one"
        ]

    def test_reads_a_file_of_an_editor_that_marks_utf8(self, folder: Path) -> None:
        """Windows puts a byte order mark in front."""
        path = written(folder, "")
        path.write_bytes(b"\xef\xbb\xbf" + HOST.encode())

        assert len(configfile.load(path).fleet.hosts) == 1

    def test_refuses_text_that_is_not_utf8(self, folder: Path) -> None:
        path = folder / "egress.toml"
        path.write_bytes(b'lifecycle = "\xff"\n')

        assert problems_of(path) == ["egress.toml: byte 13 is not UTF-8; TOML is UTF-8 text"]


TOML_VALUES = st.recursive(
    st.sampled_from(["0", "-1", "1.5", "nan", "true", '""', '"x"', '"10.0.0.1"', '"\\u0000"', "07:32:00", "2027-01-01"])
    | st.sampled_from(["9" * 30, "0x" + "f" * 4000, "9" * 5000, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | inner.map(lambda item: f"{{id = {item}}}")
    ),
    max_leaves=4,
)
PLACES = [(section.name, key.name) for section in SECTIONS for key in section.keys if section.name]
PLACES += [("fleet", "hosts"), ("fleet", "roles")]


@given(st.sampled_from(PLACES), TOML_VALUES)
@settings(max_examples=150, deadline=None)
@pytest.mark.slow
def test_any_value_is_taken_or_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], value: str
) -> None:
    """Never an exception that leaves the writer alone with a traceback."""
    section, key = place
    heading = f"[{section}]" if section in ("fleet", "detect", "clickhouse", "kafka") else f"[[{section}]]"
    path = written(tmp_path_factory.mktemp("any"), f"{heading}\n{key} = {value}\n")
    problems = ""
    try:
        configfile.load(path)
    except ConfigError as refusal:
        problems = str(refusal)

    assert all(line.startswith(str(path.parent)) for line in problems.splitlines())


class TestTemplate:
    def test_loads_as_it_is(self, folder: Path) -> None:
        """`egress init` leaves nothing broken behind, and nothing approved."""
        config = configfile.load(written(folder, configfile.template()))

        assert [host.id for host in config.fleet.hosts] == ["gpu-01"]
        assert config.approvals == ()
        assert configfile.warnings(config) == ()

    def test_loads_with_every_key_switched_on(self, folder: Path) -> None:
        """Each example is a value that its key takes."""
        text = re.sub(r"(?m)^# (?=\[|\w+ = )", "", configfile.template())
        text = re.sub(r"(?m)^password_file.*\n", "", text)

        config = configfile.load(written(folder, text, lifecycle="", receipts=""))

        assert len(config.approvals) == 1
        assert config.clickhouse is not None

    def test_mentions_every_key(self) -> None:
        """A key that nobody can find is no key."""
        written_keys = {key.name for section in SECTIONS for key in section.keys if not key.refused}

        assert [name for name in sorted(written_keys) if f"{name} = " not in configfile.template()] == []
        assert [name for name in sorted(written_keys) if f"| `{name}` |" not in configfile.reference()] == []


class TestWarnings:
    @pytest.mark.parametrize(
        ("text", "warning"),
        [
            (HOST + MODEL.replace("gpu-01", "gpu-9*"), "models: holder gpu-9* of m matches no host"),
            (HOST + MODEL + APPROVAL.replace("gpu-*", "role:x"), "role:x in hosts of copy matches no host"),
            (HOST + MODEL + APPROVAL, "copy approves by name, but fleet.resolvers is empty"),
            ('[fleet]\ninternal = ["10.1.0.0/16"]\n' + HOST + MODEL, "10.77.1.10 of gpu-01 is not in fleet.internal"),
            (HOST + MODEL + '[[fleet.roles]]\nid = "x"\n', "no host has the role x"),
            (HOST + MODEL.replace('holders = ["gpu-01"]', ""), "m has no holders; it is never charged"),
            (HOST, "no model is declared"),
            (HOST + MODEL + '[clickhouse]\nurl = "http://db:8123"\n', "give --store http://db:8123 instead"),
            (
                '[fleet]\ninternal = ["10.0.0.0/8", "fd00::/8"]\n' + HOST.replace(', "fd77:1::10"', "") + MODEL,
                "gpu-01 holds a model and lists no IPv6 address",
            ),
        ],
    )
    def test_name_what_is_hardly_meant(self, folder: Path, text: str, warning: str) -> None:
        """Allowed, and said."""
        found = configfile.warnings(configfile.load(written(folder, text)))

        assert any(warning in sentence for sentence in found), found

    def test_leave_globs_over_addresses_alone(self, folder: Path) -> None:
        """They are there for hosts that nobody lists."""
        text = (
            '[fleet]\ninternal = ["10.0.0.0/8", "fd00::/8"]\n'
            + HOST
            + MODEL.replace('"gpu-01"]', '"gpu-01", "10.9.*"]')
        )

        assert configfile.warnings(configfile.load(written(folder, text))) == ()


def test_the_configuration_of_a_folder_is_found(folder: Path) -> None:
    """There, and nowhere above it."""
    path = written(folder, "")

    assert configfile.discover(folder) == path
    assert configfile.discover(folder / "below") is None


def test_what_is_assumed_needs_no_file() -> None:
    config = configfile.assumed()

    assert isinstance(config, Config)
    assert (config.is_assumed, config.models[0].bytes) == (True, 100_000_000)
