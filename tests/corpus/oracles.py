"""What other tools say about the corpus: per conversation and direction, in the units that each tool counts in.

Every tool's flows are summed per unordered pair of endpoints, because tools end and split flows differently. A number
that a tool does not give is None and is not compared.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.corpus.conversations import End, Key, address, key_of

UNITS = ("packets", "frame_bytes", "ip_bytes", "payload", "seen_bytes")
NDPI_FLOW = re.compile(
    r"^\t\d+\t(?P<proto>\S+) (?P<a>\[[0-9a-f:.]+\]|[0-9.]+)(?::(?P<ap>\d+))? <?-> "
    r"(?P<b>\[[0-9a-f:.]+\]|[0-9.]+)(?::(?P<bp>\d+))? .*?"
    r"\[(?P<p>\d+) pkts/(?P<s>\d+) bytes <?-> (?P<q>\d+) pkts/(?P<r>\d+) bytes\]"
)
PROTOCOLS = {
    **{"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPV6": 58, "IPV6-ICMP": 58, "IGMP": 2, "VRRP": 112, "ESP": 50, "PIM": 103},
    **{"SCTP": 132, "GRE": 47, "IP-IN-IP": 4, "IPV6": 41, "AH": 51},
}
ZEEK_UNREAD = re.compile(r" -[a-zA-Z]*f |restricted_filter|ignore_checksums_nets|max_timer_expires")
"""Commands that let Zeek see only a part of the trace, or count differently."""
ZEEK_PARTIAL = ("core.pcap.dynamic-filter", "scripts.base.frameworks.netcontrol.packetfilter", "spicy.replaces")
"""Tests whose scripts filter packets, or whose log is of another trace than the map says."""
ICMP_HEADER = 8
"""Arkime counts it as payload."""
COMPARABLE_PAYLOAD = (1, 6, 17, 58, 132)
"""For other protocols (ESP, OSPF, ...) tools do not agree on where a payload would begin."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool says that one side sent."""

    packets: int | None = None
    frame_bytes: int | None = None
    ip_bytes: int | None = None
    payload: int | None = None
    seen_bytes: int | None = None

    def __add__(self, other: Told) -> Told:
        pairs = ((getattr(self, unit), getattr(other, unit)) for unit in UNITS)
        return Told(*(None if a is None or b is None else a + b for a, b in pairs))


Tale = dict[Key, tuple[Told, Told]]


@dataclass(frozen=True, slots=True)
class Oracle:
    """One tool's word on one capture; `path` is the capture's, in the corpus."""

    name: str
    path: str
    flows: Tale
    source: str


def all_of(corpus: Path) -> Iterator[Oracle]:
    for read in READERS.values():
        yield from read(corpus)


def ndpi(corpus: Path) -> Iterator[Oracle]:
    """ndpiReader: bytes are whole frames, tunnels included."""
    for folder in ("pcap/ndpi", "pcap/ndpi-4.2"):
        for told in sorted((corpus / folder / "expected").glob("*.out")):
            lines = told.read_text(errors="replace").splitlines()
            matches = (NDPI_FLOW.match(line) for line in lines)
            flows = _summed(_ndpi_flow(match.groupdict()) for match in matches if match and is_address(match))
            yield Oracle("ndpi", f"{folder}/{told.name.removesuffix('.out')}", flows, told.name)


def is_address(match: re.Match[str]) -> bool:
    """False for the few IPv6 addresses that ndpiReader prints with two `::`: nobody can read them back."""
    return all(match[side].count("::") < 2 for side in "ab")


def _ndpi_flow(flow: dict[str, str]) -> tuple[End, End, int, Told, Told]:
    ends = [(address(flow[side].strip("[]")), int(flow[f"{side}p"] or 0)) for side in "ab"]
    proto = PROTOCOLS[flow["proto"]] if flow["proto"] in PROTOCOLS else int(flow["proto"])
    ways = (Told(int(flow["p"]), int(flow["s"])), Told(int(flow["q"]), int(flow["r"])))
    return *ends, proto, *ways


def arkime(corpus: Path) -> Iterator[Oracle]:
    """Arkime capture: bytes are whole frames, client and server bytes are layer-4 payload."""
    for told in sorted((corpus / "pcap/arkime").glob("*.test")):
        sessions = [session["body"] for session in json.loads(told.read_text())["sessions3"]]
        with_addresses = [body for body in sessions if "ip" in body["source"]]
        capture = next((path for path in told.parent.glob(f"{told.stem}.*") if path != told), None)
        if capture is not None:
            path = str(capture.relative_to(corpus))
            yield Oracle("arkime", path, _summed(map(_arkime_flow, with_addresses)), told.name)


def _arkime_flow(body: dict[str, dict[str, int | str]]) -> tuple[End, End, int, Told, Told]:
    ends = [(address(str(body[side]["ip"])), int(body[side]["port"])) for side in ("source", "destination")]
    proto = int(str(body["ipProtocol"]))
    packets, whole = ([int(body[side][what]) for side in ("source", "destination")] for what in ("packets", "bytes"))
    header = ICMP_HEADER if proto in (1, 58) else 0
    payload = [int(body[role]["bytes"]) - header * packets[way] for way, role in enumerate(("client", "server"))]
    return (
        *ends,
        proto,
        *(
            Told(packets[way], whole[way], payload=payload[way] if proto in COMPARABLE_PAYLOAD else None)
            for way in (0, 1)
        ),
    )


