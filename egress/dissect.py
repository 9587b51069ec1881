"""What tshark sees inside the packets of one finding: who spoke which protocol with which names, counted.

For reading by a person, never for a decision: everything here was chosen by whoever sent it. All text is escaped.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egress.errors import ServiceError, UsageError
from egress.words import safe

MAX_PACKETS = 20_000
"""Packets looked at; tshark and its XML take about 1 ms each."""
TIMEOUT_S = 60.0
MAX_TEXT = 200
MAX_VALUES = 10_000

FIELDS = {
    "tls.handshake.extensions_server_name": "TLS server name",
    "tls.handshake.ja4": "JA4",
    "x509ce.dNSName": "certificate name",
    "http.request.method": "HTTP method",
    "http.host": "HTTP host",
    "http.user_agent": "HTTP user agent",
    "http.server": "HTTP server",
    "ssh.protocol": "SSH software",
}
"""Field of tshark -> what it is called here. TLS versions and DNS queries need a look at a second field."""

CLIENT_HELLO, SERVER_HELLO = "1", "2"
FILTER = (
    "tls.handshake.type in {1, 2, 11} or http.request or http.response or ssh.protocol or (dns.flags.response == 0)"
)
CUT_TYPE = "type beyond the snap length"
NO_JA4 = "JA4: not offered by this tshark (4.2 and newer have it)"

Fields = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """`value` of `what` occurred in `count` packets of a conversation."""

    conversation: str
    """`client -> server:port`; the lower port is taken for the server's."""
    what: str
    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Dissection:
    """Rows by conversation, what, then most frequent first; `notes` say what could not be seen."""

    rows: tuple[Seen, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Summary:
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    packets: int = 0
    cut_packets: int = 0
    has_hello: bool = False
    has_ja4: bool = False
    is_full: bool = False

    def add(self, conversation: str, seen: Iterable[tuple[str, str]]) -> None:
        for what, value in seen:
            key = (conversation, what, _readable(value))
            if key in self.counts or len(self.counts) < MAX_VALUES:
                self.counts[key] += 1
            else:
                self.is_full = True


def summarise(path: Path, max_packets: int = MAX_PACKETS, timeout_s: float = TIMEOUT_S) -> Dissection:
    """What is in a capture, by conversation. Raises ServiceError where tshark is absent or cannot read it."""
    tshark = shutil.which("tshark")
    if tshark is None:
        raise ServiceError("tshark is not here, which --dissect asks: apt-get install tshark")
    try:
        import pyshark
    except ImportError as error:
        raise UsageError("pyshark is not here, which --dissect needs: pip install 'egress[dissect]'") from error
    _refuse_unreadable(tshark, path)
    summary = _Summary()
    is_done = _run(pyshark, path, summary, max_packets, timeout_s)
    notes = list(_notes(summary, max_packets))
    if not is_done:
        notes.append(f"tshark was stopped after {timeout_s:g} s; what it saw until then is shown")
    return Dissection(_rows(summary), tuple(notes))


def _notes(summary: _Summary, max_packets: int) -> Iterator[str]:
    if summary.packets >= max_packets:
        yield f"only the first {max_packets:,} packets with such contents were looked at"
    if summary.is_full:
        yield f"more than {MAX_VALUES:,} different values; the rest was left out"
    if summary.cut_packets:
        yield f"{summary.cut_packets:,} of {summary.packets:,} packets were cut by the snap length; values may be, too"
    if summary.has_hello and not summary.has_ja4:
        yield NO_JA4


def _run(pyshark: Any, path: Path, summary: _Summary, max_packets: int, timeout_s: float) -> bool:
    """Feed packets into the summary; False if time ran out."""
    from pyshark.capture.capture import StopCapture, TSharkCrashException

    def take(packet: Any) -> None:
        summary.packets += 1
        _take(summary, packet)
        if summary.packets >= max_packets:
            raise StopCapture

    loop = asyncio.new_event_loop()  # of our own: pyshark would otherwise replace the process's child watcher
    capture = pyshark.FileCapture(
        str(path), keep_packets=False, display_filter=FILTER, eventloop=loop, custom_parameters=["-n"]
    )
    try:
        with _quiet_asyncio():
            capture.apply_on_packets(take, timeout=timeout_s)
    except TimeoutError:
        return False
    except TSharkCrashException as error:
        raise ServiceError(f"{path}: tshark gave up: {safe(str(error))}") from error
    finally:
        with _quiet_asyncio(), suppress(TSharkCrashException):
            capture.close()
        loop.close()
    return True


@contextmanager
def _quiet_asyncio() -> Iterator[None]:
    """asyncio warns of an `unknown child process` whenever pyshark ends a tshark that has just ended by itself."""
    logger = logging.getLogger("asyncio")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _refuse_unreadable(tshark: str, path: Path) -> None:
    """pyshark takes a file that tshark cannot read for an empty one."""
    command = [tshark, "-n", "-r", str(path), "-c", "1"]
    try:
        asked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{path}: tshark does not answer: {error}; does `tshark --version` work?") from error
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:]
        raise ServiceError(f"{path}: tshark cannot read it: {safe(''.join(last))}; is it a capture?")


