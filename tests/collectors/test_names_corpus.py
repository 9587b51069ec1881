"""Names in real captures are those that tshark sees.

tshark gives payloads and, independently, the names in them. What it says and we do not, on purpose: names that are
addresses; DNS records beyond the answer section (only messages without additional records are compared, EDNS apart);
HTTP and TLS that begin after something else on their connection (SOCKS, PROXY, an earlier request).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import polars as pl
import pytest

from collectors.candidates import DNS, MAX_BYTES, QUIC, TCP, Candidates, from_payloads
from collectors.capture import CaptureCollector
from collectors.hellos import HelloReader
from collectors.names import answers
from egress.contracts import ReadSettings

pytestmark = [pytest.mark.corpus, pytest.mark.service, pytest.mark.slow]

FIELDS = (
    "frame.number",
    "tcp.stream",
    "udp.stream",
    "udp.srcport",
    "tcp.srcport",
    "tcp.flags.syn",
    "tcp.flags.ack",
    "tcp.seq_raw",
    "tcp.payload",
    "udp.payload",
    "tls.handshake.extensions_server_name",
    "http.request.method",
    "http.host",
    "quic.version",
    "dns.qry.name",
    "dns.a",
    "dns.aaaa",
    "dns.count.add_rr",
    "dns.resp.type",
)
OPT = "41"
QUIC_VERSIONS = ("0x00000001", "0x6b3343cf", *(f"0xff0000{draft:02x}" for draft in range(23, 35)))

NAMES_BEGIN_LATER = {
    "haproxy.pcap": "PROXY protocol in front of the TLS hello",
    "http_starting_with_reply.pcapng": "the capture begins with the server, which is taken for the client",
    "mpeg-dash.pcap": "one conversation begins with the server's reply",
    "shadowsocks.pcap": "SOCKS in front of the request",
    "tls_heur__trojan-tcp-tls.pcapng": "SOCKS in front of the TLS hello",
    "tls_heur__vmess-tcp-tls.pcapng": "SOCKS in front of the TLS hello",
    "rdp2.pcap": "DTLS, which is not read",
    "malformed_dns.pcap": "the answers stand beyond the 2,048 bytes of a candidate, or do not add up",
    "quic_0RTT.pcap": "the Initial comes after two other long-header packets",
}
DRAFTS = ("quic-24.pcap", "quic-27.pcap", "quic-29.pcap")
"""Versions before RFC 9000: they can be read, the meter does not offer them."""
PROTOCOLS = ("quic", "dns", "tls", "http", "instagram", "whatsapp", "webdav")
"""Captures are taken whose names hold one of these; the whole corpus takes tshark four minutes."""
LARGEST = 200_000


def rows(tshark: str, capture: Path) -> Iterator[dict[str, str]]:
    wanted = [part for field in FIELDS for part in ("-e", field)]
    command = [tshark, "-n", "-r", str(capture), "-T", "fields", "-E", "aggregator=|", *wanted]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    for line in done.stdout.decode(errors="replace").splitlines():
        yield dict(zip(FIELDS, line.split("\t"), strict=True))


class Seen:
    """One capture: payloads as a meter would offer them, and the names that tshark reads."""

    def __init__(self, capture: Iterator[dict[str, str]]) -> None:
        self.payloads: list[tuple[int, int, int, bytes, bytes]] = []
        self.names: dict[int, set[str]] = {}
        self.answers: dict[int, tuple[str, frozenset[bytes]]] = {}
        self.not_compared: set[int] = set()
        self._client: dict[int, str] = {}
        self._next: dict[int, list[int]] = {}
        self._quic: dict[int, int] = {}
        for row in capture:
            if row["tcp.stream"].isdigit():
                self._tcp(row, 1 + int(row["tcp.stream"]))
            elif row["udp.stream"].isdigit() and row["udp.payload"]:
                self._udp(row, -1 - int(row["udp.stream"]))

    def candidates(self) -> Candidates:
        return from_payloads([(frame, flow % 2**64, kind, data, b"") for frame, flow, kind, data, _ in self.payloads])

    def _tcp(self, row: dict[str, str], flow: int) -> None:
        port, payload = row["tcp.srcport"], bytes.fromhex(row["tcp.payload"].split("|")[0])
        if row["tcp.flags.syn"] == "1" and row["tcp.flags.ack"] == "0":
            self._client.setdefault(flow, port)
        if payload and self._client.setdefault(flow, port) == port:
            begin = int(row["tcp.seq_raw"])
            follows = self._next.setdefault(flow, [begin])
            if len(follows) < 3 and follows[-1] == begin:
                follows.append((begin + len(payload)) % 2**32)
                self.payloads.append((int(row["frame.number"]), flow, TCP, payload[:MAX_BYTES], b""))
        self._claim(row, flow)

    def _udp(self, row: dict[str, str], flow: int) -> None:
        frame, port, payload = int(row["frame.number"]), row["udp.srcport"], bytes.fromhex(row["udp.payload"])
        if port == "53":
            self.payloads.append((frame, 0, DNS, payload[:MAX_BYTES], b""))
            self._answer(row, frame)
        elif payload[0] & 0xC0 == 0xC0 and self._client.setdefault(flow, port) == port and self._quic.get(flow, 0) < 2:
            self._quic[flow] = self._quic.get(flow, 0) + 1
            self.payloads.append((frame, flow, QUIC, payload[:MAX_BYTES], b""))
            if row["quic.version"].split("|")[0] in QUIC_VERSIONS:
                self._claim(row, flow)

    def _claim(self, row: dict[str, str], flow: int) -> None:
        host = row["http.host"].split("|")[0].rsplit(":", 1)[0] if row["http.request.method"] else ""
        for name in (row["tls.handshake.extensions_server_name"].split("|")[0], host):
            if name and not is_address(name):
                self.names.setdefault(flow, set()).add(name.lower())

    def _answer(self, row: dict[str, str], frame: int) -> None:
        types = row["dns.resp.type"].split("|")
        if row["dns.count.add_rr"] != ("1" if OPT in types else "0"):
            self.not_compared.add(frame)
            return
        found = [ip_address(text) for text in f"{row['dns.a']}|{row['dns.aaaa']}".split("|") if text]
        if found:
            mapped = [a.packed if a.version == 6 else bytes(10) + b"\xff\xff" + a.packed for a in found]
            self.answers[frame] = row["dns.qry.name"].split("|")[0].lower(), frozenset(mapped)


def is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_are_those_that_tshark_sees(corpus: Path, require: Callable[[str, str], str], protocol: str) -> None:
    """Same names for the same conversations, same addresses for the same answers."""
    tshark = require("tshark", "apt-get install tshark")
    captures = sorted((corpus / "corpus" / "pcap" / "ndpi").glob(f"*{protocol}*.pcap*"))
    for capture in captures:
        if capture.stat().st_size > LARGEST or capture.name in NAMES_BEGIN_LATER:
            continue
        seen = Seen(rows(tshark, capture))

        claimed = HelloReader().read(seen.candidates()).select(pl.col("flow").reinterpret(signed=True), "name")
        answered: dict[int, tuple[str, set[bytes]]] = {}
        for frame, address, name in answers(seen.candidates(), None).iter_rows():
            answered.setdefault(frame, (name, set()))[1].add(address)

        assert {flow: {name} for flow, name in claimed.iter_rows()} == seen.names, capture.name
        assert {f: a for f, a in answered.items() if f not in seen.not_compared} == seen.answers, capture.name
        if capture.name not in DRAFTS:
            assert on_rows(capture) == set().union(*seen.names.values()), capture.name


def on_rows(capture: Path) -> set[str]:
    """Names that reach flow rows where no DNS answer counts."""
    batches = CaptureCollector().read([capture], ReadSettings(resolvers=frozenset()))
    return {name for batch in batches for name in batch.flows["name"].to_list()} - {""}
