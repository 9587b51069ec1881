"""Names reach the rows that came after them, wherever chunks end."""

from __future__ import annotations

import ssl

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS as Message
from scapy.layers.dns import DNSQR, DNSRR

from collectors.candidates import DNS, QUIC, TCP, from_payloads
from collectors.names import NameBook, answers

RESOLVER = bytes(10) + b"\xff\xff\x0a\x00\x00\x35"
PEER = bytes(10) + b"\xff\xff\xc6\x33\x64\x0a"
OTHER = bytes(10) + b"\xff\xff\xc6\x33\x64\x0b"
REQUEST = b"PUT /weights HTTP/1.1\r\nUser-Agent: x\r\nHost: Drop.Example:8080\r\n\r\n"


def answer(name: str, *addresses: str) -> bytes:
    records = [DNSRR(rrname=name, type="AAAA" if ":" in a else "A", rdata=a) for a in addresses]
    return bytes(Message(qr=1, qd=DNSQR(qname=name), an=records))


def hello(name: str) -> bytes:
    """What OpenSSL sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def row(flow: int, peer: bytes, first: int, cut: int, *, final: bool = False) -> dict[str, object]:
    return {"flow_id": flow, "dst_ip": peer, "final": final, "_first_frame": first, "_cut_frame": cut}


def rows(*items: dict[str, object]) -> pl.DataFrame:
    types = {"flow_id": pl.UInt64, "dst_ip": pl.Binary, "final": pl.Boolean}
    return pl.DataFrame(items, schema={**types, "_first_frame": pl.Int64, "_cut_frame": pl.Int64})


def named(book: NameBook, payloads: list[tuple[int, int, int, bytes, bytes]], *items: dict[str, object]) -> list[str]:
    """`name_from:name` of each row."""
    book.learn(from_payloads(payloads))
    frame = book.apply(rows(*items))
    return [f"{source}:{name}" for source, name in zip(frame["name_from"], frame["name"], strict=True)]


def test_an_answer_names_conversations_that_begin_after_it() -> None:
    """A conversation that began before the answer, or with its frame, was not made with it."""
    found = named(
        NameBook(),
        [(5, 0, DNS, answer("Drop.Example.", "198.51.100.10"), RESOLVER)],
        row(1, PEER, 6, 9),
        row(2, PEER, 5, 9),
        row(3, PEER, 4, 9),
        row(4, OTHER, 6, 9),
    )

    assert found == ["dns:drop.example", ":", ":", ":"]


def test_the_latest_answer_before_a_conversation_names_it() -> None:
    """One address, three names in turn: each conversation keeps the name of its beginning."""
    payloads = [(n, 0, DNS, answer(f"n{n}.example", "198.51.100.10"), RESOLVER) for n in (10, 20, 30)]

    found = named(NameBook(), payloads, row(1, PEER, 15, 99), row(2, PEER, 25, 99), row(3, PEER, 35, 99))

    assert found == ["dns:n10.example", "dns:n20.example", "dns:n30.example"]


def test_only_configured_resolvers_count() -> None:
    """An attacker's own resolver may answer what it likes."""
    payloads = [(1, 0, DNS, answer("approved.example", "198.51.100.10"), OTHER)]

    assert named(NameBook(frozenset({RESOLVER})), payloads, row(1, PEER, 2, 3)) == [":"]
    assert named(NameBook(frozenset({OTHER})), payloads, row(1, PEER, 2, 3)) == ["dns:approved.example"]
    assert named(NameBook(frozenset()), payloads, row(1, PEER, 2, 3)) == [":"]


def test_an_alias_gives_the_name_that_was_asked_for() -> None:
    """CNAME chains end at addresses of the question's name, v4 and v6."""
    chain = [
        DNSRR(rrname="a.example", type="CNAME", rdata="b.example"),
        DNSRR(rrname="b.example", type="A", rdata="198.51.100.10"),
        DNSRR(rrname="b.example", type="AAAA", rdata="2001:db8::1"),
    ]
    payload = bytes(Message(qr=1, qd=DNSQR(qname="a.example"), an=chain))

    found = answers(from_payloads([(1, 0, DNS, payload, RESOLVER)]), None)

    v6 = bytes.fromhex("20010db8000000000000000000000001")
    assert found.rows() == [(1, PEER, "a.example"), (1, v6, "a.example")]


