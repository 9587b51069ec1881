"""Saved state of detectors: JSON with the detector's name and version inside, never code."""

from __future__ import annotations

import json
from typing import Any

from egress.errors import UsageError


def pack(detector: str, version: str, body: object) -> bytes:
    """`body` (JSON values only) as bytes; equal bodies give equal bytes."""
    state = {"detector": detector, "version": version, "body": body}
    return json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def unpack(detector: str, version: str, state: bytes) -> Any:
    """The body that `pack` was given. Raises UsageError for another detector's or version's state, or for none."""
    try:
        packed = json.loads(state)
        found = packed["detector"], packed["version"]
        body = packed["body"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"saved state of {detector} cannot be read ({error}); start it without state") from error
    if found != (detector, version):
        raise UsageError(
            f"saved state is of {found[0]} {found[1]}, {detector} {version} needed; start it without state and replay"
        )
    return body
