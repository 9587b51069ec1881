"""What heads a message of sums: which kind they are of, and whose they are.

Sums of one task join by the larger count, since each is a state of the same log. Those of two tasks add up: a host
whose partition changed, because there are more of them now, is known to both, and no row of it to both.
"""

from __future__ import annotations

from collections.abc import Iterable

from egress.packing import Reason, WireError

Header = tuple[str, bytes]


def headers_of(kind: str, task: int, rows: int) -> list[Header]:
    return [("kind", kind.encode()), ("task", b"%d" % task), ("rows", b"%d" % rows)]


def kind_of(headers: Iterable[Header]) -> str:
    """The kind's name, whether there is such a kind or not."""
    return dict(headers).get("kind", b"").decode("ascii", "replace")


def task_of(headers: Iterable[Header]) -> int:
    """The number of the partition that was summed. Raises WireError where there is none."""
    number = dict(headers).get("task", b"")
    if not number.isdigit() or len(number) > 9:
        raise WireError(Reason.BAD_HEADER, f"sums of task {number!r:.60}, which is no number of a partition")
    return int(number)
