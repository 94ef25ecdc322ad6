"""SVG plots: bars of medians with the range of runs, and lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from benchmarks.running import Table, median

WIDTH = 760
LABELS = 250
VALUES = 110
ROW = 24
TOP = 48
PLOT_HEIGHT = 300
LOGARITHMIC_FROM = 30.0
"""Ratio of the largest to the smallest value above which the scale is logarithmic."""
OURS, LIMIT, PEER, INK, FAINT = "#2563eb", "#475569", "#a8b3c2", "#1e293b", "#e2e8f0"
LINES = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#475569")
STYLE = "font-family: system-ui, sans-serif; font-size: 12px"

Scale = Callable[[float], float]


def plot(table: Table) -> str:
    """Return the plot of a table: lines if it has series, bars otherwise."""
    return _lines(table) if table.series else _bars(table)


def _bars(table: Table) -> str:
    values = [value for runs in table.figures.values() for value in runs]
    scale, is_logarithmic = _scale(values, WIDTH - LABELS - VALUES)
    parts = []
    for number, (name, runs) in enumerate(table.figures.items()):
        y = TOP + number * ROW
        end, low, high = (LABELS + scale(value) for value in (median(runs), min(runs), max(runs)))
        color = OURS if name in table.ours else LIMIT if name == table.limit else PEER
        parts += [
            _text(LABELS - 8, y + 15, name, anchor="end"),
            f'<rect x="{LABELS}" y="{y + 3}" width="{max(1.0, end - LABELS):.1f}" height="16" '
            f'rx="2" fill="{color}"/>',
            _line(low, y + 11, high, y + 11, INK),
            _text(max(end, high) + 6, y + 15, number_text(median(runs))),
        ]
    height = TOP + len(table.figures) * ROW + 12
    note = ", logarithmic" if is_logarithmic else ""
    return _svg(height, table.title, f"{table.unit}{note}; line: slowest to quickest run", parts)


def _lines(table: Table) -> str:
    xs = sorted({x for of in table.series.values() for x in of})
    values = [median(table.figures[name]) for of in table.series.values() for name in of.values()]
    width = WIDTH - LABELS - 90
    across, _ = _scale([xs[0] * 0.999, *xs], width, logarithmic=True)
    up, is_logarithmic = _scale(values, PLOT_HEIGHT - 10)
    bottom = TOP + PLOT_HEIGHT
    parts = [_line(70, bottom, 70 + width, bottom, INK)]
    parts += [_text(70 + across(x), bottom + 18, f"{x:,g}", anchor="middle") for x in xs]
    for value in _ticks(values, is_logarithmic):
        y = bottom - up(value)
        parts += [_line(70, y, 70 + width, y, FAINT), _text(62, y + 4, number_text(value), "end")]
    for number, (line, of) in enumerate(table.series.items()):
        color = LINES[number % len(LINES)]
        points = [(70 + across(x), bottom - up(median(table.figures[of[x]]))) for x in sorted(of)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
        y = TOP + number * 20
        parts += [
            _line(WIDTH - LABELS + 10, y + 6, WIDTH - LABELS + 30, y + 6, color, 3),
            _text(WIDTH - LABELS + 38, y + 10, line),
        ]
    height = max(bottom + 44, TOP + len(table.series) * 20 + 12)
    parts.append(_text(70 + width / 2, bottom + 36, table.x_label, "middle"))
    note = ", logarithmic" if is_logarithmic else ""
    return _svg(height, table.title, f"{table.unit}{note}; medians", parts)


def _scale(
    values: list[float], length: float, logarithmic: bool | None = None
) -> tuple[Scale, bool]:
    """Return what maps values to pixels, and whether it is logarithmic."""
    most, positive = max([*values, 1e-9]), [value for value in values if value > 0]
    least = min(positive, default=1e-9)
    if logarithmic is None:
        logarithmic = most / least > LOGARITHMIC_FROM
    if not logarithmic:
        return lambda value: value / most * length, False
    low = math.log(least) - (0.0 if least == most else math.log(most / least) * 0.05)
    span = math.log(most) - low or 1.0
    return lambda value: max(0.0, (math.log(max(value, least)) - low) / span * length), True


def _ticks(values: list[float], logarithmic: bool) -> list[float]:
    most, least = max(values), min(value for value in values if value > 0)
    if logarithmic:
        powers = range(math.ceil(math.log10(least)), math.floor(math.log10(most)) + 1)
        return [10.0**power for power in powers]
    step = 10.0 ** math.floor(math.log10(most))
    step = step if most / step >= 3 else step / 2 if most / step >= 1.5 else step / 4
    return [step * number for number in range(int(most / step) + 1)]


def _svg(height: float, title: str, subtitle: str, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" style="{STYLE}">'
    )
    background = f'<rect width="{WIDTH}" height="{height:.0f}" rx="6" fill="#ffffff"/>'
    titles = [
        f"<title>{escape(title)}</title>",
        background,
        f'<text x="12" y="20" fill="{INK}" font-size="14" font-weight="600">{escape(title)}</text>',
        f'<text x="12" y="36" fill="{LIMIT}">{escape(subtitle)}</text>',
    ]
    return "\n".join([head, *titles, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{INK}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1.5) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{color}" stroke-width="{width}"/>'


def number_text(value: float) -> str:
    """Return a number with three significant digits, or all before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
