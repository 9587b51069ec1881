"""An evaluation as JSON: everything that was measured, theft by theft."""

from __future__ import annotations

import json
from dataclasses import asdict

from egress.evaluate import Contestant, Evaluation
from egress.scoring import OFF, HeldOut, Outcome, Point


def document(evaluation: Evaluation) -> str:
    """Everything that was measured, as JSON: the same bytes for the same fleets."""
    whole = {
        "fleets": evaluation.fleets,
        "rows": evaluation.rows,
        "host_days": evaluation.host_days,
        "thefts": evaluation.thefts,
        "rules": [_rule(each) for each in evaluation.contestants],
    }
    return json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _rule(each: Contestant) -> dict[str, object]:
    return {
        "name": each.name,
        "source": each.source,
        "variant": each.variant,
        "unit": each.unit,
        "within": {f"{budget:g}": _point(point, True) for budget, point in each.within.items()},
        "marks": {word: _point(point, True) for word, point in each.marks.items()},
        "held_out": {f"{budget:g}": _held(held) for budget, held in each.held_out.items()},
        "nominal": {
            f"{budget:g}": {"first_rate": one.first_rate, "second_rate": one.second_rate, **_point(one.point, False)}
            for budget, one in each.nominal.items()
        },
        "curve": [_point(point, False) for point in each.curve],
    }


def _held(held: HeldOut) -> dict[str, object]:
    return asdict(held) | {"threshold": None if held.threshold == OFF else held.threshold}


def _point(point: Point, has_thefts: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "threshold": None if point.threshold == OFF else point.threshold,
        "false_episodes": point.false_episodes,
        "false_per_host_day": point.rate,
        "found": point.found,
        "share": point.share,
        "gone_median": point.gone(0.5),
        "gone_95": point.gone(0.95),
        "disturbed": {kind: list(counts) for kind, counts in point.disturbed.items()},
        "delay_median_s": None if point.delay_us(0.5) is None else (point.delay_us(0.5) or 0) / 1e6,
    }
    return found | ({"thefts": [_theft(outcome) for outcome in point.outcomes]} if has_thefts else {})


def _theft(outcome: Outcome) -> dict[str, object]:
    label = outcome.theft.label
    return {
        "fleet": outcome.fleet,
        "id": label.id,
        "kind": label.kind,
        "role": label.role,
        "host": label.host,
        "model": label.model,
        "bytes": label.bytes,
        "is_found": outcome.is_found,
        "gone": outcome.gone,
        "delay_s": None if outcome.delay_us is None else outcome.delay_us / 1e6,
        "names_model": outcome.names_model,
        "leads_with_destination": outcome.leads_with_destination,
        "says_how": outcome.says_how,
    }
