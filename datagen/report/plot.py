"""Line charts as SVG: small, offline, readable in a light and a dark scheme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    "#2f6fb3", "#d9732b", "#3f9142", "#b3203a", "#7a54b0", "#b28a00", "#16877d", "#c74b94",
    "#6b7280", "#8a5a3b", "#5aa0d8", "#e5a06b",
)  # fmt: skip
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.panel { fill: #ffffff; stroke: #d0d7de }
.title { font-size: 14px; font-weight: 600 }
.quiet { fill: #59636e; font-size: 11px }
.grid { stroke: #d0d7de; stroke-width: 0.6 }
.mark { stroke: #59636e; stroke-dasharray: 4 3 }
.line { fill: none; stroke-width: 1.6 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .panel { fill: #151b23; stroke: #3d444d }
  .quiet { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .mark { stroke: #9198a1 }
}
"""
_MOST_POINTS = 300
_LEFT, _TOP, _BOTTOM, _LEGEND = 62.0, 34.0, 30.0, 148.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named line through points (x, y); `faint` lets it stand behind the others."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at x that something happened at."""

    x: float
    name: str


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    marks: Sequence[Mark] = (),
    log: bool = False,
    width: int = 760,
    height: int = 240,
) -> str:
    """Draw lines over steps; `log` takes the logarithm of y and leaves out what has none.

    Longer lines are thinned to the means of equal stretches. Without a point the chart says so.
    """
    shown = [_thinned(line, log) for line in lines]
    points = [point for line in shown for point in line.points]
    right, low = width - _LEGEND, height - _BOTTOM
    parts = [
        f'<rect class="panel" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="14" y="21">{escape(title)}</text>',
    ]
    if points:
        xs, ys = (
            _Axis([x for x, _ in points], _LEFT, right),
            _Axis([y for _, y in points], low, _TOP, log=log),
        )
        parts += _grid(xs, ys, right, low)
        parts += _marks(marks, xs, low)
        for number, line in enumerate(shown):
            parts += _drawn(line, COLOURS[number % len(COLOURS)], number, xs, ys, right)
    else:
        parts.append(f'<text class="quiet" x="14" y="{height / 2}">nothing was measured</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


class _Axis:
    """Maps values to places, with round ticks."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, *, log: bool = False
    ) -> None:
        low, high = min(values), max(values)
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12 * max(abs(high), 1.0):
            low, high = low - 0.5, high + 0.5
        room = 0.04 * (high - low) if start > end else 0.0
        self.low, self.high, self.start, self.end, self.log = (
            low - room,
            high + room,
            start,
            end,
            log,
        )

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Four to nine round values."""
        if self.log and self.high - self.low >= 2:
            step = max(1, math.ceil((self.high - self.low) / 6))
            return [10.0**e for e in range(math.ceil(self.low), math.floor(self.high) + 1, step)]
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        raw = (high - low) / 5
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
        first = math.ceil(low / step)
        return [i * step for i in range(first, math.floor(high / step) + 1) if i or not self.log]


def _thinned(line: Line, log: bool) -> Line:
    points = [(x, y) for x, y in line.points if math.isfinite(y) and (y > 0 or not log)]
    size = math.ceil(len(points) / _MOST_POINTS)
    if size > 1:
        groups = [points[i : i + size] for i in range(0, len(points), size)]
        points = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return Line(name=line.name, points=points, faint=line.faint)


def _grid(xs: _Axis, ys: _Axis, right: float, low: float) -> Iterable[str]:
    for value in ys.ticks():
        y = ys(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="quiet" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{value:.6g}</text>"
        )
    for value in xs.ticks():
        yield (
            f'<text class="quiet" x="{xs(value):.1f}" y="{low + 17}" text-anchor="middle">'
            f"{value:,.6g}</text>"
        )


def _marks(marks: Sequence[Mark], xs: _Axis, low: float) -> Iterable[str]:
    for mark in marks:
        x = xs(mark.x)
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 2}" y2="{low}"/>'
        yield (
            f'<text class="quiet" x="{x - 4:.1f}" y="{_TOP + 8}" text-anchor="end">'
            f"{escape(mark.name)}</text>"
        )


def _drawn(
    line: Line, colour: str, number: int, xs: _Axis, ys: _Axis, right: float
) -> Iterable[str]:
    path = " ".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y in line.points)
    opacity = ' opacity="0.35"' if line.faint else ""
    if len(line.points) == 1:
        x, y = line.points[0]
        yield f'<circle cx="{xs(x):.1f}" cy="{ys(y):.1f}" r="3.5" fill="{colour}"{opacity}/>'
    else:
        yield f'<polyline class="line" stroke="{colour}"{opacity} points="{path}"/>'
    y = _TOP + 8 + 15 * number
    yield f'<rect x="{right + 10}" y="{y - 5:.1f}" width="12" height="3" fill="{colour}"{opacity}/>'
    yield f'<text class="quiet" x="{right + 27}" y="{y:.1f}">{escape(line.name)}</text>'
