"""What is fuzzed: each target takes any bytes, must end in an answer, and gives it, so that two ways can be compared.

An invariant that does not hold is an AssertionError; every exception but `EgressError` is a defect of the code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from ipaddress import IPv6Network
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import loads
import numba
import numpy as np
import zstandard
from arrays import octets, room, taken

if numba.config.DISABLE_JIT:
    loads.install()

from collectors import goflow, hostname, metering, quic
from collectors.capture import CaptureCollector
from collectors.cut import cut
from collectors.kernels import dns, http, meter, spelling, tls
from collectors.kernels import entry as e
from egress import configfile, packing, segments
from egress.contracts import ReadSettings, Selection, Tally
from egress.errors import ConfigError, InputError
from egress.heartbeats import HEARTBEATS

Target = Callable[[bytes], object]
LINKS = (1, 101, 113, 276, 0, 108, 9, 50, 51, 104, 204, 12, 105)
"""libpcap's numbers of the link types that are read, and one that is not."""
CHUNKS = (1 << 20, 61)
"""Bytes read at a time: everything at once, and less than a header."""
MAX_FRAMES = 40
EVERYTHING = Selection((IPv6Network("::/0"),), (IPv6Network("::/0"),), -(1 << 62), 1 << 62)
STATES = (tls.ABSENT, tls.FOUND, tls.CUT)


def frames(data: bytes) -> object:
    """Frames of any link, cut anywhere, through a small flow table: none counts more than crossed the wire.

    The first two bytes choose link and limits; a frame has its captured length (1 byte), what crossed the wire beyond
    it (2), the time since the frame before in half seconds (1) and its bytes.
    """
    choice, limit = (data + bytes(2))[:2]
    framed = _framed(data[2:])
    interfaces = SimpleNamespace(links=[LINKS[choice % len(LINKS)]], vantages=[0])
    verdicts = np.zeros(framed.offset.size, np.int64)
    one = metering.Meter(16 + limit, 300)
    emitted = [(each.rows.copy(), each.offers) for each in chain(one.take(framed, interfaces, verdicts), one.finish())]
    rows = np.concatenate([each for each, _ in emitted] or [np.zeros((0, e.ROW_WIDTH), np.int64)])
    wire = int(framed.wire[verdicts == 0].sum())
    packets, sent, payload = rows[:, e.PACKETS], rows[:, e.BYTES : e.PAYLOAD], rows[:, e.PAYLOAD : e.PACKETS]
    assert int((packets & 0xFFFFFFFF).sum() + (packets >> 32).sum()) == int((verdicts == 0).sum())
    assert (payload >= 0).all()
    assert (payload <= sent).all()
    assert int(sent.sum()) <= wire
    return verdicts.tolist(), rows.tolist(), [offers.tolist() for _, offers in emitted]


def _framed(data: bytes) -> e.Frames:
    columns: list[tuple[int, int, int, int]] = []
    at, time = 0, 1_700_000_000_000_000
    while at + 4 < len(data) and len(columns) < MAX_FRAMES:
        captured = min(data[at], len(data) - at - 4)
        time += data[at + 3] * 500_000
        columns.append((at + 4, captured, captured + int.from_bytes(data[at + 1 : at + 3], "big"), time))
        at += 4 + captured
    offset, held, wire, times = np.array(columns, np.int64).reshape(-1, 4).T.copy()
    number = np.arange(1, offset.size + 1, dtype=np.int64)
    return e.Frames(np.frombuffer(bytearray(data), np.uint8), offset, held, wire, times, np.zeros_like(number), number)