def _take(summary: _Summary, packet: Any) -> None:
    fields = _fields(packet)
    summary.cut_packets += int(packet.captured_length) < int(packet.length)
    summary.has_hello |= CLIENT_HELLO in fields.get("tls.handshake.type", [])
    summary.has_ja4 |= "tls.handshake.ja4" in fields
    seen = [(what, value) for name, what in FIELDS.items() for value in fields.get(name, [])]
    summary.add(_conversation(fields), [*seen, *_tls_versions(fields), *_common_names(fields), *_queries(fields)])


def _fields(packet: Any) -> dict[str, list[str]]:
    """Dotted name -> values as tshark shows them, over all layers; of repeated layers all values, innermost last."""
    found: dict[str, list[str]] = {}
    for layer in packet.layers:
        for one in layer._get_all_fields_with_alternates():
            value = one.showname_value if one.name in _NAMED else one.show
            if value is not None:
                found.setdefault(one.name, []).append(str(value))
    return found


_NAMED = {"tls.handshake.version", "tls.handshake.extensions.supported_version", "dns.qry.type"}
"""Numbers whose meaning tshark knows: `TLS 1.3 (0x0304)`."""


def _conversation(fields: Fields) -> str:
    """Innermost addresses, client first."""
    source = _last(fields, "ip.src", "ipv6.src")
    target = _last(fields, "ip.dst", "ipv6.dst")
    source_port = _last(fields, "tcp.srcport", "udp.srcport")
    target_port = _last(fields, "tcp.dstport", "udp.dstport")
    if source_port.isdigit() and target_port.isdigit() and int(source_port) < int(target_port):
        return f"{safe(target)} -> {safe(source)}:{source_port}"
    return f"{safe(source)} -> {safe(target)}:{safe(target_port)}"


def _last(fields: Fields, *names: str) -> str:
    return next((fields[name][-1] for name in names if name in fields), "")


def _tls_versions(fields: Fields) -> list[tuple[str, str]]:
    """What the server chose: since TLS 1.3 in an extension, the old field says 1.2 for ever (RFC 8446, 4.1.3)."""
    if SERVER_HELLO not in fields.get("tls.handshake.type", []):
        return []
    chosen = fields.get("tls.handshake.extensions.supported_version") or fields.get("tls.handshake.version", [])
    return [("TLS version", chosen[0].removeprefix("Supported Version: "))] if chosen else []


def _common_names(fields: Fields) -> list[tuple[str, str]]:
    """Names in certificates, subject and issuer alike; TLS 1.3 encrypts them."""
    kinds = ("uTF8String", "printableString", "teletexString", "bmpString")
    return [("certificate text", value) for kind in kinds for value in fields.get(f"x509sat.{kind}", [])]


def _queries(fields: Fields) -> list[tuple[str, str]]:
    """By type alone: a tunnel asks for a new name each time."""
    if not {"0", "False"} & {value.strip() for value in fields.get("dns.flags.response", [])}:
        return []
    return [("DNS query", value) for value in fields.get("dns.qry.type", [CUT_TYPE])]


def _readable(value: str) -> str:
    return safe(value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "...")


def _rows(summary: _Summary) -> tuple[Seen, ...]:
    rows = (Seen(*key, count) for key, count in summary.counts.items())
    return tuple(sorted(rows, key=lambda seen: (seen.conversation, seen.what, -seen.count, seen.value)))
