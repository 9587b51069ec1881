"""Host names as a column of text."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from collectors.kernels.row_types import Bytes, Words
from collectors.kernels.spelling import MAX_NAME, write_texts


def texts(raw: Bytes, start: Words, length: Words, form: int) -> pl.Series:
    """The raw names as `kernels.spelling` writes them: lower case, printable; what is no name is the empty string."""
    count = start.size
    out = np.empty(int(np.minimum(4 * (length.astype(np.int64) + 1), MAX_NAME).sum()), np.uint8)
    ends = np.zeros(count + 1, np.int64)
    write_texts(raw, start.astype(np.int64), length.astype(np.int64), form, out, ends[1:])
    strings = pa.LargeStringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(out))
    return pl.Series("name", pl.from_arrow(strings), pl.String)
