"""One flow as goflow2 publishes it: protobuf with its length in front, or JSON; as a plain record.

Field numbers and names are those of its published FlowMessage (version 2). Unknown fields are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any

NUMBERS = {
    "type": 1,
    "sampling_rate": 3,
    "bytes": 9,
    "packets": 10,
    "proto": 20,
    "src_port": 21,
    "dst_port": 22,
    "tcp_flags": 26,
    "vlan_id": 29,
    "icmp_type": 31,
    "icmp_code": 32,
    "src_vlan": 33,
    "time_received_ns": 110,
    "time_flow_start_ns": 111,
    "time_flow_end_ns": 112,
}
ADDRESSES = {"src_addr": 6, "dst_addr": 7, "sampler_address": 11}
TYPES = ("FLOWUNKNOWN", "SFLOW_5", "NETFLOW_V5", "NETFLOW_V9", "IPFIX")
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "ipv4": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "etherip": 97,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
    "mpls-in-ip": 137,
}
"""Names in its JSON of what can carry bulk: IANA's keywords, and what earlier versions said instead."""
NAMELESS = 255
"""Reserved by IANA: every other name. Who needs the number takes protobuf."""
MAX_VALUE_BYTES = 1 << 20
MAX_NUMBER = 2**64 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Flow = Mapping[str, int | bytes]
"""Each of NUMBERS as an integer, each of ADDRESSES as 4, 16 or no bytes."""


def of_protobuf(value: bytes) -> Iterator[Flow]:
    """One flow, or several with their lengths in front. Raises ValueError for anything else."""
    kind = _message()
    for part in _parts(value):
        message = kind()
        try:
            message.ParseFromString(part)
        except Exception as error:  # the library's own, which is in a module that it may have moved
            if type(error).__name__ != "DecodeError":
                raise
            raise ValueError("no protobuf of a flow") from error
        yield {name: getattr(message, name) for name in (*NUMBERS, *ADDRESSES)}


def of_json(value: bytes) -> Iterator[Flow]:
    """One flow a line. Raises ValueError for anything else."""
    for line in value.splitlines():
        try:
            said = json.loads(line)
        except RecursionError as error:
            raise ValueError("JSON nested too deeply") from error
        if not isinstance(said, dict):
            raise ValueError("no JSON object")
        yield {
            **{name: _number(name, said.get(name)) for name in NUMBERS},
            **{name: _address(said.get(name)) for name in ADDRESSES},
        }


def _parts(value: bytes) -> list[bytes]:
    """Messages by the lengths in front of them; the whole where those do not add up: then there are none."""
    parts, at = [], 0
    while at < len(value):
        length, at = _varint(value, at)
        if length < 0 or at + length > len(value):
            return [value]
        parts.append(value[at : at + length])
        at += length
    return parts or [value]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number (protobuf's base 128) and where it ends; -1 for none."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        number |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return number, at
    return -1, at


@cache
def _message() -> Any:
    """The class of such messages, made from NUMBERS and ADDRESSES."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    make = descriptor_pb2.FileDescriptorProto  # type: ignore[attr-defined] # the library adds it when imported
    file = make(name="egress_goflow.proto", package="egress", syntax="proto3")
    flow = file.message_type.add(name="FlowMessage")
    for names, kind in ((NUMBERS, "TYPE_UINT64"), (ADDRESSES, "TYPE_BYTES")):
        for name, number in names.items():
            flow.field.add(name=name, number=number, type=kind, label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("egress.FlowMessage"))


def _number(name: str, said: object) -> int:
    if isinstance(said, bool) or not isinstance(said, int | str | None):
        raise ValueError(f"{name} is no number")
    found = _spelled(name, said) if isinstance(said, str) and not said.isdecimal() else int(said or 0)
    if not 0 <= found <= MAX_NUMBER:
        raise ValueError(f"{name} is out of range")
    return found


def _spelled(name: str, said: str) -> int:
    """What its formatter makes of numbers."""
    if name == "proto":
        return PROTOCOLS.get(said.lower(), NAMELESS)
    if name == "type":
        return TYPES.index(said) if said in TYPES else 0
    if not name.endswith("_ns"):
        raise ValueError(f"{name} is no number")
    moment = datetime.fromisoformat(said)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _address(said: object) -> bytes:
    return ip_address(said).packed if isinstance(said, str) and said else b""
