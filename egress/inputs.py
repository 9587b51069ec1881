"""Which inputs there are, and which collector each belongs to."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from egress import registry
from egress.contracts import Collector
from egress.errors import InputError

HEAD_BYTES = 4096
STDIN = Path("-")
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Sorted:
    """Inputs by the collector that reads them, and those that none of them knows."""

    claimed: tuple[tuple[Collector, tuple[Path, ...]], ...]
    unknown: tuple[Path, ...]


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as named, and everything below a named directory; raises InputError for what is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path == STDIN or not path.is_dir():
            _check(path)
            found[path] = None
        else:
            found.update(dict.fromkeys(sorted(child for child in path.rglob("*") if child.is_file())))
    return list(found)


def sort(paths: Sequence[Path]) -> Sorted:
    """Asks each registered collector in turn; standard input is a capture."""
    claimed: dict[str, tuple[Collector, list[Path]]] = {}
    unknown = []
    collectors = list(registry.collectors())
    for path in paths:
        head = b"" if path == STDIN else head_of(path)
        owner = next((one for one in collectors if path == STDIN or one.claims(path, head)), None)
        if owner is None:
            unknown.append(path)
        else:
            claimed.setdefault(owner.name, (owner, []))[1].append(path)
    return Sorted(tuple((owner, tuple(mine)) for owner, mine in claimed.values()), tuple(unknown))


def head_of(path: Path) -> bytes:
    """The first 4 kB, decompressed as far as they go."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(ZSTD_MAGIC):
            file.seek(0)
            return _unzstd(file)
    return _gunzipped(head) if head.startswith(GZIP_MAGIC) else head


def _check(path: Path) -> None:
    if path == STDIN:
        return
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a capture, a flow file or a directory of them") from error


def _gunzipped(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def _unzstd(file: IO[bytes]) -> bytes:
    """Reads on until the first block is whole: it may take 128 KiB (RFC 8878, 3.1.1.2) and gives nothing before."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().stream_reader(file).read(HEAD_BYTES)
    except zstandard.ZstdError:
        return b""
