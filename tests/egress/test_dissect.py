"""What tshark sees, summarised for a person."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from egress import dissect
from egress.dissect import Dissection, Seen, summarise
from egress.errors import ServiceError

pytestmark = [pytest.mark.slow, pytest.mark.service]  # tshark takes half a second to start

CLIENT, SERVER = "10.0.0.1", "192.0.2.1"


@pytest.fixture(autouse=True)
def _tshark(require: Callable[[str, str], str]) -> None:
    require("tshark", "apt-get install tshark")


def capture(tmp_path: Path, *packets: Packet) -> Path:
    path = tmp_path / "in.pcap"
    wrpcap(str(path), list(packets), linktype=101)
    return path


def segment(payload: bytes, port: int, *, is_reply: bool = False) -> Packet:
    ends = IP(src=SERVER, dst=CLIENT) if is_reply else IP(src=CLIENT, dst=SERVER)
    ports = {"sport": port, "dport": 40_000} if is_reply else {"sport": 40_000, "dport": port}
    return ends / TCP(**ports, flags="PA", seq=1, ack=1) / Raw(payload)


def rows(dissection: Dissection) -> list[tuple[str, str, str, int]]:
    return [(seen.conversation, seen.what, seen.value, seen.count) for seen in dissection.rows]


HTTP = f"{CLIENT} -> {SERVER}:80"


def test_http_and_ssh_are_counted_by_conversation(tmp_path: Path) -> None:
    """Client first, whichever side speaks; replies belong to the same conversation."""
    path = capture(
        tmp_path,
        segment(b"PUT /w HTTP/1.1\r\nHost: files.example\r\nUser-Agent: curl/8\r\nContent-Length: 0\r\n\r\n", 80),
        segment(b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n", 80, is_reply=True),
        segment(b"SSH-2.0-OpenSSH_9.9\r\n", 22),
        segment(b"SSH-2.0-dropbear\r\n", 22, is_reply=True),
    )

    assert rows(summarise(path)) == [
        (f"{CLIENT} -> {SERVER}:22", "SSH software", "SSH-2.0-OpenSSH_9.9", 1),
        (f"{CLIENT} -> {SERVER}:22", "SSH software", "SSH-2.0-dropbear", 1),
        (HTTP, "HTTP host", "files.example", 1),
        (HTTP, "HTTP method", "PUT", 1),
        (HTTP, "HTTP server", "nginx", 1),
        (HTTP, "HTTP user agent", "curl/8", 1),
    ]


def test_dns_queries_are_counted_by_type(tmp_path: Path) -> None:
    """A tunnel asks for another name each time; answers are not counted."""
    ends = IPv6(src="fd00::1", dst="fd00::53") / UDP(sport=40_000, dport=53)
    queries = [ends / DNS(id=k, qd=DNSQR(qname=f"{k}.t.example", qtype="TXT")) for k in range(3)]
    answer = IPv6(src="fd00::53", dst="fd00::1") / UDP(sport=53, dport=40_000) / DNS(qr=1, qd=DNSQR(qname="t.example"))

    path = tmp_path / "in.pcap"
    wrpcap(str(path), [*queries, answer], linktype=101)

    assert [(seen.conversation, seen.what, seen.count) for seen in summarise(path).rows] == [
        ("fd00::1 -> fd00::53:53", "DNS query", 3)
    ]


def _hello(name: str) -> bytes:
    """The first bytes that Python's own TLS client sends."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_a_tls_client_is_named_and_missing_ja4_is_said(tmp_path: Path) -> None:
    """tshark 4.0 has no JA4, 4.2 and newer have."""
    seen = summarise(capture(tmp_path, segment(_hello("weights.example"), 443)))

    assert (f"{CLIENT} -> {SERVER}:443", "TLS server name", "weights.example", 1) in rows(seen)
    assert (dissect.NO_JA4 in seen.notes) != any(row.what == "JA4" for row in seen.rows)


def test_captured_text_is_escaped_and_short(tmp_path: Path) -> None:
    """Whoever sends chooses it: colours, cursor movements, a megabyte."""
    agent = b"a\x1b[31m" + b"b" * 1000
    path = capture(tmp_path, segment(b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: " + agent + b"\r\n\r\n", 80))

    value = next(seen.value for seen in summarise(path).rows if seen.what == "HTTP user agent")

    assert "\x1b" not in value
    assert value.startswith("a")
    assert len(value) < 300


def test_no_more_packets_than_asked_are_looked_at(tmp_path: Path) -> None:
    """And it is said."""
    query = IP(src=CLIENT, dst=SERVER) / UDP(sport=40_000, dport=53) / DNS(qd=DNSQR(qname="a.example"))
    path = capture(tmp_path, *[query] * 20)

    seen = summarise(path, max_packets=5)

    assert [row.count for row in seen.rows] == [5]
    assert seen.notes == ("only the first 5 packets with such contents were looked at",)


def test_time_runs_out_with_what_was_seen(tmp_path: Path) -> None:
    """Nothing, in a hundredth of a second."""
    path = capture(tmp_path, segment(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 80))

    assert summarise(path, timeout_s=0.01) == Dissection(
        (), ("tshark was stopped after 0.01 s; what it saw until then is shown",)
    )


def test_a_snap_length_is_said(tmp_path: Path) -> None:
    """Names may be cut in the middle."""
    request = segment(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 80)
    request.wirelen = 400

    seen = summarise(capture(tmp_path, request))

    assert seen.notes == ("1 of 1 packets were cut by the snap length; values may be, too",)


def test_a_file_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    """With tshark's words."""
    path = tmp_path / "egress.toml"
    path.write_text("[fleet]\ninternal = []\n" * 100)

    with pytest.raises(ServiceError, match=r"egress\.toml: tshark cannot read it: .*is it a capture"):
        summarise(path)


def test_without_tshark_the_way_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the only thing that needs it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServiceError, match="apt-get install tshark"):
        summarise(tmp_path / "any.pcap")


@pytest.mark.corpus
def test_certificate_names_are_read_where_they_are_in_the_clear(corpus: Path) -> None:
    """TLS 1.2; names as tshark alone prints them."""
    seen = summarise(corpus / "corpus" / "pcap" / "ndpi" / "long_tls_certificate.pcap")

    assert Seen("192.168.1.60 -> 106.15.100.123:443", "certificate name", "*.ace.aliyun.com", 1) in seen.rows
    assert Seen("192.168.1.60 -> 106.15.100.123:443", "TLS version", "TLS 1.2 (0x0303)", 1) in seen.rows
