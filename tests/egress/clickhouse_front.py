"""ClickHouse's HTTP interface over chDB, as much of it as the store's client uses: a server where none is installed.

`python clickhouse_front.py FOLDER PASSWORD` prints its port and serves until it is ended.
"""

from __future__ import annotations

import re
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

NOT_SETTINGS = re.compile(
    r"^(query|query_id|database|user|password|session_.*|param_.*|wait_end_of_query|default_format|compress"
    r"|buffer_size|http_.*|send_progress.*|client_protocol_version|enable_http_compression|role)$"
)


UNPACK = {"": bytes, "lz4": lz4.frame.decompress}


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = password = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        body = UNPACK[self.headers.get("Content-Encoding", "")](body)
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get("X-ClickHouse-Key", asked.get("password", "")) != self.password and not self._is_basic():
            self._fail("Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        try:
            self._answer(*self._run(asked, body))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client hears of it
            self._fail(str(error))

    do_GET = do_POST

    def _is_basic(self) -> bool:
        from base64 import b64decode

        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return b64decode(given).decode().partition(":")[2] == self.password

    def _chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def _run(self, asked: dict[str, str], body: bytes) -> tuple[bytes, str]:
        parameters = {name[6:]: value for name, value in asked.items() if name.startswith("param_")}
        settings = ", ".join(f"{name} = '{value}'" for name, value in asked.items() if not NOT_SETTINGS.match(name))
        query = asked.get("query", "")
        connection = chdb.connect(self.folder)
        try:
            if asked.get("database"):
                connection.query(f"USE `{asked['database']}`")
            for setting in filter(None, settings.split(", ")):
                connection.query(f"SET {setting}")
            if body[:6].upper() == b"INSERT":
                line, _, body = body.partition(b"\n")
                query = line.decode()
            if query[:6].upper() == "INSERT" and body:
                return self._insert(connection, query, body), "TabSeparated"
            query = query or body.decode()
            form = re.search(r"FORMAT\s+(\w+)\s*$", query)
            result = connection.query(query, form[1] if form else "TabSeparated", params=parameters)
            return result.bytes(), form[1] if form else "TabSeparated"
        finally:
            connection.close()

    def _insert(self, connection: object, query: str, body: bytes) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            head, form = re.fullmatch(r"(.*?)\s+FORMAT\s+(\w+)\s*", query, re.DOTALL).groups()
            connection.query(f"{head} FROM INFILE '{file.name}' FORMAT {form}")
        return b""

    def _answer(self, body: bytes, form: str) -> None:
        self.send_response(200)
        self.send_header("X-ClickHouse-Format", form)
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, words: str) -> None:
        code = re.search(r"Code: (\d+)", words)
        body = words.encode()
        self.send_response(403 if code and code[1] == "516" else 500)
        self.send_header("X-ClickHouse-Exception-Code", code[1] if code else "1002")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    Front.folder, Front.password = sys.argv[1:]
    keep = chdb.connect(Front.folder)  # the engine lives as long as one connection does
    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    print(server.server_port, flush=True)
    server.serve_forever()
