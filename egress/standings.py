"""An evaluation as tables of text: made once, shown on a terminal, on a page and in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from egress import promises
from egress.cells import DAY_US, HOUR_US, MINUTE_US
from egress.evaluate import ANSWERS, CALIBRATED, EGRESS, LISTED, PLAIN, PUBLISHED, Contestant, Evaluation
from egress.scoring import BUDGETS, OFF, Outcome, Point
from egress.words import size

BUDGET = 0.01
"""Of the three, the one that the tables by theft and by role are made at."""
VARIANTS = {PLAIN: "", LISTED: " + list", ANSWERS: " + list + answers", CALIBRATED: ", calibrated"}
NEVER = "never"
NAMED = 3
"""Peers written out where many did equally well."""
Naming = Callable[[Outcome], str]


@dataclass(frozen=True, slots=True)
class Standing:
    """One table. The first column names what a row is about."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(evaluation: Evaluation) -> list[Standing]:
    """All tables, the one that matters most first."""
    return [
        _overall(evaluation),
        _promised(evaluation),
        _won_by_peers(evaluation),
        _by(evaluation, "theft", lambda outcome: outcome.theft.label.kind),
        _by(evaluation, "role", lambda outcome: outcome.theft.label.role),
        _levels(evaluation),
        _oddities(evaluation),
        _held_out(evaluation),
        _nominal(evaluation),
        _rightness(evaluation),
    ]


def title(contestant: Contestant) -> str:
    """`1 GiB in 8 h + list (Elastic hunting)`."""
    origin = "" if contestant.source == EGRESS else f" ({contestant.source})"
    return f"{contestant.name}{VARIANTS[contestant.variant]}{origin}"


def _overall(evaluation: Evaluation) -> Standing:
    rows = [
        (
            title(each),
            *(_share(each.within[budget]) for budget in BUDGETS),
            _threshold(each.within[BUDGET], each.unit),
            _gone(each.within[BUDGET]),
            _delay(each.within[BUDGET]),
            _as_published(each),
        )
        for each in evaluation.contestants
    ]
    return Standing(
        "Who finds what",
        f"{evaluation.thefts} thefts in {evaluation.host_days:,.0f} host-days. Share of thefts found with at most so "
        f"many false episodes per host-day; the rest at {BUDGET:g}. Every rule's threshold is the best that these very "
        "data allow, which flatters it; Egress has no thresholds but its levels. Gone: part of the model that had left "
        "at the alarm, median and 95th of all thefts, one that was missed counting whole.",
        ("rule", *(f"found at {budget:g}" for budget in BUDGETS), "threshold", "gone", "delay", "as published"),
        tuple(rows),
    )


def _promised(evaluation: Evaluation) -> Standing:
    return Standing(
        "What Egress promises",
        f"Findings of level {promises.LEVEL.word} and above, at {promises.point(evaluation).rate:.4f} false episodes "
        "per host-day. Kept: found, and as early as promised. At once: at most 6 % of the model gone, and what leaves "
        "within one reporting part.",
        ("promise", "found", "kept", "worst gone"),
        tuple(promises.rows(evaluation)),
    )


def _won_by_peers(evaluation: Evaluation) -> Standing:
    """Every budget and kind of theft where some peer finds more than Egress."""
    rows = []
    ours = evaluation.named(EGRESS)
    for budget in BUDGETS:
        for kind in _names(ours.within[budget], lambda outcome: outcome.theft.label.kind):
            mine = _found_of(ours.within[budget], kind)
            theirs = [(_found_of(each.within[budget], kind), each) for each in _peers(evaluation)]
            best = max(found for found, _ in theirs)
            if best > mine:
                winners = _few([title(each) for found, each in theirs if found == best])
                rows.append((f"{kind}, at {budget:g}", str(mine), str(best), winners))
    return Standing(
        "Where a peer finds more",
        "Thefts of one kind found within one budget.",
        ("theft and budget", "Egress", "peer", "which"),
        tuple(rows),
    )


def _few(names: Sequence[str]) -> str:
    rest = f"; {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + rest


def _by(evaluation: Evaluation, what: str, name_of: Naming) -> Standing:
    some = shown(evaluation)
    names = _names(some[0].within[BUDGET], name_of)
    rows = []
    for name in names:
        cells = []
        for each in some:
            mine = [outcome for outcome in each.within[BUDGET].outcomes if name_of(outcome) == name]
            cells.append(f"{sum(outcome.is_found for outcome in mine)}/{len(mine)}")
        egress = _part(some[0].within[BUDGET], name, name_of)
        rows.append((name, *cells, _gone(egress), _delay(egress)))
    return Standing(
        f"By {what}",
        f"Found of how many, at {BUDGET:g} false episodes per host-day. Gone and delay are those of Egress.",
        (what, *(title(each) for each in some), "gone", "delay"),
        tuple(rows),
    )


def _levels(evaluation: Evaluation) -> Standing:
    rows = []
    for each in evaluation.contestants:
        for word, point in each.marks.items():
            if word != PUBLISHED:
                rows.append((f"{title(each)}, {word}", _share(point), f"{point.rate:.4f}", _gone(point), _delay(point)))
    return Standing(
        "Levels of findings",
        "This level and above: what it finds, and the false episodes per host-day that it costs.",
        ("level", "found", "false", "gone", "delay"),
        tuple(rows),
    )


def _oddities(evaluation: Evaluation) -> Standing:
    some = shown(evaluation)
    kinds = some[0].within[BUDGET].disturbed
    rows = [(kind, *("{}/{}".format(*each.within[BUDGET].disturbed[kind]) for each in some)) for kind in kinds]
    return Standing(
        "Honest days that look like thefts",
        "How many of them had a false alarm on their hosts, during them or within two days after, for whatever cause; "
        f"at {BUDGET:g} false episodes per host-day.",
        ("incident", *(title(each) for each in some)),
        tuple(rows),
    )


