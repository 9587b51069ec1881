"""A process of its own in which messages are tried that may have killed one before."""

from __future__ import annotations

import os
import signal
import struct
from multiprocessing import Pipe

import pytest

from egress import tasting
from egress.inventory import Inventory
from tests.egress.strategies import site


@pytest.mark.parametrize("half", [b"", struct.pack("!i", 100)[:2], struct.pack("!i", 100) + b"half"])
def test_whoever_tries_for_somebody_who_was_killed_ends_in_silence(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing sent, half a length, or a length and half a message."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ours, theirs = Pipe()
    os.write(ours.fileno(), half)
    ours.close()

    tasting._taste(theirs, Inventory(site()))
