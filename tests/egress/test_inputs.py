"""Which inputs there are, and which collector each belongs to."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import zstandard

from egress import inputs
from egress.errors import InputError


def test_a_directory_stands_for_the_files_below_it(tmp_path: Path) -> None:
    """Sorted, so that the order of a file system decides nothing."""
    for name in ("b.pcap", "a.pcap", "sub/c.pcap"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    found = inputs.expand([tmp_path, tmp_path / "a.pcap"])

    assert found == [tmp_path / "a.pcap", tmp_path / "b.pcap", tmp_path / "sub" / "c.pcap"]


def test_an_absent_input_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Before anything is read: a typing error must not cost an hour of reading the other files."""
    with pytest.raises(InputError, match=r"gone\.pcap: No such file"):
        inputs.expand([tmp_path / "gone.pcap"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_heads_are_read_through_compression(tmp_path: Path, pack: object) -> None:
    """A collector decides by content, never by a file's name."""
    assert callable(pack)
    path = tmp_path / "x"
    path.write_bytes(pack(b"\xd4\xc3\xb2\xa1" + bytes(range(256)) * 64))

    assert inputs.head_of(path)[:4] == b"\xd4\xc3\xb2\xa1"


def test_a_head_is_read_from_a_large_compressed_block(tmp_path: Path) -> None:
    """What does not compress leaves nothing to read in the first kilobytes of a zstd file."""
    path = tmp_path / "x.zst"
    noise = np.random.Generator(np.random.PCG64(1)).bytes(200_000)
    path.write_bytes(zstandard.compress(b"\xd4\xc3\xb2\xa1" + noise))

    assert inputs.head_of(path) == b"\xd4\xc3\xb2\xa1" + noise[: inputs.HEAD_BYTES - 4]


def test_a_broken_compressed_head_is_of_no_kind(tmp_path: Path) -> None:
    """Gzip's magic and then something else."""
    path = tmp_path / "x.gz"
    path.write_bytes(inputs.GZIP_MAGIC + b"nonsense")

    assert inputs.head_of(path) == b""
