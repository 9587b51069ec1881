"""The whole collector, on captures of real programs and with names."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from egress import schema

MODEL_BYTES = 24_000_352
OUTSIDE = b"\x00" * 10 + b"\xff\xff" + bytes([198, 51, 100])
HOST = b"\x00" * 10 + b"\xff\xff" + bytes([10, 77, 1, 10])


def eth(inside: Packet) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / inside)


def sent_outside(flows: pl.DataFrame) -> int:
    """Payload from the host to 198.51.100.0/24, whoever began."""
    by_src = flows.filter((pl.col("src_ip") == HOST) & pl.col("dst_ip").bin.starts_with(OUTSIDE))
    by_dst = flows.filter((pl.col("dst_ip") == HOST) & pl.col("src_ip").bin.starts_with(OUTSIDE))
    return int(by_src["src_payload"].sum() + by_dst["dst_payload"].sum())


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["rsync_ssh_push", "curl_tls_put", "http_pull_by_outsider"])
def test_a_whole_model_is_metered_within_three_percent(corpus: Path, read_paths, name):
    """Real transfers of 24,000,352 bytes, captured with a snap length of 128."""
    sent = sent_outside(read_paths([corpus / "recorded" / f"{name}.pcap"]).flows)

    assert abs(sent - MODEL_BYTES) <= 0.03 * MODEL_BYTES


@pytest.mark.corpus
def test_a_dns_tunnel_is_metered_to_the_byte(corpus: Path, read_paths):
    """2,139,565 bytes of UDP payload went to 198.51.100.17, port 53."""
    flows = read_paths([corpus / "recorded" / "iodine_dns.pcap"]).flows
    tunnel = flows.filter((pl.col("dst_ip") == OUTSIDE + bytes([17])) & (pl.col("dst_port") == 53))

    assert tunnel["src_payload"].sum() == 2_139_565


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["model_download_benign", "benign_mix"])
def test_downloads_send_next_to_nothing(corpus: Path, read_paths, name):
    """What a host pulls is not what it sends."""
    assert sent_outside(read_paths([corpus / "recorded" / f"{name}.pcap"]).flows) < 100_000


@pytest.mark.slow
def test_rows_are_exactly_the_schema(meter, pcap):
    """Columns, types and order, also where there is nothing."""
    some = meter(pcap([eth(IP(src="10.0.0.1", dst="198.51.100.9") / UDP() / Raw(b"x"))])).flows

    assert some.schema == schema.FLOWS.polars
    assert meter(pcap([])).flows.schema == schema.FLOWS.polars
    assert some.null_count().sum_horizontal().item() == 0


def answer(name: str, address: str) -> bytes:
    reply = DNS(qr=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, type="A", rdata=address))
    return eth(IP(src="10.0.0.53", dst="10.0.0.1") / UDP(sport=53, dport=40000) / reply)


def talk(address: str, payload: bytes = b"x" * 500, seq: int = 0) -> bytes:
    return eth(IP(src="10.0.0.1", dst=address) / TCP(sport=5000, dport=80, flags="PA", seq=seq) / Raw(payload))


@pytest.mark.parametrize("chunk_bytes", [1 << 10, 1 << 20])
@pytest.mark.slow
def test_names_come_from_the_answer_before(meter, pcap, ip, chunk_bytes):
    """A DNS answer names what follows it, and a resolver that was not chosen names nothing."""
    content = pcap([answer("weights.example.org", "198.51.100.9"), talk("198.51.100.9")])

    def named(**settings: object) -> list[tuple[str, str]]:
        flows = meter(content, chunk_bytes=chunk_bytes, **settings).flows
        return flows.filter(pl.col("dst_port") == 80).select("name", "name_from").rows()

    assert named() == [("weights.example.org", "dns")]
    assert named(resolvers=frozenset({ip("10.0.0.53")})) == [("weights.example.org", "dns")]
    assert named(resolvers=frozenset({ip("10.0.0.54")})) == [("", "")]


def test_names_come_from_the_host_header(meter, pcap):
    """What the client itself claims, and marked as such."""
    request = b"GET /model HTTP/1.1\r\nHost: mirror.example.net\r\n\r\n"

    row = meter(pcap([talk("198.51.100.9", request)])).row

    assert (row["name"], row["name_from"]) == ("mirror.example.net", "host")


def test_names_come_from_what_follows_a_few_bytes_of_something_else(meter, pcap):
    """PostgreSQL's clients ask for encryption in eight bytes, proxies are greeted in three: then comes the hello."""
    greeting, request = bytes([5, 1, 0]), b"GET / HTTP/1.1\r\nHost: mirror.example.net\r\n\r\n"

    row = meter(pcap([talk("198.51.100.9", greeting), talk("198.51.100.9", request, seq=len(greeting))])).row

    assert (row["name"], row["name_from"]) == ("mirror.example.net", "host")


def test_the_origin_of_a_row_is_its_first_packet(meter, pcap, tmp_path):
    """File and packet number, from 1."""
    frames = [(0, answer("a.example", "198.51.100.7")), (1, talk("198.51.100.9")), (12, talk("198.51.100.9"))]

    flows = meter(pcap(frames)).flows.filter(pl.col("dst_port") == 80).sort("part")

    assert flows["position"].to_list() == [2, 3]
    assert flows["origin"].unique().to_list() == [str(tmp_path / "0.pcap")]
