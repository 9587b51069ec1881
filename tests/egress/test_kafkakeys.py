"""What a site may say of its bus."""

from __future__ import annotations

from pathlib import Path

import pytest

from egress import configfile
from egress.config import Kafka
from egress.errors import ConfigError

SERVERS = '[kafka]\nservers = ["one.example.org:9093", "[fd00::1]:9093"]\n'


def loaded(folder: Path, text: str) -> Kafka | None:
    path = folder / "egress.toml"
    path.write_text(text)
    return configfile.load(path).kafka


def test_without_the_section_there_is_no_bus(tmp_path: Path) -> None:
    """Replay needs none."""
    assert loaded(tmp_path, "") is None


def test_servers_are_enough(tmp_path: Path) -> None:
    """Everything else has a default that holds for a fleet."""
    found = loaded(tmp_path, SERVERS)

    assert found == Kafka(("one.example.org:9093", "[fd00::1]:9093"))
    assert found.topic("flows") == "egress.flows.v1"


def test_files_of_secrets_are_relative_to_the_file(tmp_path: Path) -> None:
    """As every path in it is."""
    text = SERVERS + 'tls = true\nca = "ca.pem"\nuser = "egress"\npassword_file = "secret"\n'

    found = loaded(tmp_path, text)

    assert found is not None
    assert (found.ca, found.password_file) == (tmp_path / "ca.pem", tmp_path / "secret")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('servers = ["kafka"]', "kafka.servers[0] is 'kafka', must be host:port such as kafka-1.example.org:9092"),
        ('servers = ["kafka:90000"]', "kafka.servers[0] is 'kafka:90000', must be host:port"),
        ('prefix = "a b"', "kafka.prefix is 'a b', must be 1 to 100 letters, digits, dots, dashes or underscores"),
        ("partitions = 0", "kafka.partitions is 0, must be a whole number (partitions), 1..10000"),
        ('ca = "ca.pem"', "kafka.ca is given, but tls is not true; add `tls = true`, or leave out ca"),
        ('tls = true\ncert = "c.pem"', "kafka.cert and key belong together; give both or none"),
        ('user = "egress"', "kafka.user is given without a password; name it in password_env or password_file"),
        ('password_env = "P"', "kafka.user is missing, but a password is named; say whose it is"),
        (
            'user = "egress"\npassword_env = "P"\nmechanism = "PLAIN"',
            "kafka.mechanism PLAIN sends the password as it is; add `tls = true`, or use SCRAM-SHA-512",
        ),
        ('password = "s3cret"', "kafka.password: secrets do not belong here"),
    ],
)
def test_what_cannot_hold_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """Before anything is connected, and without showing a secret."""
    text = SERVERS if "servers" not in line else "[kafka]\n"

    with pytest.raises(ConfigError) as refusal:
        loaded(tmp_path, text + line + "\n")

    assert f"egress.toml: {problem}" in str(refusal.value)
    assert "s3cret" not in str(refusal.value)
