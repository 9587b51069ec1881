"""What is fuzzed: each target takes any bytes, must end in an answer, and gives it, so that two ways can be compared.

An invariant that does not hold is an AssertionError; every exception but `EgressError` is a defect of the code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from arrays import octets, room, taken

from collectors import dns, hostname, http, quic, tls
from egress import configfile
from egress.errors import ConfigError

Target = Callable[[bytes], object]
STATES = (tls.ABSENT, tls.FOUND, tls.CUT)


def dns_answers(data: bytes) -> object:
    """Never more addresses than fit into their room; a name that can be shown."""
    arena, offset, length = octets(data), np.zeros(1, np.int64), np.array([len(data)], np.int64)
    places = int(dns.capacity(length))
    which, address = np.empty(places, np.int64), np.zeros((places, 16), np.uint8)
    found = int(dns.read_answers(arena, offset, length, which, address))
    assert 0 <= found <= places
    if dns.skip_question(arena, 0, len(data)) < 0:
        assert found == 0
        return ()
    return _spelled(data[dns.HEADER :], hostname.LABELS), address[:found].tobytes()


def tls_hello(data: bytes) -> object:
    """A name lies within what was put together from the records."""
    scratch = room(len(data))
    state, start, end = tls.read_sni(octets(data), 0, len(data), scratch)
    assert state in STATES
    if state != tls.FOUND:
        return state
    assert 0 <= start < end <= len(data)
    return _spelled(taken(scratch, start, end), hostname.PLAIN)


def http_host(data: bytes) -> object:
    """A host lies within the request."""
    state, start, end = http.read_host(octets(data), 0, len(data))
    assert state in STATES
    if state != tls.FOUND:
        return state
    assert 0 <= start < end <= len(data)
    return _spelled(data[start:end], hostname.PLAIN)


def quic_datagrams(data: bytes) -> object:
    """Two datagrams of one client; the first byte pair says where the first one ends."""
    cut = int.from_bytes(data[:2], "big")
    state, name = quic.server_name([data[2 : 2 + cut], data[2 + cut :]])
    assert state in STATES
    assert (state == tls.FOUND) == (name != b"")
    return state, name


def quic_frames(data: bytes) -> object:
    """What stands inside an Initial packet, as if it had been decrypted."""
    stream = quic._joined(list(quic._crypto_frames(data)))
    assert len(stream) <= quic.MAX_STREAM
    state, start, end = tls.read_hello(octets(stream), 0, len(stream))
    assert state in STATES
    return state, start, end


def config_file(data: bytes) -> object:
    """Any file is a configuration or a ConfigError, never anything else."""
    return _loaded({"egress.toml": data})


def lifecycle_file(data: bytes) -> object:
    """Likewise its companion."""
    return _loaded({"egress.toml": b'lifecycle = "lifecycle.jsonl"\n', "lifecycle.jsonl": data})


def _loaded(files: dict[str, bytes]) -> object:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            config = configfile.load(Path(folder) / "egress.toml")
        except ConfigError:
            return "refused"
    configfile.warnings(config)
    return "taken"


def _spelled(raw: bytes, form: int) -> str:
    """As text; whatever the sender wrote, a terminal can show it."""
    start, length = np.zeros(1, np.int64), np.array([min(len(raw), 300)], np.int64)
    text = str(hostname.texts(octets(raw), start, length, form)[0])
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= hostname.MAX_NAME
    return text


TARGETS: dict[str, Target] = {
    "dns": dns_answers,
    "tls": tls_hello,
    "http": http_host,
    "quic": quic_datagrams,
    "quic_frames": quic_frames,
    "config": config_file,
    "lifecycle": lifecycle_file,
}
