"""Packets cut out of captures, against what tshark and tcpdump select and read."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from collectors import cut as module
from collectors.cut import cut
from egress.addresses import network_of
from egress.contracts import Count, Selection
from egress.errors import InputError, UsageError

pytestmark = [pytest.mark.slow, pytest.mark.service]  # compiled kernels, tshark

EVER = (-(1 << 62), 1 << 62)
WHAT = ("frame.time_epoch", "frame.len", "frame.cap_len", "frame.encap_type", "frame.md5_hash")


@pytest.fixture
def tshark(require: Callable[[str, str], str]) -> Callable[..., list[str]]:
    """Time, lengths, link type and hash of the bytes of every packet that a display filter lets through."""
    program = require("tshark", "apt-get install tshark")

    def read(path: Path, shown: str = "") -> list[str]:
        fields = [word for name in WHAT for word in ("-e", name)]
        command = [program, "-n", "-r", str(path), "-o", "frame.generate_md5_hash:TRUE", "-T", "fields", *fields]
        command += ["-Y", shown] if shown else []
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    return read


def between(ours: str, theirs: str, start: int = EVER[0], end: int = EVER[1]) -> Selection:
    return Selection((network_of(ours),), (network_of(theirs),), start, end)


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "shown"),
    [
        ("put_over_ipv6", "fd20::1:7", "2001:db8:99::99", "ipv6.addr == fd20::1:7 and ipv6.addr == 2001:db8:99::99"),
        ("udp_sender", "10.20.1.7", "198.51.100.99", "ip.addr == 10.20.1.7 and ip.addr == 198.51.100.99"),
        ("any_interface", "10.20.1.7", "198.51.100.0/24", "ip.addr == 10.20.1.7 and ip.addr == 198.51.100.0/24"),
        ("vxlan_overlay", "10.20.1.7", "198.51.100.99", "ip.addr == 10.20.1.7 and ip.addr == 198.51.100.99"),
    ],
)
def test_exactly_the_packets_that_tshark_selects_are_cut(
    data: Path, tmp_path: Path, tshark: Callable[..., list[str]], name: str, ours: str, theirs: str, shown: str
) -> None:
    """The same bytes, times to the nanosecond, lengths and link type; inner addresses of a tunnel count, too."""
    capture, out = data / "recorded" / f"{name}.pcap", tmp_path / "out.pcapng"
    expected = tshark(capture, shown)

    counted = cut([capture], between(ours, theirs), out)

    assert tshark(out) == expected
    assert expected
    assert counted == Count(len(expected), sum(int(line.split("\t")[1]) for line in expected))


def test_outer_addresses_of_a_tunnel_select_as_well(
    data: Path, tmp_path: Path, tshark: Callable[..., list[str]]
) -> None:
    """Whoever sends chooses the inner ones."""
    capture, out = data / "recorded" / "vxlan_overlay.pcap", tmp_path / "out.pcapng"
    outer = _outer_ends(capture, tshark)

    cut([capture], Selection((network_of(outer[0]),), (network_of(outer[1]),), *EVER), out)

    assert tshark(out) == tshark(capture, f"ip.addr == {outer[0]} and ip.addr == {outer[1]}")
    assert tshark(out)


def _outer_ends(capture: Path, tshark: Callable[..., list[str]]) -> list[str]:
    command = ["tshark", "-n", "-r", capture, "-Y", "vxlan", "-c", "20", "-T", "fields", "-e", "ip.src", "-e", "ip.dst"]
    first = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]
    return [addresses.split(",")[0] for addresses in first.split("\t")]


def test_tcpdump_counts_the_same_in_the_cut_as_in_the_original(
    data: Path, tmp_path: Path, require: Callable[[str, str], str]
) -> None:
    """A second reader with another filter language."""
    tcpdump = require("tcpdump", "apt-get install tcpdump")
    capture, out = data / "recorded" / "any_interface.pcap", tmp_path / "out.pcapng"

    counted = cut([capture], between("10.20.1.7", "198.51.100.0/24"), out)

    def count(*arguments: object) -> str:
        command = [tcpdump, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]

    assert count("-r", out, "--count") == str(counted.frames)
    assert count("-r", capture, "--count", "host 10.20.1.7 and net 198.51.100.0/24") == str(counted.frames)


def test_only_packets_of_the_time_are_cut(data: Path, tmp_path: Path, tshark: Callable[..., list[str]]) -> None:
    """Both limits belong to it."""
    capture, out = data / "recorded" / "udp_sender.pcap", tmp_path / "out.pcapng"
    everything = tshark(capture, "ip.addr == 10.20.1.7 and ip.addr == 198.51.100.99")
    times = sorted(int(line.split("\t")[0].replace(".", "")) // 1000 for line in everything)
    first, last = times[len(times) // 4], times[len(times) // 2]

    counted = cut([capture], between("10.20.1.7", "198.51.100.99", first, last), out)

    assert counted.frames == sum(first <= time <= last for time in times)


def test_several_files_of_several_kinds_go_into_one(
    data: Path, tmp_path: Path, tshark: Callable[..., list[str]]
) -> None:
    """File after file, each with interfaces of its own; a compressed one, too."""
    first, second = data / "recorded" / "any_interface.pcap", data / "recorded" / "udp_sender.pcap"
    packed = tmp_path / "udp_sender.pcap.gz"
    packed.write_bytes(gzip.compress(second.read_bytes()))
    out = tmp_path / "out.pcapng"
    shown = "ip.addr == 10.20.1.7 and ip.addr == 198.51.100.0/24"

    cut([first, packed], between("10.20.1.7", "198.51.100.0/24"), out)

    assert tshark(out) == tshark(first, shown) + tshark(second, shown)


def _ipv4(source: str, target: str, payload: bytes = b"x" * 9) -> bytes:
    ends = b"".join(bytes(map(int, address.split("."))) for address in (source, target))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, 253, 0) + ends + payload


OURS = _ipv4("10.0.0.1", "192.0.2.1")
OTHER = _ipv4("10.0.0.1", "192.0.2.2")
RAW_IP = 101


def _pcap(order: str, magic: int, extra: int = 0) -> bytes:
    records = [
        struct.pack(order + "IIII", 1_700_000_000 + number, 123_456 + number, len(packet), 1500) + bytes(extra) + packet
        for number, packet in enumerate((OURS, OTHER, OURS))
    ]
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, RAW_IP) + b"".join(records)


def _block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def _padded(packet: bytes) -> bytes:
    return packet + bytes(-len(packet) % 4)


def _pcapng(order: str, unit: int, offset_s: int, ticks: int) -> bytes:
    """Two interfaces, of which the second is the one; enhanced, obsolete and simple packet blocks."""
    section = _block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(order + "HHB3xHHqHH", 9, 1, unit, 14, 8, offset_s, 0, 0)
    plain = _block(order, 1, struct.pack(order + "HHI", RAW_IP, 0, 0))
    special = _block(order, 1, struct.pack(order + "HHI", RAW_IP, 0, 0) + options)
    stamp = struct.pack(order + "IIII", ticks >> 32, ticks & 0xFFFFFFFF, len(OURS), 1500)
    enhanced = _block(order, 6, struct.pack(order + "I", 1) + stamp + _padded(OURS))
    obsolete = _block(order, 2, struct.pack(order + "HH", 1, 0xFFFF) + stamp + _padded(OURS))
    other = _block(order, 6, struct.pack(order + "I", 1) + stamp + _padded(OTHER))
    return section + plain + special + enhanced + other + obsolete


CRAFTED = {
    "microseconds": _pcap("<", 0xA1B2C3D4),
    "nanoseconds, big-endian": _pcap(">", 0xA1B23C4D),
    "patched libpcap": _pcap("<", 0xA1B2CD34, extra=8),
    "pcapng, nanoseconds": _pcapng("<", 9, 0, 1_700_000_000_123_456_789),
    "pcapng, big-endian, 2^-20 s, offset": _pcapng(">", 0x80 | 20, 1_600_000_000, 100_000_000 << 20 | 12_345),
    "pcapng, two sections of either byte order": _pcapng("<", 9, 0, 1_700_000_000_123_456_789)
    + _pcapng(">", 6, 0, 1_700_000_001_000_001),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_times_and_lengths_stay_in_every_format(tmp_path: Path, tshark: Callable[..., list[str]], name: str) -> None:
    """Whatever the byte order and the unit of time; the original length is 1500."""
    capture, out = tmp_path / "in.cap", tmp_path / "out.pcapng"
    capture.write_bytes(CRAFTED[name])
    expected = tshark(capture, "ip.addr == 192.0.2.1")

    counted = cut([capture], between("10.0.0.1", "192.0.2.1"), out)

    assert tshark(out) == expected
    assert counted == Count(len(expected), 1500 * len(expected))
    assert expected


def test_nothing_selected_is_an_empty_capture(tmp_path: Path, tshark: Callable[..., list[str]]) -> None:
    """Which tshark reads."""
    capture, out = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    capture.write_bytes(CRAFTED["microseconds"])

    assert cut([capture], between("10.0.0.9", "192.0.2.1"), out) == Count()
    assert tshark(out) == []


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    """Flow files have no packets in them; and nothing half-done is left behind."""
    flows = tmp_path / "flows.parquet"
    flows.write_bytes(b"PAR1" + bytes(100))

    with pytest.raises(InputError, match="can only be cut out of captures"):
        cut([flows], between("10.0.0.1", "192.0.2.1"), tmp_path / "out.pcapng")

    assert list(tmp_path.iterdir()) == [flows]


def test_a_capture_is_never_overwritten_by_its_own_cut(tmp_path: Path) -> None:
    """Under whatever spelling of its path."""
    capture = tmp_path / "in.pcap"
    capture.write_bytes(CRAFTED["microseconds"])
    link = tmp_path / "link.pcap"
    link.symlink_to(capture)

    with pytest.raises(UsageError, match="is one of the captures"):
        cut([capture], between("10.0.0.1", "192.0.2.1"), link)

    assert capture.read_bytes() == CRAFTED["microseconds"]


def test_a_folder_that_is_not_there_is_explained(tmp_path: Path) -> None:
    """With the system's reason."""
    capture = tmp_path / "in.pcap"
    capture.write_bytes(CRAFTED["microseconds"])

    with pytest.raises(UsageError, match="cannot be written: No such file"):
        cut([capture], between("10.0.0.1", "192.0.2.1"), tmp_path / "no" / "out.pcapng")


def test_ranges_hold_their_first_and_last_address() -> None:
    """/120 of v4-mapped is a /24."""
    assert module._ranges([IPv6Network("::ffff:c633:6400/120")]).tolist() == [
        [0, 0xFFFFC6336400, 0, 0xFFFFC63364FF],
    ]
