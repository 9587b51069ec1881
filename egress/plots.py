"""Plots as SVG text: no scripts, no fonts, nothing to load; readable in both colour schemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44
COLOURS = ("#d1495b", "#2e4057", "#66a182", "#edae49", "#00798c", "#8d6a9f", "#7f7f7f", "#b07d62")
"""The first is for what the page is about."""
BAR = 22


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one line, ascending in x; x below the axis' beginning is drawn on it."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A bar from nothing to `most`, with a mark at `median`; both from 0 to 1."""

    name: str
    median: float
    most: float


def steps(lines: Sequence[Line], x_title: str, y_title: str, decades: tuple[int, int]) -> str:
    """Shares (0 to 1) over a logarithmic axis, each value holding until the next."""
    low, high = decades
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        place = (log10(max(value, 10.0**low)) - low) / (high - low)
        return LEFT + inner_width * min(1.0, place)

    def y(value: float) -> float:
        return TOP + inner_height * (1 - value)

    parts = [_grid_y(share / 4, y(share / 4)) for share in range(5)]
    parts += [_grid_x(f"{10.0**at:g}", x(10.0**at)) for at in range(low, high + 1)]
    for line, colour in zip(lines, _colours(len(lines)), strict=True):
        parts.append(_path(line, colour, x, y))
    parts.append(_text(LEFT + inner_width / 2, HEIGHT - 6, x_title, "middle"))
    parts.append(
        f'<text transform="translate(14 {TOP + inner_height / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    return _svg(HEIGHT, parts) + _legend([line.name for line in lines])


def bars(spreads: Sequence[Spread]) -> str:
    """One bar under the other: nothing at the left, all of the model at the right."""
    names = 260
    inner = WIDTH - names - RIGHT - 30
    height = TOP + BAR * len(spreads) + BOTTOM
    parts = []
    for share in range(5):
        at = names + inner * share / 4
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{height - BOTTOM + 6}"/>')
        parts.append(_text(at, height - BOTTOM + 22, f"{share / 4:.0%}", "middle"))
    for number, (spread, colour) in enumerate(zip(spreads, _colours(len(spreads)), strict=True)):
        top = TOP + BAR * number
        width, middle = inner * min(1.0, spread.most), names + inner * min(1.0, spread.median)
        parts.append(_text(names - 8, top + BAR * 0.65, spread.name, "end"))
        parts.append(
            f'<rect x="{names}" y="{top + 4}" width="{width:.1f}" height="{BAR - 8}" fill="{colour}" opacity=".45"/>'
            f'<rect x="{middle - 2:.1f}" y="{top + 1}" width="4" height="{BAR - 2}" fill="{colour}"/>'
        )
    return _svg(height, parts)


def _colours(count: int) -> list[str]:
    return [COLOURS[min(number, 1) if count > len(COLOURS) else number] for number in range(count)]


def _path(line: Line, colour: str, x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    if not line.points:
        return ""
    first = line.points[0]
    moves = [f"M{x(first[0]):.1f} {y(first[1]):.1f}"]
    moves += [f"H{x(value):.1f} V{y(share):.1f}" for value, share in line.points[1:]]
    moves.append(f"H{WIDTH - RIGHT}")
    shape = f'<path d="{" ".join(moves)}" fill="none" stroke="{colour}" stroke-width="2">'
    return f"{shape}<title>{escape(line.name)}</title></path>"


def _grid_y(share: float, at: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return line + _text(LEFT - 6, at + 4, f"{share:.0%}", "end")


def _grid_x(label: str, at: float) -> str:
    line = f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return line + _text(at, HEIGHT - BOTTOM + 16, label, "middle")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: Sequence[str]) -> str:
    items = zip(names, _colours(len(names)), strict=True)
    return (
        '<p class="legend">'
        + " ".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in items)
        + "</p>"
    )


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