def zeek(corpus: Path) -> Iterator[Oracle]:
    """Zeek's conn.log baselines, where the command read the whole trace: packets and IP bytes from headers."""
    for test, entry in json.loads((corpus / "pcap/zeek/baseline-map.json").read_text()).items():
        logs = [corpus / log for log in entry["baseline"] if Path(log).name == "conn.log"]
        is_whole = (
            test not in ZEEK_PARTIAL
            and len(entry["traces"]) == 1
            and not any(map(ZEEK_UNREAD.search, entry["zeek_cmds"]))
        )
        if is_whole and logs:
            rows = csv.DictReader(_zeek_lines(logs[0]), delimiter="\t")
            flows = [_zeek_flow(row) for row in rows if {"id.orig_h", "orig_pkts"} <= set(row)]
            if not flows:
                continue  # the test's log leaves the columns out
            yield Oracle("zeek", entry["traces"][0], _summed(flows), test)


def _zeek_lines(log: Path) -> Iterator[str]:
    for line in log.read_text().splitlines():
        if line.startswith("#fields"):
            yield line.removeprefix("#fields\t")
        elif not line.startswith("#"):
            yield line


def _zeek_flow(row: dict[str, str]) -> tuple[End, End, int, Told, Told]:
    ends = [(address(row[f"id.{side}_h"]), int(row[f"id.{side}_p"])) for side in ("orig", "resp")]
    proto = row["ip_proto"] if row.get("ip_proto", "-") != "-" else str(_zeek_proto(row))
    ways = [Told(int(row[f"{side}_pkts"]), None, int(row[f"{side}_ip_bytes"])) for side in ("orig", "resp")]
    return *ends, int(proto), *ways


def _zeek_proto(row: dict[str, str]) -> int:
    if row["proto"] == "icmp":
        return 58 if ":" in row["id.orig_h"] else 1
    return PROTOCOLS.get(row["proto"].upper(), 0)


def suricata(corpus: Path) -> Iterator[Oracle]:
    """Suricata 8 eve flow events: bytes are frames as captured, or inner IP packets where it removed a tunnel."""
    captures = {_suricata_name(corpus, path): path for path in (corpus / "pcap").rglob("*") if path.is_file()}
    for told in sorted((corpus / "suricata-eve/suricata-8.0.7").glob("*.eve.json")):
        capture = captures.get(told.name.removesuffix(".eve.json"))
        if capture is not None:
            events = [json.loads(line) for line in told.read_text().splitlines() if '"event_type":"flow"' in line]
            flows = _summed(_suricata_flow(event) for event in events if "src_ip" in event)
            yield Oracle("suricata", str(capture.relative_to(corpus)), flows, told.name)


def _suricata_name(corpus: Path, capture: Path) -> str:
    return "__".join(capture.relative_to(corpus / "pcap").parts)


def _suricata_flow(event: dict[str, object]) -> tuple[End, End, int, Told, Told]:
    flow, proto = event["flow"], str(event["proto"]).upper()
    assert isinstance(flow, dict)
    ends = [(address(str(event[f"{side}_ip"])), int(str(event.get(f"{side}_port", 0)))) for side in ("src", "dest")]
    ways = [Told(flow[f"pkts_to{side}"], seen_bytes=flow[f"bytes_to{side}"]) for side in ("server", "client")]
    return *ends, PROTOCOLS[proto] if proto in PROTOCOLS else int(proto), *ways


def nfdump(corpus: Path) -> Iterator[Oracle]:
    """nfpcapd's flow records, as nfdump writes them: packets and IP bytes, one way a record."""
    with (corpus / "MANIFEST.tsv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["path"].endswith(".nfdump.csv")]
    for row in rows:
        if (corpus / row["source_path"]).is_file():
            with (corpus / row["path"]).open(newline="") as lines:
                flows = _summed(_nfdump_flow(flow) for flow in csv.DictReader(lines) if flow["ibyt"] is not None)
            yield Oracle("nfdump", row["source_path"], flows, row["path"])


def _nfdump_flow(flow: dict[str, str]) -> tuple[End, End, int, Told, Told]:
    proto = PROTOCOLS[flow["pr"]] if flow["pr"] in PROTOCOLS else int(flow["pr"])
    ends = [(address(flow[f"{side}a"]), int(float(flow[f"{side}p"]))) for side in "sd"]
    nothing = Told(packets=0, ip_bytes=0)
    return *ends, proto, Told(packets=int(flow["ipkt"]), ip_bytes=int(flow["ibyt"])), nothing


def _summed(flows: Iterable[tuple[End, End, int, Told, Told]]) -> Tale:
    tale: Tale = {}
    for src, dst, proto, sent, received in flows:
        key, way = key_of(src, dst, proto)
        told = (sent, received) if way == 0 else (received, sent)
        tale[key] = tuple(map(Told.__add__, tale[key], told)) if key in tale else told  # type: ignore[assignment]
    return tale


READERS: dict[str, Callable[[Path], Iterator[Oracle]]] = {
    "ndpi": ndpi,
    "arkime": arkime,
    "zeek": zeek,
    "suricata": suricata,
    "nfdump": nfdump,
}
