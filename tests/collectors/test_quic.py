"""QUIC Initial packets give up the server name; the keys are those of the RFCs' examples."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.candidates import QUIC, from_payloads
from collectors.hellos import HelloReader
from collectors.kernels.tls import ABSENT, CUT, FOUND
from collectors.quic import SALTS, client_keys, server_name

V1, V2 = 0x00000001, 0x6B3343CF
EXAMPLE_ID = bytes.fromhex("8394c8f03e515708")


def hello(name: str) -> bytes:
    """OpenSSL's ClientHello without its record header."""
    outgoing = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()[5:]


def varint(value: int) -> bytes:
    return (value | 2 << 30).to_bytes(4, "big")


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def initial(frames: bytes, version: int = V1, connection_id: bytes = EXAMPLE_ID, keys_of: bytes = b"") -> bytes:
    """A protected Initial packet number 2 (four bytes long), as a client sends it."""
    key, iv, mask_key = client_keys(version, keys_of or connection_id)
    number = b"\0\0\0\2"
    header = bytes([0xC3 | (0x10 if version == V2 else 0)]) + version.to_bytes(4, "big")
    header += bytes([len(connection_id)]) + connection_id + b"\0\0" + varint(len(frames) + 20)
    nonce = (int.from_bytes(iv, "big") ^ 2).to_bytes(12, "big")
    body = AESGCM(key).encrypt(nonce, frames, header + number)
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(body[:16])
    first = bytes([header[0] ^ mask[0] & 0x0F])
    return first + header[1:] + bytes(a ^ b for a, b in zip(number, mask[1:5], strict=True)) + body


@pytest.mark.parametrize(
    ("version", "key", "iv", "mask_key"),
    [
        (V1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (V2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
    ],
)
def test_keys_are_those_of_the_standards(version: int, key: str, iv: str, mask_key: str) -> None:
    """RFC 9001, appendix A.1, and RFC 9369, appendix A.1."""
    assert [part.hex() for part in client_keys(version, EXAMPLE_ID)] == [key, iv, mask_key]


@pytest.mark.parametrize("version", sorted(SALTS))
def test_a_hello_in_one_packet_gives_its_name(version: int) -> None:
    """Padding, pings and acknowledgements around it do not matter."""
    frames = b"\0\0\1" + b"\x02\x05\x00\x01\x00\x02\x03" + crypto(0, hello("quic.example")) + bytes(50)

    assert server_name([initial(frames, version)]) == (FOUND, b"quic.example")


def test_scrambled_frames_in_two_packets_are_put_in_order() -> None:
    """As Chrome sends them: pieces out of order, the second packet needed."""
    whole = hello("quic.example")
    pieces = [crypto(at, whole[at : at + 60]) for at in range(0, len(whole), 60)]
    first, second = initial(pieces[2] + pieces[0]), initial(b"".join(pieces[3:]) + pieces[1])

    assert server_name([first])[0] == CUT
    assert server_name([first, second]) == (FOUND, b"quic.example")
    assert server_name([second, first]) == (FOUND, b"quic.example")


def test_a_second_packet_to_the_servers_id_uses_the_first_packets_keys() -> None:
    """The client changes the id after the server's first answer, not the keys; after a Retry it changes both."""
    whole = hello("quic.example")
    first = initial(crypto(0, whole[:40]))
    later = initial(crypto(40, whole[40:]), connection_id=b"server", keys_of=EXAMPLE_ID)
    retried = initial(crypto(0, whole), connection_id=b"retried")

    assert server_name([first, later]) == (FOUND, b"quic.example")
    assert server_name([initial(crypto(0, b"\1\0\1\0")), retried]) == (FOUND, b"quic.example")


def test_a_changed_packet_is_not_believed() -> None:
    """The tag covers every byte of a packet that was captured whole."""
    packet = bytearray(initial(crypto(0, hello("quic.example"))))
    packet[100] ^= 1

    assert server_name([bytes(packet)]) == (ABSENT, b"")


def test_a_packet_cut_by_the_snap_length_still_gives_its_name() -> None:
    """The tag is gone, the name need not be."""
    packet = initial(crypto(0, hello("quic.example")) + bytes(700))

    assert server_name([packet[:-400]]) == (FOUND, b"quic.example")
    assert server_name([packet[:90]])[0] == CUT


def test_two_datagrams_in_two_chunks_make_one_event() -> None:
    """What the first began waits for the second."""
    whole = hello("quic.example")
    reader = HelloReader()

    before = reader.read(from_payloads([(1, 7, QUIC, initial(crypto(0, whole[:99])), b"")]))
    after = reader.read(from_payloads([(2, 7, QUIC, initial(crypto(99, whole[99:])), b"")]))

    assert before.height == 0
    assert after.rows() == [(2, 7, "quic.example", "sni")]


@settings(deadline=None)
@given(frames=st.binary(max_size=300), version=st.sampled_from([V1, V2]))
def test_no_frames_raise(frames: bytes, version: int) -> None:
    """Anybody can encrypt anything for an Initial packet."""
    state, _ = server_name([initial(frames, version)])

    assert state in (ABSENT, CUT, FOUND)


@settings(deadline=None)
@given(st.data())
def test_no_datagram_raises(data: st.DataObject) -> None:
    """Header bytes changed, packets cut."""
    packet = bytearray(initial(crypto(0, hello("quic.example"))))
    for _ in range(data.draw(st.integers(1, 3))):
        packet[data.draw(st.integers(0, 30))] = data.draw(st.integers(0, 255))

    state, _ = server_name([bytes(packet[: data.draw(st.integers(0, len(packet)))])])

    assert state in (ABSENT, CUT, FOUND)