@pytest.mark.parametrize("change", [{"rcode": 3}, {"qr": 0}, {"opcode": 5}])
def test_what_is_no_good_answer_names_nothing(change: dict[str, int]) -> None:
    """Errors, queries and updates carry no evidence."""
    message = Message(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rrname="a.example", rdata="198.51.100.10"))
    for field, value in change.items():
        setattr(message, field, value)

    assert answers(from_payloads([(1, 0, DNS, bytes(message), RESOLVER)]), None).height == 0


def test_odd_bytes_are_escaped_and_a_long_name_keeps_its_end() -> None:
    """A name cut at its end could pass for one below an approved domain."""
    label = b"\x3f" + b"\x00" * 63
    tail = b"\x08approved\x04evil\x00"
    question = label + label + label + tail + b"\0\1\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc6\x33\x64\x0a"
    payload = b"\0\0\x80\0\0\1\0\1\0\0\0\0" + question + record

    name = answers(from_payloads([(1, 0, DNS, payload, RESOLVER)]), None)["name"].item()

    assert len(name) == 253
    assert name.endswith("\\000\\000.approved.evil")


def test_a_dot_inside_a_label_is_no_separator() -> None:
    """`x.approved` as one label below `evil` is not a name below `approved`."""
    payload = b"\0\0\x80\0\0\1\0\1\0\0\0\0" + b"\x03a.b\x04evil\0" + b"\0\1\0\1"
    payload += b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc6\x33\x64\x0a"

    assert answers(from_payloads([(1, 0, DNS, payload, RESOLVER)]), None)["name"].to_list() == ["a\\046b.evil"]


def test_a_hello_names_the_rows_cut_after_it() -> None:
    """The part that was cut before the hello was complete stays without a name."""
    found = named(NameBook(), [(7, 1, TCP, hello("Api.Example"), b"")], row(1, PEER, 1, 6), row(1, PEER, 1, 7))

    assert found == [":", "sni:api.example"]


@pytest.mark.slow
def test_a_hello_in_two_segments_is_put_together() -> None:
    """Cut wherever, and the chunk with it."""
    whole = hello("api.example")
    for cut in range(1, len(whole), 9):
        book = NameBook()
        book.learn(from_payloads([(1, 9, TCP, whole[:cut], b"")]))
        assert named(book, [(2, 9, TCP, whole[cut:], b"")], row(9, PEER, 1, 2)) == ["sni:api.example"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (REQUEST, "host:drop.example"),
        (b"GET http://me:secret@a.example:1/x HTTP/1.1\r\nHost: b.example\r\n\r\n", "host:a.example"),
        (b"CONNECT c.example:443 HTTP/1.1\r\n\r\n", "host:c.example"),
        (b"GET / HTTP/1.0\nhost:\td.example \n\n", "host:d.example"),
        (b"GET /http://x.example/ HTTP/1.1\r\nHost: e.example\r\n\r\n", "host:e.example"),
        (b"GET / HTTP/1.1\r\nHost: 198.51.100.10\r\n\r\n", ":"),
        (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", ":"),
        (b"GET / HTTP/1.1\r\n\r\nHost: body.example\r\n", ":"),
        (b"GET / SPDY/1.1\r\nHost: f.example\r\n\r\n", ":"),
        (b"GET / HTTP/1.1\r\nHost: \x1b[31mred\r\n\r\n", "host:\\027[31mred"),
    ],
)
def test_a_request_names_its_host(request_: bytes, expected: str) -> None:
    """RFC 9112, 3.2; addresses are no names, control characters never come through."""
    assert named(NameBook(), [(1, 1, TCP, request_, b"")], row(1, PEER, 1, 1)) == [expected]


def test_dns_is_trusted_over_sni_and_sni_over_host() -> None:
    """Whoever sends chooses SNI and Host."""
    payloads = [
        (1, 0, DNS, answer("true.example", "198.51.100.10"), RESOLVER),
        (2, 1, TCP, hello("claimed.example"), b""),
        (3, 2, TCP, b"CONNECT proxied.example:443 HTTP/1.1\r\n\r\n", b""),
        (4, 2, TCP, hello("inside.example"), b""),
    ]

    found = named(NameBook(), payloads, row(1, PEER, 2, 9), row(2, OTHER, 3, 9))

    assert found == ["dns:true.example", "sni:inside.example"]


