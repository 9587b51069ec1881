"""A model that holds nothing: valid safetensors files of seeded noise, which no compression makes smaller."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SHARD_TENSORS = ((1600, 2000), (1550, 2000), (1500, 2000), (1350, 2000))
"""Shape of each shard's one BF16 tensor: 12,000,000 parameters, 24 MB."""


def write_model(folder: Path) -> list[Path]:
    """Four shards, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.Generator(np.random.PCG64(7))
    shards = []
    for number, shape in enumerate(SHARD_TENSORS, start=1):
        path = folder / f"model-{number:05}-of-{len(SHARD_TENSORS):05}.safetensors"
        path.write_bytes(_safetensors(f"layers.{number}.weight", shape, noise))
        shards.append(path)
    return shards


def write_checkpoint(path: Path, size: int = 4_000_000) -> Path:
    path.write_bytes(np.random.Generator(np.random.PCG64(11)).bytes(size))
    return path


def _safetensors(name: str, shape: tuple[int, int], noise: np.random.Generator) -> bytes:
    size = shape[0] * shape[1] * 2
    header = json.dumps({name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + noise.bytes(size)
