"""Words of `egress store` and `egress status`; see `cli`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
Options = Callable[[argparse.ArgumentParser], None]


def member_option(command: argparse.ArgumentParser) -> None:
    """For those who share partitions with others of their kind."""
    command.add_argument(
        "--member",
        metavar="NAME",
        default="",
        help="name of this member of the group, its own: one that comes back within 10 s gets its partitions back",
    )


def add_store(commands: Commands, add: Callable[..., argparse.ArgumentParser], add_service_options: Options) -> None:
    store = add(
        commands,
        "store",
        "write what is on the bus into ClickHouse, each row once: flows, heartbeats, ledger, findings",
        "egress store --config egress.toml --store egress-stream",
        "store",
    )
    add_service_options(store)
    store.add_argument(
        "--store",
        metavar="WHERE",
        default="",
        help="a directory (embedded; one process at a time) or http(s)://user@host:8123/database "
        "(default: [clickhouse] of the configuration)",
    )
    member_option(store)
    store.add_argument(
        "--until-idle",
        type=float,
        metavar="SECONDS",
        help="end when everything was written and nothing came for so long (default: run until stopped)",
    )


def add_status(commands: Commands, add: Callable[..., argparse.ArgumentParser], add_config_option: Options) -> None:
    status = add(
        commands,
        "status",
        "how the services stand, read from the bus alone; 1 where something is wrong, 4 where no broker answers",
        "egress status --config egress.toml",
        "status",
    )
    add_config_option(status)
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--seconds",
        type=float,
        default=6.0,
        metavar="N",
        help="time between two looks (default 6): below 6, a store that does not move cannot be told from one at work",
    )
