"""How a process reaches its brokers: over TLS, by certificate, by password, and what it says where it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from egress.cli import main
from egress.config import Config, Kafka
from egress.errors import BusAway, BusError, ConfigError, UsageError
from egress.kafka import Producer, make_topics, read_all, settings_of
from tests.conftest import absent
from tests.services import broker as brokers
from tests.services.certificates import Authority

PASSWORD = "correct-horse"


@dataclass(frozen=True)
class Secured:
    """A broker that does not talk to everybody."""

    listeners: dict[str, int]
    folder: Path
    authority: Path

    def settings(self, listener: str) -> Kafka:
        return Kafka((f"127.0.0.1:{self.listeners[listener]}",), partitions=1, tls=True, ca=self.authority)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    try:
        with brokers.secured(folder, "egress", PASSWORD) as (found, authority):
            yield Secured(found.listeners, folder, authority)
    except brokers.NotHere as problem:
        absent("Apache Kafka", str(problem))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts meanwhile."""
    monkeypatch.setattr("egress.topics.CONNECT_S", 0.2)


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", PASSWORD)


def goes_through(settings: Kafka) -> bool:
    """Topics made, a message written and read."""
    make_topics(settings)
    producer = Producer(settings)
    producer.send("flows", b"key", b"value")
    assert producer.flush(10)
    producer.close()
    return [message.value for message in read_all(settings, "flows")] == [b"value"]


def refusal(settings: Kafka) -> str:
    """What is said where it is refused for good, in less time than a person waits."""
    started = time.monotonic()
    with pytest.raises(BusError) as found:
        make_topics(settings)
    assert not isinstance(found.value, BusAway)
    assert found.value.exit_code == 4
    assert time.monotonic() - started < 12
    return str(found.value)


class TestWhoIsNamed:
    def test_the_environment_stands_for_the_servers_of_the_section(self) -> None:
        """The rest of the section holds."""
        config = Config(kafka=Kafka(("a:1",), prefix="p"))

        assert settings_of(config, {"EGRESS_KAFKA": "b:2, c:3"}) == Kafka(("b:2", "c:3"), prefix="p")
        assert settings_of(config, {}) == config.kafka

    def test_the_environment_alone_is_enough(self) -> None:
        """For a desk."""
        assert settings_of(Config(), {"EGRESS_KAFKA": "b:2"}) == Kafka(("b:2",))

    def test_nobody_named_is_said_with_its_remedy(self) -> None:
        """Both ways to name one."""
        with pytest.raises(UsageError, match=r"write \[kafka\] with servers into egress.toml, or set EGRESS_KAFKA"):
            settings_of(Config(), {})


class TestSecrets:
    def test_a_variable_that_is_not_set_is_named(self) -> None:
        """Not taken for an empty password."""
        settings = Kafka(("a:1",), user="egress", password_env="NOT_SET")

        with pytest.raises(ConfigError, match="variable NOT_SET is not set"):
            Producer(settings).connect()

    @pytest.mark.parametrize(("content", "problem"), [(None, "cannot be read"), ("\nx", "first line is empty")])
    def test_a_password_file_without_a_password_is_named(
        self, tmp_path: Path, content: str | None, problem: str
    ) -> None:
        """With its path, and nothing of its content."""
        path = tmp_path / "secret"
        if content is not None:
            path.write_text(content)

        with pytest.raises(ConfigError, match=problem) as found:
            Producer(Kafka(("a:1",), user="egress", password_file=path)).connect()

        assert str(path) in str(found.value)

    def test_a_certificate_that_is_none_is_named(self, tmp_path: Path) -> None:
        """Before anything is connected."""
        path = tmp_path / "ca.pem"
        path.write_text("nothing")

        with pytest.raises(ConfigError, match=r"kafka\.ca: .*ca\.pem: cannot be read as PEM certificates"):
            Producer(Kafka(("a:1",), tls=True, ca=path)).connect()


class TestUnreachable:
    @pytest.mark.slow
    def test_nobody_listening_is_said(self) -> None:
        """With the server that was tried."""
        with pytest.raises(BusAway, match=r"Kafka at 127\.0\.0\.1:1: cannot be reached \(Connection refused\)"):
            make_topics(Kafka(("127.0.0.1:1",)))

    @pytest.mark.slow
    def test_the_command_ends_with_4(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """As every service that cannot be reached."""
        monkeypatch.setenv("EGRESS_KAFKA", "127.0.0.1:1")
        monkeypatch.chdir(tmp_path)

        assert main(["init", "--kafka"]) == 4
        assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.service
class TestSecured:
    def test_tls_with_the_right_authority(self, secured: Secured) -> None:
        """Encrypted, and the broker is who it says."""
        assert goes_through(replace(secured.settings("TLS"), prefix="tls"))

    def test_a_certificate_of_our_own_where_the_broker_wants_one(self, secured: Secured) -> None:
        """mTLS."""
        cert, key = secured.folder / "client.pem", secured.folder / "client.key"

        assert goes_through(replace(secured.settings("MTLS"), prefix="mtls", cert=cert, key=key))

    @pytest.mark.usefixtures("password")
    def test_a_user_with_a_password(self, secured: Secured) -> None:
        """SCRAM-SHA-512 over TLS."""
        settings = replace(secured.settings("SASL"), prefix="scram", user="egress", password_env="SECRET")

        assert goes_through(settings)

    def test_a_password_from_a_file(self, secured: Secured, tmp_path: Path) -> None:
        """With the newline that editors leave."""
        path = tmp_path / "secret"
        path.write_text(f"{PASSWORD}\n")

        assert goes_through(replace(secured.settings("SASL"), prefix="file", user="egress", password_file=path))

    def test_a_wrong_password_is_refused_at_once_and_not_shown(
        self, secured: Secured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trying again could lock the user out."""
        monkeypatch.setenv("SECRET", "wrong-horse")

        said = refusal(replace(secured.settings("SASL"), user="egress", password_env="SECRET"))

        assert "user 'egress' or the password is refused; check both" in said
        assert "horse" not in said

    def test_an_unknown_authority_is_said(self, secured: Secured, tmp_path: Path) -> None:
        """Whoever stands in the middle cannot read along."""
        other = Authority(tmp_path, "other").path

        said = refusal(replace(secured.settings("TLS"), ca=other))

        assert "its certificate is not to be trusted (" in said
        assert f"is {other} the right one?" in said

    def test_a_missing_certificate_of_our_own_is_said(self, secured: Secured) -> None:
        """TLS 1.3 tells only after the handshake."""
        said = refusal(secured.settings("MTLS"))

        assert "TLS fails (" in said
        assert said.endswith("; check kafka.tls, kafka.cert and kafka.key")

    @pytest.mark.usefixtures("password")
    def test_a_mechanism_that_is_not_spoken_is_said(self, secured: Secured) -> None:
        """PLAIN may be all that somebody else's broker has."""
        settings = replace(secured.settings("SASL"), user="egress", password_env="SECRET", mechanism="PLAIN")

        assert "PLAIN is not spoken there; set kafka.mechanism" in refusal(settings)

    def test_plain_text_to_a_tls_port_is_said(self, secured: Secured) -> None:
        """The most common mistake of all."""
        with pytest.raises(BusError, match=r"speaks TLS; set kafka.tls = true|does it expect TLS"):
            make_topics(Kafka(secured.settings("TLS").servers))
