"""What people and systems declare while Egress runs: lifecycle events and receipts, as if their files had them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from egress.companions import LIFECYCLE, RECEIPTS, missing_for_event
from egress.config import Approval, Config, LifecycleEvent, Receipt
from egress.configtable import read_table
from egress.words import at

Declared = LifecycleEvent | Receipt


def parse(text: str | bytes) -> Declared:
    """One line of `lifecycle.jsonl` or of `receipts.jsonl`; what has an `event` is of the first.

    Raises ValueError with everything that is wrong with it.
    """
    try:
        table = json.loads(text)
    except RecursionError as problem:
        raise ValueError("nested too deeply; one object") from problem
    is_event = isinstance(table, dict) and "event" in table
    problems: list[str] = []
    fields = read_table(table, LIFECYCLE if is_event else RECEIPTS, "", problems)
    lack = missing_for_event(fields) if is_event and fields else ""
    if fields is None or problems or lack:
        raise ValueError("; ".join([*problems, *([lack] if lack else [])]))
    return LifecycleEvent(**fields) if is_event else Receipt(**fields)


def line(declared: Declared) -> str:
    """The line that `parse` reads as this; equal records give equal text."""
    values: dict[str, object] = {name: value for name, value in asdict(declared).items() if value not in ("", (), None)}
    for name in ("time", "until"):
        if name in values:
            values[name] = at(int(str(values[name]))).isoformat()
    if isinstance(declared, LifecycleEvent) and declared.files:
        values["files"] = [{"path": path, "bytes": size} for path, size in declared.files]
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def extended(config: Config, declared: Iterable[Declared]) -> Config:
    """The config whose files had these lines at their end. What stands there already is not said twice.

    A receipt counts for an approval that has `receipts`; that may be an empty file.
    """
    every = list(declared)
    events = [each for each in every if isinstance(each, LifecycleEvent)]
    receipts = [each for each in every if isinstance(each, Receipt)]
    lifecycle = tuple(sorted(dict.fromkeys([*config.lifecycle, *events]), key=lambda event: event.time))
    return replace(
        config, lifecycle=lifecycle, approvals=tuple(_receipted(approval, receipts) for approval in config.approvals)
    )


def _receipted(approval: Approval, receipts: Iterable[Receipt]) -> Approval:
    if approval.receipts is None:
        return approval
    mine = [receipt for receipt in receipts if receipt.approval == approval.id]
    every = dict.fromkeys([*approval.receipts, *mine])
    return replace(approval, receipts=tuple(sorted(every, key=lambda receipt: receipt.time)))