def test_a_full_book_forgets_the_oldest_and_says_so() -> None:
    """The limit counts answers up to the row's cut, whatever chunk they came in."""
    payloads = [(n, 0, DNS, answer(f"n{n}.example", f"198.51.100.{n}"), RESOLVER) for n in range(1, 6)]
    first = PEER[:15] + b"\x01"
    book = NameBook(max_names=3)

    found = named(book, payloads, row(1, first, 2, 3), row(2, first, 2, 4), row(3, PEER[:15] + b"\x05", 6, 7))

    assert found == ["dns:n1.example", ":", "dns:n5.example"]
    assert book.notes == {"names_forgotten": 2}


EVENT = st.sampled_from(
    [
        (DNS, answer("a.example", "198.51.100.10")),
        (DNS, answer("b.example", "198.51.100.10", "198.51.100.11")),
        (TCP, REQUEST),
        (TCP, REQUEST[:30]),
        (TCP, REQUEST[30:]),
        (TCP, hello("c.example")[:100]),
        (TCP, hello("c.example")[100:]),
        (QUIC, b"\xc0\0\0\0\1"),
    ]
)


@pytest.mark.slow
@settings(deadline=None)
@given(
    events=st.lists(st.tuples(EVENT, st.integers(1, 4)), max_size=20),
    spans=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 20), st.integers(0, 20)), max_size=15),
    ends=st.lists(st.integers(1, 20), max_size=5),
    limit=st.integers(1, 5),
)
def test_chunk_boundaries_change_no_name(
    events: list[tuple[tuple[int, bytes], int]],
    spans: list[tuple[int, int, int]],
    ends: list[int],
    limit: int,
) -> None:
    """Any split of the reading into chunks, with any limit, gives every row the same name."""
    payloads = [(n, 0 if kind == DNS else flow, kind, data, b"") for n, ((kind, data), flow) in enumerate(events, 1)]
    cut = sorted((max(a, b), min(a, b), flow) for flow, a, b in spans)
    items = [row(flow, PEER if flow < 3 else OTHER, first, last) for last, first, flow in cut]

    whole = named(NameBook(max_names=limit), payloads, *items)

    book, parts, begin = NameBook(max_names=limit), [], -1
    for end in [*sorted(set(ends)), 99]:
        chunk = [p for p in payloads if begin < p[0] <= end]
        parts += named(book, chunk, *[item for item in items if begin < int(str(item["_cut_frame"])) <= end])
        begin = end
    assert parts == whole


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([DNS, TCP, QUIC]), st.binary(max_size=80)), max_size=6))
def test_no_bytes_raise(payloads: list[tuple[int, bytes]]) -> None:
    """Whatever a sender sends is an event or nothing."""
    found = NameBook()

    found.learn(from_payloads([(n, 1, kind, data, b"") for n, (kind, data) in enumerate(payloads)]))


SAMPLES = [
    (DNS, answer("a.b.example", "198.51.100.10", "2001:db8::1")),
    (TCP, hello("a.b.example")),
    (TCP, REQUEST),
]


@settings(deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_changed_bytes_give_a_printable_name_or_none(sample: tuple[int, bytes], data: st.DataObject) -> None:
    """Any byte set to any value, cut anywhere: names stay printable, at most 253 characters."""
    kind, payload = sample
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.sampled_from([0, 1, 63, 64, 192, 255]))
    candidates = from_payloads([(1, 1, kind, bytes(changed[: data.draw(st.integers(0, len(changed)))]), b"")])
    book = NameBook()

    book.learn(candidates)

    for memory in (book._answers, book._by_flow):
        for name in memory.events["name"]:
            assert 0 < len(name) <= 253
            assert name.isascii()
            assert name.isprintable()


def test_order_of_rows_and_other_columns_stay() -> None:
    """Names are added, nothing else moves."""
    frame = rows(row(3, PEER, 9, 9), row(1, PEER, 2, 9), row(2, OTHER, 5, 9)).with_columns(
        src_bytes=pl.Series([1, 2, 3])
    )
    book = NameBook()
    book.learn(from_payloads([(1, 0, DNS, answer("a.example", "198.51.100.10"), b"")]))

    found = book.apply(frame)

    assert found.drop("name", "name_from").equals(frame)
    assert np.array_equal(found["name"].to_numpy(), ["a.example", "a.example", ""])
