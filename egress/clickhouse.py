"""One way to a ClickHouse, embedded in a folder or behind a URL, and its failures in words that help.

clickhouse-connect and chDB cost 0.4-0.8 s to import, so both are imported when a store is opened, not before.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from egress import folderlock
from egress.config import ClickHouse
from egress.errors import StoreError, UsageError
from egress.folderlock import HeldError
from egress.passwords import password_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

PASSWORD_VARIABLE = "EGRESS_CLICKHOUSE_PASSWORD"
LOCK_NAME = "egress-store.lock"
"""Marks a folder as a store and is locked while it is open; holds the process id."""
DATA_NAME = "clickhouse"

# ClickHouse error codes: src/Common/ErrorCodes.cpp
UNKNOWN_DATABASE = 81
MISTAKES = {
    *(62, 47, 60, 46),  # syntax, unknown identifier, table, function
}
DENIED = {192, 193, 194, 516}  # unknown user, wrong password, password required, authentication failed
NOT_ALLOWED = 497
TOO_SLOW = 159
CANCELLED = 394
MEMORY = 241
DISK = {243, 75}  # not enough space; cannot write to file descriptor


@dataclass(frozen=True, slots=True)
class Server:
    """A ClickHouse server as its URL names it."""

    secure: bool
    host: str
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    """None: what the environment's EGRESS_CLICKHOUSE_PASSWORD says."""

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.user}@{self.host}:{self.port}/{self.database}"


def parse_server(url: str) -> Server:
    """`http(s)://user@host:8123/database`; the password comes from the environment, never from the URL."""
    parts = urlsplit(url)
    if parts.password is not None:
        raise UsageError(f"store {parts.hostname}: passwords do not belong into a URL; set {PASSWORD_VARIABLE} instead")
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"store {url}: {error}") from error
    if not parts.hostname or "/" in parts.path.strip("/"):
        raise UsageError(f"store {url}: not a server; write http://user@host:8123/database")
    secure = parts.scheme == "https"
    database = parts.path.strip("/") or "egress"
    return Server(secure, parts.hostname, port or (8443 if secure else 8123), parts.username or "default", database)


def declared_server(section: ClickHouse) -> Server:
    """What `[clickhouse]` of the configuration names. Raises ConfigError where its password is not to be had."""
    server = replace(parse_server(section.url), user=section.user, database=section.database)
    if section.password_file is not None or section.password_env:
        return replace(server, password=password_of("clickhouse", section.password_env, section.password_file))
    return server


class FolderLock(folderlock.FolderLock):
    """Holds a store's folder for this process."""

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(folder, "store", LOCK_NAME)
        except HeldError as error:
            raise StoreError(_held_by(folder, error.holder)) from error
        except OSError as error:
            raise explain(error, str(folder)) from error


def _held_by(folder: Path, holder: str) -> str:
    if holder == str(os.getpid()):
        return f"store {folder}: already open in this process; close it first"
    command = ""
    with suppress(OSError):
        command = Path(f"/proc/{int(holder or 0)}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    who = f"process {holder}" if holder else "another process"
    shown = f" ({command.strip()[:80]!r})" if command.strip() else ""
    return f"store {folder}: open in {who}{shown}; one process at a time: wait for it, end it, or name another folder"


def open_embedded(folder: Path) -> Client:
    """ClickHouse inside this process, over `folder`. One folder a process; never `fork()` afterwards (spawn)."""
    import clickhouse_connect

    try:
        return clickhouse_connect.get_client(interface="chdb", path=str(folder / DATA_NAME))
    except Exception as error:
        raise explain(error, f"{folder}") from error


def give_back(client: Client) -> None:
    """Memory that an embedded ClickHouse is done with goes back to the system: 100 MB after some inserts."""
    with suppress(Exception):  # not every build of it can
        client.command("SYSTEM JEMALLOC PURGE")


def open_server(server: Server) -> Client:
    """A connection to the server's database, which is made if it is not there yet."""
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    def connect(database: str) -> Client:
        return clickhouse_connect.get_client(
            host=server.host,
            port=server.port,
            secure=server.secure,
            username=server.user,
            password=os.environ.get(PASSWORD_VARIABLE, "") if server.password is None else server.password,
            database=database,
            connect_timeout=5,
            autogenerate_session_id=False,  # sessions allow one query at a time; cancelling needs a second
        )

    try:
        try:
            return connect(server.database)
        except ClickHouseError as error:
            if _code(error) != UNKNOWN_DATABASE:
                raise
        quoted = server.database.replace("\\", "\\\\").replace("`", "\\`")
        with connect("default") as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{quoted}`")
        return connect(server.database)
    except ClickHouseError as error:
        raise explain(error, str(server)) from error


def explain(error: BaseException, where: str) -> StoreError:
    """The same failure with where it happened and what to do next; the engine's own words stay in it."""
    words = " ".join(str(error).split())
    code = _code(error)
    if code in DISK or "No space left on device" in words or _errno(error) in (errno.ENOSPC, errno.EDQUOT):
        what, remedy = "the disk is full", "make room, or name a store on another disk; what was stored stays valid"
    elif isinstance(error, ModuleNotFoundError):
        what, remedy = "ClickHouse is not installed", "pip install 'egress[store]'"
    elif isinstance(error, PermissionError):
        what, remedy = "not allowed to write there", "name a folder of your own"
    elif code in DENIED:
        what, remedy = (
            "the server refused user or password",
            f"the user belongs into the URL, the password into {PASSWORD_VARIABLE}",
        )
    elif code == NOT_ALLOWED:
        what, remedy = "the user may not do that", "grant SELECT, INSERT, CREATE TABLE and CREATE VIEW on the database"
    elif type(error).__name__ == "OperationalError" and code is None:
        what, remedy = "the server cannot be reached", "check host, port and that the server runs"
    elif "Error initializing EmbeddedServer" in words:
        what, remedy = "the embedded ClickHouse could not start", "is the folder open in another program, or read-only?"
    elif "already initialized with path" in words:
        what, remedy = "this process has another store open", "one folder a process: close the other one first"
    elif code == TOO_SLOW:
        what, remedy = "the query took too long and was stopped", "narrow its time range or hosts"
    elif code == CANCELLED:
        what, remedy = "the query was stopped", "run it again when it suits"
    elif code == MEMORY:
        what, remedy = "the query needs more memory than it may use", "narrow its time range or hosts"
    else:
        what, remedy = "ClickHouse refused", "this should not happen with a sound store: please report it"
    return StoreError(f"store {where}: {what}; {remedy} [{words[:300]}]")


def _code(error: BaseException) -> int | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None