def capture(data: bytes) -> object:
    """Any file is metered and skipped to the last byte, and where chunks end changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(data)
        whole, pieces = (_metered(path, size) for size in CHUNKS)
    assert whole == pieces
    return whole


def _metered(path: Path, chunk_bytes: int) -> object:
    batches = list(CaptureCollector().read([path], ReadSettings(chunk_bytes=chunk_bytes, threads=1, max_flows=256)))
    tally = sum((batch.tally for batch in batches), Tally())
    assert tally.read == sum(tally.skipped.values(), tally.metered)
    rows = [row for batch in batches for row in batch.flows.drop("origin").rows()]
    counted = sum(int(batch.flows.select("src_packets", "dst_packets").sum_horizontal().sum()) for batch in batches)
    assert counted + tally.notes.get("seen_again_frames", 0) == tally.metered.frames
    skipped = sorted((reason, count.frames, count.bytes) for reason, count in tally.skipped.items())
    return rows, tally.read.frames, tally.read.bytes, skipped


def cut_out(data: bytes) -> object:
    """Cutting everything out of a capture keeps every packet that was metered, as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "capture", Path(folder) / "out.pcapng"
        path.write_bytes(data)
        try:
            count = cut([path], EVERYTHING, out)
        except InputError:
            return "refused"
        before, after = _tally(path), _tally(out)
    assert (after.read, after.metered) == (count, before.metered)
    return count.frames, count.bytes


def _tally(path: Path) -> Tally:
    batches = CaptureCollector().read([path], ReadSettings(threads=1, max_flows=256))
    return sum((batch.tally for batch in batches), Tally())


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
    return _spelled(data[dns.HEADER :], spelling.LABELS), address[:found].tobytes()


def tls_hello(data: bytes) -> object:
    """A name lies within what was put together from the records."""
    scratch = room(len(data))
    state, start, end = tls.read_sni(octets(data), 0, len(data), scratch)
    assert state in STATES
    if state != tls.FOUND:
        return state
    assert 0 <= start < end <= len(data)
    return _spelled(taken(scratch, start, end), spelling.PLAIN)


def http_host(data: bytes) -> object:
    """A host lies within the request."""
    state, start, end = http.read_host(octets(data), 0, len(data))
    assert state in STATES
    if state != tls.FOUND:
        return state
    assert 0 <= start < end <= len(data)
    return _spelled(data[start:end], spelling.PLAIN)


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
    assert len(text) <= spelling.MAX_NAME
    return text


def wire_rows(data: bytes) -> object:
    """An Arrow stream in a frame whose checksum is right: rows with the table's columns, that can be worked with."""
    try:
        rows = packing.unpack(zstandard.ZstdCompressor().compress(data), HEARTBEATS, 1 << 20)
    except packing.WireError as error:
        return str(error.reason)
    assert rows.schema == HEARTBEATS.polars
    return rows.sort(rows.columns).rows()


def spooled(data: bytes) -> object:
    """A spool's file: whole records, each where it says."""
    found = segments.records(data)
    for record in found:
        assert b"".join(segments.framed(record.number, record.parcel)) == data[record.end - record.size : record.end]
    return found


def goflow_messages(data: bytes) -> object:
    """Both encodings: rows or a refusal."""
    answers = []
    for reader in (goflow.protobuf(), goflow.json()):
        read = reader.read([data])
        assert bool(read.refused) != bool(read.flows.height)
        answers.append((read.flows.rows(), [each.reason for each in read.refused]))
    return answers


def _fenced() -> None:
    """Each frame's decoder may look at that frame only, although it is handed the whole chunk."""

    def fenced(decode: Callable[..., int]) -> Callable[..., int]:
        def decode_inside(frames: e.Frames, i: int, *rest: object) -> int:
            with loads.fence(int(frames.offset[i]), int(frames.offset[i] + frames.captured[i])):
                return decode(frames, i, *rest)

        return decode_inside

    meter.decode_plain, meter.decode_any = fenced(meter.decode_plain), fenced(meter.decode_any)


if numba.config.DISABLE_JIT:
    _fenced()
metering.secrets.token_bytes = lambda count: bytes(range(count))  # the same coverage for the same input

TARGETS: dict[str, Target] = {
    "frames": frames,
    "capture": capture,
    "cut": cut_out,
    "dns": dns_answers,
    "tls": tls_hello,
    "http": http_host,
    "quic": quic_datagrams,
    "quic_frames": quic_frames,
    "config": config_file,
    "lifecycle": lifecycle_file,
    "wire": wire_rows,
    "spool": spooled,
    "goflow": goflow_messages,
}
