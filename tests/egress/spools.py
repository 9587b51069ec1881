"""Messages for a spool, and what it gives back."""

from __future__ import annotations

from egress.segments import Parcel
from egress.spool import Spool

KIB = 1 << 10


ROOMY = 64 << 20


def parcel(seq: int, size: int = 900, host: str = "h1", rows: int = 10) -> Parcel:
    """Its value says which it is."""
    said = {"schema": "egress.flows.v1", "host": host, "sensor": "capture/replay", "boot": "", "epoch": "e1"}
    headers = [*said.items(), ("seq", str(seq)), ("rows", str(rows))]
    value = f"{host}:{seq}:".encode().ljust(size, b"x")
    return Parcel("flows", host.encode(), value, tuple((name, text.encode()) for name, text in headers))


def seq_of(found: Parcel) -> int:
    return int(found.value.split(b":")[1])


def everything(spool: Spool) -> list[int]:
    """Takes all that there is, in the order in which it comes, without letting it arrive."""
    found = []
    while taken := spool.take(4 * KIB):
        found += [seq_of(each) for _, each in taken]
    return found


def deliver(spool: Spool, most: int = 1 << 30) -> list[int]:
    found = []
    while len(found) < most and (taken := spool.take(1)):
        for number, each in taken:
            found.append(seq_of(each))
            spool.arrived(number)
    return found