def _held_out(evaluation: Evaluation) -> Standing:
    rows = [
        (title(each), *(f"{each.held_out[budget].second_rate:.4f}" for budget in BUDGETS))
        for each in evaluation.contestants
    ]
    return Standing(
        "What a budget is worth",
        "False episodes per host-day in the second half of the recordings, at the threshold that kept it in the "
        "first half.",
        ("rule", *(f"promised {budget:g}" for budget in BUDGETS)),
        tuple(rows),
    )


def _nominal(evaluation: Evaluation) -> Standing:
    rows = []
    for each in (each for each in evaluation.contestants if each.nominal):
        cells = []
        for nominal in each.nominal.values():
            cells += [f"{nominal.first_rate:.4f} / {nominal.second_rate:.4f}", _share(nominal.point)]
        rows.append((title(each), *cells))
    return Standing(
        "What detectors keep of a budget",
        "False episodes per host-day in the first and second half of the recordings, and thefts found, when calibrated "
        "detectors are given a budget and nothing else; each has an equal share of it. Of what has enough bytes and no "
        "approval expects, before the ledger takes in what it finds as well.",
        ("detector", *(head for budget in BUDGETS for head in (f"at {budget:g}", "found"))),
        tuple(rows),
    )


def _rightness(evaluation: Evaluation) -> Standing:
    rows = []
    for each in evaluation.contestants:
        found = [outcome for outcome in each.within[BUDGET].outcomes if outcome.is_found]
        models = [outcome.names_model for outcome in found if outcome.names_model is not None]
        places = [outcome.leads_with_destination for outcome in found if outcome.leads_with_destination is not None]
        reasons = [outcome.says_how for outcome in found if outcome.says_how is not None]
        rows.append((title(each), str(len(found)), _part_of(models), _part_of(places), _part_of(reasons)))
    return Standing(
        "Right model, right destination, right reason",
        f"Of the thefts found at {BUDGET:g}: the alarm names the stolen model; the first destination that it names is "
        "one of the theft's; its words say what is particular about the theft, where something is (a tunnel, a relay, "
        "a manifest, a missing receipt, a retirement, a gap). A dash: it says nothing of the kind.",
        ("rule", "found", "model", "destination first", "reason"),
        tuple(rows),
    )


def _peers(evaluation: Evaluation) -> list[Contestant]:
    return [each for each in evaluation.contestants if each.source != EGRESS]


def shown(evaluation: Evaluation) -> list[Contestant]:
    """Egress, and of every peer the variant that finds most within the budget."""
    best: dict[str, Contestant] = {}
    for each in _peers(evaluation):
        known = best.get(each.name)
        if known is None or each.within[BUDGET].found > known.within[BUDGET].found:
            best[each.name] = each
    return [evaluation.named(EGRESS), *best.values()]


def _names(point: Point, name_of: Naming) -> list[str]:
    return sorted({name_of(outcome) for outcome in point.outcomes})


def _found_of(point: Point, kind: str) -> int:
    return sum(outcome.is_found for outcome in point.outcomes if outcome.theft.label.kind == kind)


def _part(point: Point, name: str, name_of: Naming) -> Point:
    outcomes = tuple(outcome for outcome in point.outcomes if name_of(outcome) == name)
    return Point(point.threshold, 0, 0.0, outcomes, {})


def _share(point: Point) -> str:
    return f"{point.share:.0%}"


def _gone(point: Point) -> str:
    return f"{point.gone(0.5):.1%} / {point.gone(0.95):.0%}"


def _delay(point: Point) -> str:
    delay = point.delay_us(0.5)
    return NEVER if delay is None else duration(delay)


def duration(microseconds: float) -> str:
    """Three digits at most: `40 s`, `12 min`, `5.2 h`, `13 d`."""
    for unit, name in ((DAY_US, "d"), (HOUR_US, "h"), (MINUTE_US, "min")):
        if microseconds >= 2 * unit:
            return f"{microseconds / unit:.1f} {name}"
    return f"{microseconds / 1_000_000:.0f} s"


def _threshold(point: Point, unit: str) -> str:
    if point.threshold == OFF:
        return "off"
    if unit == "bytes":
        return size(int(point.threshold))
    return f"{point.threshold:.3g} {unit}"


def _as_published(contestant: Contestant) -> str:
    point = contestant.marks.get(PUBLISHED)
    return "" if point is None else f"{point.share:.0%} at {point.rate:.3f}"


def _part_of(claims: Sequence[bool]) -> str:
    return f"{sum(claims)}/{len(claims)}" if claims else "–"


def show(evaluation: Evaluation, console: Console) -> None:
    """The tables on a terminal."""
    for standing in tables(evaluation):
        if not standing.rows:
            continue
        table = Table(*standing.columns, title=standing.title, title_justify="left", title_style="bold")
        for row in standing.rows:
            table.add_row(*row)
        console.print(table)
        console.print(Text(standing.note, "dim"))
        console.print()


def markdown(evaluation: Evaluation) -> str:
    """The tables as Markdown, for documentation."""
    shown_tables = [standing for standing in tables(evaluation) if standing.rows]
    head = f"# Evaluation: results\n\nWritten by `egress evaluate --tables` over {len(evaluation.fleets)} fleets, "
    head += f"{evaluation.rows:,} rows of flows; [evaluation](evaluation.md) says what is counted.\n"
    return "\n".join([head, *(_markdown(standing) for standing in shown_tables)])


def _markdown(standing: Standing) -> str:
    lines = [standing.columns, tuple("---" for _ in standing.columns), *standing.rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"## {standing.title}\n\n{standing.note}\n\n{table}\n"
