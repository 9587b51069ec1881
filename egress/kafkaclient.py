"""How a process reaches its brokers: options of the client library, secrets, and failures in words that help."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from egress.config import Config, Kafka
from egress.errors import BusError, ConfigError, UsageError
from egress.passwords import password_of

SERVERS_VARIABLE = "EGRESS_KAFKA"
MAX_MESSAGE_BYTES = 1_000_000
"""Of one message with key and headers: just under what brokers take by default, 1 MiB."""
REQUEST_TIMEOUT_MS = 5_000
"""A broker that froze is given up after so long, long enough for a slow disk. Whoever writes again is recognised."""
RECONNECT_MS = 1_000
"""The library's own limit is 30 s, which a broker's return would go unnoticed for."""
SETUP = {"socket_connection_setup_timeout_ms": 2_000, "socket_connection_setup_timeout_max_ms": 5_000}
"""A frozen broker takes connections; the library would wait 10 s for its first word, whatever it is told."""
METADATA_AGE_MS = 60_000
"""New partitions are noticed after so long."""

# The library tells of each failed attempt by itself; here a failure is told once, in our words, by whoever hits it.
logging.getLogger("kafka").addHandler(logging.NullHandler())


def settings_of(config: Config, environment: Mapping[str, str] = os.environ) -> Kafka:
    """The bus that a site declared, with `EGRESS_KAFKA` in place of its servers. Raises UsageError without either."""
    given = environment.get(SERVERS_VARIABLE, "")
    servers = tuple(server.strip() for server in given.split(",") if server.strip())
    if config.kafka is not None:
        return replace(config.kafka, servers=servers) if servers else config.kafka
    if servers:
        return Kafka(servers)
    raise UsageError(
        f"no Kafka is named: write [kafka] with servers into egress.toml, or set {SERVERS_VARIABLE}=host:port"
    )


def options(settings: Kafka) -> dict[str, Any]:
    """What every client of the library is told. Raises ConfigError where a certificate or secret is not there."""
    import crc32c  # noqa: F401 - without it, checksums cost 12 times more; the library would go on without a word

    found: dict[str, Any] = {
        "bootstrap_servers": list(settings.servers),
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "security_protocol": ("SASL_" if settings.user else "") + ("SSL" if settings.tls else "PLAINTEXT"),
    }
    if settings.tls:
        found["ssl_context"] = context(settings)
    if settings.user:
        found["sasl_mechanism"] = settings.mechanism
        found["sasl_plain_username"] = settings.user
        found["sasl_plain_password"] = password_of("kafka", settings.password_env, settings.password_file)
    return found


def made(kind: Callable[..., Any], settings: Kafka, timeout_s: float, **more: Any) -> Any:
    """A connected client of the library. Raises the library's errors; nothing of a failed attempt stays behind."""
    from kafka.net.compat import KafkaNetClient

    connections: list[Any] = []

    def connection(*arguments: Any, **configs: Any) -> Any:
        connections.append(KafkaNetClient(*arguments, **configs | SETUP))
        return connections[0]

    try:
        return kind(
            kafka_client=connection,
            bootstrap_timeout_ms=max(1, int(timeout_s * 1000)),
            metadata_max_age_ms=METADATA_AGE_MS,
            **options(settings),
            **more,
        )
    except BaseException:
        for one in connections:  # the library leaves its thread running: one more for each attempt
            one.close()
        raise


def explain(error: BaseException, settings: Kafka) -> BusError:
    """The same failure as a BusError, or as BusAway where a broker may come back, with what to do next."""
    from kafka import errors

    where = f"Kafka at {', '.join(settings.servers)}"
    words = " ".join(str(error).split())[:300]
    if isinstance(error, errors.SaslAuthenticationFailedError):
        return BusError(f"{where}: user {settings.user!r} or the password is refused; check both [{words}]")
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return BusError(f"{where}: {settings.mechanism} is not spoken there; set kafka.mechanism [{words}]")
    if isinstance(error, errors.AuthorizationError):
        return BusError(f"{where}: the user may not do that; grant it on the topics and groups of Egress [{words}]")
    if isinstance(error, errors.FencedInstanceIdError):
        return BusError(f"{where}: another process has joined under this member's name; end one of the two")
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return BusError(f"{where}: a message is too large; raise max.message.bytes of its topic [{words}]")
    if isinstance(error, errors.KafkaConnectionError | errors.KafkaTimeoutError | errors.RetriableError):
        from egress.kafkatrial import diagnose

        return diagnose(settings)
    return BusError(f"{where}: {type(error).__name__}; see the broker's log [{words}]")


@cache
def context(settings: Kafka) -> ssl.SSLContext:
    """One for all connections of a process: reading the system's authorities takes 20 ms."""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"kafka.ca: {settings.ca}: cannot be read as PEM certificates ({_short(error)})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert:
        try:
            context.load_cert_chain(settings.cert, settings.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"kafka.cert: {settings.cert} and {settings.key}: no certificate with its key, without a "
                f"passphrase ({_short(error)})"
            ) from error
    return context


def _short(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
