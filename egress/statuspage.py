"""`egress status` for people: what is wrong first, then lag, hosts, snapshots and dead letters."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from egress.status import Lag, Status
from egress.words import moment, safe

MOST_HOSTS = 20
"""Those seen least lately; the rest are counted."""


def show(status: Status, console: Console) -> None:
    """Everything of a status that fits a screen; `--json` has all of it."""
    if status.problems:
        for problem in status.problems:
            console.print(Text(safe(problem), "red"))
    else:
        console.print(Text("All is well.", "green"))
    console.print(_groups(status))
    console.print(_hosts(status))
    if len(status.hosts) > MOST_HOSTS:
        console.print(f"{len(status.hosts) - MOST_HOSTS:,} more hosts were seen later than these.")
    console.print(_snapshots(status))
    if status.letter_count:
        console.print(_letters(status))


def _groups(status: Status) -> Table:
    table = _table("group", "members", "topic", "behind", "by partition", "read/s", "written/s", numbers=(1, 3, 5, 6))
    for group, topic in dict.fromkeys((lag.group, lag.topic) for lag in status.lags):
        lags = [lag for lag in status.lags if (lag.group, lag.topic) == (group, topic)]
        table.add_row(
            safe(group),
            str(status.members.get(group, 0)),
            topic,
            f"{sum(lag.behind for lag in lags):,}",
            _by_partition(lags),
            f"{sum(lag.read_per_s for lag in lags):,.0f}",
            f"{status.written_per_s.get(topic, 0):,.0f}",
        )
    return table


def _by_partition(lags: list[Lag]) -> str:
    behind = [f"{lag.partition}: {lag.behind:,}" for lag in sorted(lags, key=lambda lag: -lag.behind) if lag.behind]
    return ", ".join(behind[:4]) + (", ..." if len(behind) > 4 else "")


def _hosts(status: Status) -> Table:
    silent = sum(host.is_silent for host in status.hosts)
    table = _table("host", "last event (UTC)", "", title=f"{len(status.hosts):,} hosts, {silent:,} silent")
    for host in sorted(status.hosts, key=lambda host: (host.last_seen_us or 0, host.id))[:MOST_HOSTS]:
        last = "not lately" if host.last_seen_us is None else moment(host.last_seen_us)
        said = ["silent"] * host.is_silent + ["not declared"] * (not host.is_declared)
        table.add_row(safe(host.id), last, Text(", ".join(said), "red" if host.is_silent else ""))
    return table


def _snapshots(status: Status) -> Table:
    table = _table("snapshot of", "age", numbers=(1,))
    for one in status.snapshots:
        table.add_row(safe(one.task), f"{max(status.now_us - one.written_us, 0) / 1_000_000:,.0f} s")
    return table


def _letters(status: Status) -> Table:
    title = f"{status.letter_count:,} dead letters, the last of them"
    table = _table("written (UTC)", "where", "by", "reason", "what", title=title)
    for one in status.letters:
        table.add_row(moment(one.written_us), *map(safe, (one.where, one.service, one.reason, one.what)))
    return table


def _table(*columns: str, numbers: tuple[int, ...] = (), title: str = "") -> Table:
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number in numbers else "left")
    return table
