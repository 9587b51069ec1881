"""Frames and bytes of every capture, against readers that share no code with ours."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from egress.contracts import Count
from tests.corpus.conftest import Metered
from tests.corpus.oracle_reader import frames

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

CAPINFOS_NOTE = re.compile(r"link [^,]+, (\d+) pkts, (\d+) wire bytes")
DISBELIEVED = {
    "pcap/tcpdump-malformed/icmp-icmp_print-oobr-2.pcap": "packets 1 and 2 say 34 and 0 bytes with 64 captured",
    "pcap/tcpdump-malformed/rsvp-rsvp_obj_print-oobr.pcap": "packet 2 says 0 bytes with 47 captured",
    "pcap/tcpdump-malformed/slip-compressed_sl_print-oobr.pcap": "packet 1 says 225 bytes with 255 captured",
    "pcap/tcpdump-malformed/slip-sliplink_print-oobr.pcap": "packet 1 says 225 bytes with 255 captured",
}
"""Where capinfos adds up an original length that cannot be, and we count what was captured instead."""
READ_ON = ("10.7.29.101_49898-178.63.41.150_25.pcap",)
"""Three stray bytes in the middle: libpcap and the independent reader stop there, ours finds the next record."""
SEEN_AGAIN = "seen_again_frames"
SLOWEST_S = 10.0
"""Five times the promise of 2 s: machines that run tests are shared."""


def test_the_independent_reader_agrees_with_capinfos(corpus: Path) -> None:
    """What the manifest noted from capinfos, for every capture it could read; the exceptions are named above."""
    with (corpus / "corpus" / "MANIFEST.tsv").open(newline="") as lines:
        notes = [(row["path"], CAPINFOS_NOTE.search(row["note"])) for row in csv.DictReader(lines, delimiter="\t")]

    differing = {}
    for path, note in notes:
        if note:
            found = [frame.wire for frame in frames(corpus / "corpus" / path)]
            if [len(found), sum(found)] != [int(note[1]), int(note[2])]:
                differing[path] = (len(found), sum(found))

    assert set(DISBELIEVED) == set(differing)


def test_every_frame_and_byte_is_read_as_the_independent_reader_does(
    captures: list[Path], meter: Callable[[Path], Metered]
) -> None:
    """Nothing lost, nothing invented, in any container."""
    wrong = []
    for path in captures:
        wires = [frame.wire for frame in frames(path)]
        expected, actual = Count(len(wires), sum(wires)), meter(path).tally.read
        if path.name in READ_ON:
            assert expected.frames < actual.frames
        elif expected != actual:
            wrong.append(f"{path}: reader {expected}, ours {actual}")

    assert wrong == []


def test_what_is_read_is_metered_or_skipped(captures: list[Path], meter: Callable[[Path], Metered]) -> None:
    """The conservation law, on every capture; rows hold what was metered but for what was seen from elsewhere too."""
    wrong = []
    for path in captures:
        tally, sums = meter(path).tally, meter(path).sums
        if tally.read != sum(tally.skipped.values(), tally.metered):
            wrong.append(f"{path}: {tally}")
        packets = sum(way.packets for ways in sums.values() for way in ways) + tally.notes.get(SEEN_AGAIN, 0)
        if packets != tally.metered.frames:
            wrong.append(f"{path}: {packets} packets in rows and seen again, {tally.metered.frames} frames metered")

    assert wrong == []


def test_original_lengths_that_cannot_be_are_counted(captures: list[Path], meter: Callable[[Path], Metered]) -> None:
    """What is not believed is said, capture by capture."""
    expected = {path: sum(frame.is_disbelieved for frame in frames(path)) for path in captures}

    actual = {path: meter(path).tally.notes.get("bogus_length", 0) for path in captures}

    assert expected == actual
    assert sum(expected.values()) > 0


def test_no_capture_takes_long(captures: list[Path], meter: Callable[[Path], Metered]) -> None:
    """One odd packet must not stop the clock; the five slowest are printed."""
    slowest = sorted((meter(path) for path in captures), key=lambda one: one.seconds, reverse=True)[:5]
    print(*(f"{one.seconds:.2f} s {one.path}" for one in slowest), sep="\n")

    assert max(one.seconds for one in slowest) < SLOWEST_S


@pytest.mark.service
@pytest.mark.parametrize("name", ["rsync_ssh_push", "iodine_dns", "benign_mix"])
def test_tshark_counts_the_same_frames(
    corpus: Path, name: str, meter: Callable[[Path], Metered], require: Callable[[str, str], str]
) -> None:
    """The recorded captures are in nobody's manifest, so a third reader counts them."""
    capture = corpus / "recorded" / f"{name}.pcap"
    command = [require("capinfos", "apt-get install wireshark-common"), "-Tmrcd", str(capture)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]

    actual = meter(capture).tally.read

    assert told.split(",")[-2:] == [str(actual.frames), str(actual.bytes)]
