"""Why a broker cannot be used, found by trying: connection, TLS, sign-in, one after the other.

The client library retries what cannot get better, and reports all of it as a timeout.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

from egress.config import Kafka
from egress.errors import BusAway, BusError
from egress.kafkaclient import context, options

STEP_S = 2.0
ALERT_S = 0.5
"""TLS 1.3 says only after the handshake that a certificate is wanted."""
MOST_ANSWER_BYTES = 1 << 16

# Kafka's protocol guide: keys of requests, and the versions of them that need no tagged fields.
API_VERSIONS = (18, 0)
SASL_HANDSHAKE = (17, 1)
SASL_AUTHENTICATE = (36, 0)
TLS_ALERT = 0x15


class _Said(Exception):
    """Carries what is to be said out of a trial."""

    def __init__(self, failure: BusError) -> None:
        super().__init__(str(failure))
        self.failure = failure


def diagnose(settings: Kafka) -> BusError:
    """Of the servers, tried in turn, the first that refuses for good, else the last that does not answer."""
    found: BusError = BusAway("no server is named")
    for server in settings.servers:
        try:
            found = _trial(server, settings)
        except _Said as said:
            found = said.failure
        if not isinstance(found, BusAway):
            break
    return found


def _trial(server: str, settings: Kafka) -> BusError:
    where = f"Kafka at {server}"
    with _connected(server, where) as plain:
        try:
            connection = _secured(plain, server, where, settings) if settings.tls else plain
            connection.settimeout(STEP_S)
            if settings.user:
                _sign_in(connection, where, settings)
            else:
                _ask(connection, API_VERSIONS, b"")
        except _Alert:
            return BusError(f"{where}: speaks TLS; set kafka.tls = true")
        except ssl.SSLError as error:
            return BusError(f"{where}: TLS fails ({error.reason}); check kafka.tls, kafka.cert and kafka.key")
        except OSError as error:
            words = error.strerror or str(error) or "connection closed"
            return BusAway(f"{where}: does not answer as a broker ({words}); does it expect TLS, or is it starting?")
    return BusAway(f"{where}: answers, but knows no cluster yet; is it starting, or does it expect a user?")


def _connected(server: str, where: str) -> socket.socket:
    host, _, port = server.rpartition(":")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), STEP_S)
    except socket.gaierror as error:
        raise _Said(BusAway(f"{where}: no such host ({error.strerror}); check kafka.servers")) from error
    except OSError as error:
        words = error.strerror or str(error)
        raise _Said(BusAway(f"{where}: cannot be reached ({words}); is it running, is the port right?")) from error


def _secured(plain: socket.socket, server: str, where: str, settings: Kafka) -> socket.socket:
    try:
        connection = context(settings).wrap_socket(plain, server_hostname=server.rpartition(":")[0].strip("[]"))
    except ssl.SSLCertVerificationError as error:
        remedy = "name the authority's file in kafka.ca" if settings.ca is None else f"is {settings.ca} the right one?"
        failure = BusError(f"{where}: its certificate is not to be trusted ({error.verify_message}); {remedy}")
        raise _Said(failure) from error
    connection.settimeout(ALERT_S)
    with suppress(TimeoutError):
        connection.recv(1)
    return connection


def _sign_in(connection: socket.socket, where: str, settings: Kafka) -> None:
    from kafka.net.sasl import get_sasl_mechanism

    spoken = _ask(connection, SASL_HANDSHAKE, _text(settings.mechanism))
    if _code(spoken):
        raise _Said(BusError(f"{where}: {settings.mechanism} is not spoken there; set kafka.mechanism"))
    mechanism: Any = get_sasl_mechanism(settings.mechanism)(**options(settings))
    while not mechanism.is_done():
        token = bytes(mechanism.auth_bytes())
        answer = _ask(connection, SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
        if _code(answer):
            raise _Said(BusError(f"{where}: user {settings.user!r} or the password is refused; check both"))
        words = max(0, struct.unpack_from(">h", answer, 2)[0])
        mechanism.receive(answer[8 + words :])


class _Alert(OSError):
    """The other side speaks TLS, and we did not."""


def _ask(connection: socket.socket, request: tuple[int, int], body: bytes) -> bytes:
    """The answer to one request, behind its correlation id."""
    message = struct.pack(">hhi", *request, 1) + _text("egress") + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    head = _received(connection, 4)
    if head[0] == TLS_ALERT:
        raise _Alert
    size = struct.unpack(">i", head)[0]
    if not 4 <= size <= MOST_ANSWER_BYTES:
        raise OSError(f"an answer of {size} bytes")
    return _received(connection, size)[4:]


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("connection closed")
        data += more
    return data


def _code(answer: bytes) -> int:
    return int(struct.unpack_from(">h", answer)[0])


def _text(words: str) -> bytes:
    return struct.pack(">h", len(words)) + words.encode()
