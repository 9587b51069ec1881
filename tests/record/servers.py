"""The other ends of recorded transfers: a resolver, a store that takes PUTs and a web server, each one command.

servers.py resolve ADDRESS NAME=ADDRESS...      answers A and AAAA questions, nothing else
servers.py serve ADDRESS PORT FOLDER [CERT]     files of FOLDER by GET; takes and forgets PUT and POST bodies
"""

from __future__ import annotations

import socket
import ssl
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

A, AAAA = 1, 28


class Store(SimpleHTTPRequestHandler):
    """Takes what it is given, answers politely, keeps nothing."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 16))) or left
        self._answer(b'{"stored": true}\n')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(
            b'{"tokens": 42, "echo": ' + str(len(body)).encode() + b', "text": "' + b"so it goes " * 90 + b'"}\n'
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def serve(address: str, port: str, folder: str, certificate: str = "") -> None:
    kind = Server6 if ":" in address else Server
    server = kind((address, int(port)), partial(Store, directory=folder))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def resolve(address: str, *entries: str) -> None:
    names: dict[tuple[str, int], bytes] = {}
    for entry in entries:
        name, _, target = entry.partition("=")
        names[name, AAAA if ":" in target else A] = ip_address(target).packed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, 53))
        while True:
            question, client = listener.recvfrom(512)
            listener.sendto(_reply(question, names), client)


def _reply(question: bytes, names: dict[tuple[str, int], bytes]) -> bytes:
    """RFC 1035, 4.1: the question again and, where the name is known, one answer that points back at it."""
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    asked = question[12 : at + 5]
    found = names.get((".".join(labels), kind))
    header = question[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if found else b"\0\0") + bytes(4)
    if found is None:
        return header + asked
    return (
        header
        + asked
        + b"\xc0\x0c"
        + kind.to_bytes(2, "big")
        + b"\0\1"
        + (300).to_bytes(4, "big")
        + len(found).to_bytes(2, "big")
        + found
    )


if __name__ == "__main__":
    {"serve": serve, "resolve": resolve}[sys.argv[1]](*sys.argv[2:])
