"""An evaluation as one HTML page: tables and plots, no scripts, nothing to load."""

from __future__ import annotations

from html import escape

from egress import plots, standings
from egress.evaluate import EGRESS, Contestant, Evaluation
from egress.standings import BUDGET, Standing

DECADES = (-4, 0)
"""False episodes per host-day, from one in 10,000 to one."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d7dbe0;--soft:#5b6470}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14171b;--line:#333a43;--soft:#9aa4b1}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:70rem;
padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem}p.note{color:var(--soft)}
div.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{font-weight:600}tr.ours td{font-weight:600}svg{width:100%;max-width:760px;height:auto}
svg text{font-size:12px;fill:var(--soft)}svg .grid{stroke:var(--line)}.legend span{margin-right:1rem;white-space:nowrap}
.legend i{display:inline-block;width:.8rem;height:.8rem;margin-right:.35rem}
"""


def page(evaluation: Evaluation) -> str:
    """The whole page; the same bytes for the same fleets."""
    body = [
        "<h1>Who finds what</h1>",
        f"<p>{evaluation.thefts} labelled thefts among {evaluation.host_days:,.0f} host-days and {evaluation.rows:,} "
        f"rows of flows, in {len(evaluation.fleets)} made-up fleets.</p>",
        "<h2>Thefts found over false alarms</h2>",
        plots.steps(
            [_line(each) for each in standings.shown(evaluation)],
            "false episodes per host-day",
            "thefts found",
            DECADES,
        ),
        f"<h2>How much was gone at the alarm, at {BUDGET:g} false episodes per host-day</h2>",
        plots.bars([_spread(each) for each in standings.shown(evaluation)]),
        '<p class="note">Part of the model: the mark is the median, the bar ends at the 95th of all thefts. One that '
        "was missed counts whole.</p>",
        *(_table(standing) for standing in standings.tables(evaluation) if standing.rows),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Egress: evaluation</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _line(each: Contestant) -> plots.Line:
    """The best that is found at each rate or below."""
    points, best = [], 0.0
    for point in sorted((*each.curve, *each.marks.values()), key=lambda point: (point.rate, point.share)):
        if point.share > best:
            best = point.share
            points.append((point.rate, best))
    return plots.Line(standings.title(each), tuple(points))


def _spread(each: Contestant) -> plots.Spread:
    point = each.within[BUDGET]
    return plots.Spread(standings.title(each), point.gone(0.5), point.gone(0.95))


def _table(standing: Standing) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in standing.columns)
    rows = "".join(_row(row) for row in standing.rows)
    return (
        f"<h2>{escape(standing.title)}</h2>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">{escape(standing.note)}</p>'
    )


def _row(row: tuple[str, ...]) -> str:
    kind = ' class="ours"' if row[0].startswith(EGRESS) else ""
    return f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
