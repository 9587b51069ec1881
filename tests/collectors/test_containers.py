"""Captures as they are stored: packed, piped, cut, exploding, several, in folders."""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from collectors import containers
from collectors.capture import CaptureCollector
from egress.contracts import ReadSettings
from egress.errors import InputError


def frames(count: int) -> list[bytes]:
    """A mix of conversations and sizes, the same every time."""
    chance = random.Random(7)
    made = []
    for _ in range(count):
        port, size = chance.randrange(5000, 5020), chance.randrange(0, 1200)
        layer = chance.choice([UDP, TCP])(sport=port, dport=443)
        packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="198.51.100.9")
        made.append(bytes(packet / layer / Raw(b"x" * size)))
    return made


@pytest.fixture(scope="module")
def timed() -> list[tuple[float, bytes]]:
    """400 packets over 40 s."""
    return [(number / 10, frame) for number, frame in enumerate(frames(400))]


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        zstandard.compress,
        lambda content: gzip.compress(content[:5000]) + gzip.compress(content[5000:]),
        lambda content: zstandard.compress(content[:5000]) + zstandard.compress(content[5000:]),
        lambda content: gzip.compress(content) + bytes(512),
    ],
    ids=["gzip", "zstd", "two gzip members", "two zstd frames", "gzip padded with zeros"],
)
@pytest.mark.slow
def test_packed_captures_read_like_plain_ones(meter, pcap, timed, pack):
    """The hash and the size are those of the file as it is stored."""
    content = pcap(timed)
    packed = pack(content)

    metered = meter(packed)

    assert metered.flows.equals(meter(content).flows)
    (stored,) = metered.tally.inputs
    assert (stored.sha256, stored.bytes) == (hashlib.sha256(packed).hexdigest(), len(packed))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_data_that_ends_in_the_middle_gives_what_came(meter, pcap, timed, pack):
    """Half a file is half a capture, and says so."""
    packed = pack(pcap(timed))

    metered = meter(packed[: len(packed) // 2])

    assert {example.reason for example in metered.tally.examples} >= {"truncated_compression"}
    assert metered.tally.inputs[0].sha256 == hashlib.sha256(packed[: len(packed) // 2]).hexdigest()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_data_with_a_wrong_byte_is_no_crash(meter, pcap, timed, pack):
    """Damage inside the compression ends that file with a reason."""
    packed = bytearray(pack(pcap(timed)))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF

    metered = meter(bytes(packed), pcap(timed[:1]))

    assert metered.tally.read.frames >= 1


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_a_bomb_is_stopped(meter, pcap, pack, monkeypatch):
    """What unpacks to more than 250 times its size is not unpacked further."""
    monkeypatch.setattr(containers, "BOMB_BYTES", 8 << 20)
    content = pcap([]) + bytes(64 << 20)
    packed = gzip.compress(content) if pack == "gzip" else zstandard.compress(content)

    metered = meter(packed)

    assert "decompression_bomb" in metered.tally.notes
    assert metered.tally.inputs[0].bytes == len(packed)


@pytest.mark.slow
def test_unpacking_is_bounded_a_piece_at_a_time():
    """No single piece of a bomb is larger than a few blocks."""
    packed = zstandard.compress(bytes(256 << 20))
    largest = max(len(piece) for piece in containers.Zstd().unpack(packed[: len(packed) // 4]))

    assert largest <= 64 << 20
    assert max(map(len, containers.Gzip().unpack(gzip.compress(bytes(16 << 20))))) <= containers.STORED_STEP


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk_bytes", [1 << 10, 5000, 1 << 16, 1 << 20])
def test_chunks_and_threads_change_nothing(meter, pcap, timed, chunk_bytes, threads):
    """The same rows, in the same order, whatever the reading is cut into."""
    content = pcap(timed)

    assert meter(content, chunk_bytes=chunk_bytes, threads=threads).flows.equals(meter(content).flows)


def test_a_split_capture_is_one_capture(meter, pcap, timed):
    """Files that continue each other give the rows of the whole, in whatever order they are named."""
    whole = meter(pcap(timed)).flows.drop("origin", "position")
    parts = [pcap(timed[:150]), pcap(timed[150:151]), pcap(timed[151:])]

    split = meter(*parts[::-1])

    assert split.flows.drop("origin", "position").equals(whole)
    assert split.tally.notes.get("seen_again_frames", 0) == 0


def test_a_folder_gives_its_files(pcap, timed, tmp_path, read_paths):
    """In the order of their packets, whatever they are called."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "first.pcap").write_bytes(pcap(timed[:200]))
    (tmp_path / "a.pcap.gz").write_bytes(gzip.compress(pcap(timed[200:])))

    metered = read_paths([tmp_path])

    assert metered.tally.read.frames == 400
    assert [Path(stored.path).name for stored in metered.tally.inputs] == ["a.pcap.gz", "first.pcap"]


@pytest.mark.slow
def test_standard_input_is_read_as_a_stream(pcap, timed):
    """`-` needs no seeking."""
    script = (
        "from pathlib import Path\n"
        "from collectors.capture import CaptureCollector\n"
        "from egress.contracts import ReadSettings, Tally\n"
        "print(sum(b.tally.read.frames for b in CaptureCollector().read([Path('-')], ReadSettings())))"
    )
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", script], input=gzip.compress(pcap(timed)), capture_output=True, cwd=root, check=True
    )

    assert done.stdout.strip() == b"400"


def test_a_file_that_cannot_be_opened_is_an_input_error(tmp_path):
    """The message says what to do."""
    with pytest.raises(InputError, match="check the path"):
        list(CaptureCollector().read([tmp_path / "absent.pcap"], ReadSettings()))


def test_captures_are_claimed_by_their_first_bytes(pcap):
    """Names do not matter."""
    collector = CaptureCollector()

    assert collector.claims(Path("x"), pcap([])[:4096])
    assert not collector.claims(Path("x.pcap"), b'{"id": 1}')


def test_a_reading_given_up_leaves_no_thread(pcap, timed, tmp_path):
    """Whoever stops early stops the thread that reads ahead."""
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(timed))
    stream = iter(containers.ReadAhead(containers.chunks(containers.Stored("a"), path, 1 << 10)))

    next(stream)
    stream.close()

    assert not [thread for thread in threading.enumerate() if thread.name == containers.READER]


@pytest.mark.slow
def test_other_inputs_do_not_wait_for_kernels():
    """Every collector is asked whose an input is; only the one that reads captures loads what reads them."""
    script = (
        "import sys; from pathlib import Path; from egress import registry\n"
        "print([c.name for c in registry.collectors() if c.claims(Path('x'), b'PAR1')], 'numba' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=root, check=True, text=True)

    assert done.stdout.strip() == "['flowfile'] False"
