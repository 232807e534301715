"""Charts as inline SVG. Horizontal positions are per cent, so a chart fits any width while its
text and strokes keep their size; colours are classes, so the style sheet decides on dark or light.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

Interval = tuple[float, float, float]

_CURVE_HEIGHT = 150


def esc(value: Any) -> str:
    """Text for an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def dot_and_interval(figure: Interval, scale: Interval, css: str, said: str) -> str:
    """One row of a dot plot: a figure with its interval on a scale (low, middle, high)."""
    low, _, high = scale

    def at(value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.0
        return f"{100 * min(1.0, max(0.0, share)):.2f}%"

    value, start, end = (at(part) for part in figure)
    grid = "".join(
        f'<line class="grid" x1="{share}%" x2="{share}%" y1="0" y2="100%"/>'
        for share in (0, 25, 50, 75, 100)
    )
    return (
        f'<svg class="plot {esc(css)}" height="28" role="img" aria-label="{esc(said)}">{grid}'
        f'<line class="whisker" x1="{start}" x2="{end}" y1="14" y2="14"/>'
        f'<circle class="dot" cx="{value}" cy="14" r="5"/></svg>'
    )


def axis(labels: Sequence[str]) -> str:
    """The labels below rows of :func:`dot_and_interval`, evenly spaced from end to end."""
    last = max(1, len(labels) - 1)
    texts = []
    for index, label in enumerate(labels):
        anchor = "start" if index == 0 else "end" if index == last else "middle"
        texts.append(
            f'<text x="{100 * index / last:g}%" y="13" text-anchor="{anchor}">{esc(label)}</text>'
        )
    return f'<svg class="plot axis" height="18" aria-hidden="true">{"".join(texts)}</svg>'


def bar(share: float, css: str = "", height: int = 10) -> str:
    """A horizontal bar of a share of the width."""
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<svg class="bar {esc(css)}" height="{height}" aria-hidden="true">'
        f'<rect class="track" width="100%" height="100%" rx="2"/>'
        f'<rect class="fill" width="{width:.2f}%" height="100%" rx="2"/></svg>'
    )


def stacked(parts: Sequence[tuple[str, float]], height: int = 10) -> str:
    """Parts of a whole side by side, as (class, amount)."""
    total = math.fsum(amount for _, amount in parts)
    rects, start = [], 0.0
    for css, amount in parts if total > 0 else ():
        width = 100 * amount / total
        rects.append(
            f'<rect class="{esc(css)}" x="{start:.2f}%" width="{width:.2f}%" height="100%"/>'
        )
        start += width
    return f'<svg class="bar" height="{height}" aria-hidden="true">{"".join(rects)}</svg>'


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover low to high in about ``count`` steps, ends included."""
    if not high > low:
        low, high = low - 0.5, low + 0.5
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def curve(points: Sequence[tuple[float, float]], scale: Sequence[float], said: str) -> str:
    """Loss over steps. ``scale`` are the ticks of the y axis, shared by charts to be compared."""
    height, low, high = _CURVE_HEIGHT, scale[0], scale[-1]
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0

    def y(value: float) -> float:
        return height * (1 - (value - low) / (high - low))

    lines = []
    for value in scale:
        top = y(value)
        lines.append(
            f'<line class="grid" x1="0" x2="100%" y1="{top:.1f}" y2="{top:.1f}"/>'
            f'<text x="-8" y="{top + 4:.1f}" text-anchor="end">{esc(f"{value:g}")}</text>'
        )
    smooth = _smoothed(points)
    drawn = []
    for css, line in (
        (("raw", points), ("line", smooth)) if smooth != points else (("line", points),)
    ):
        path = " ".join(f"{1000 * (px - first) / span:.1f},{y(py):.2f}" for px, py in line)
        drawn.append(f'<polyline class="{css}" points="{path}"/>')
    if len(points) == 1:
        drawn = []
        lines.append(f'<circle class="dot" cx="50%" cy="{y(points[0][1]):.1f}" r="4"/>')
    return (
        f'<svg class="curve" height="{height + 40}" role="img" aria-label="{esc(said)}">'
        f'<svg y="16" height="{height}" class="open">{"".join(lines)}'
        f'<svg viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" '
        f'height="{height}" class="open">{"".join(drawn)}</svg></svg>'
        f'<text x="0" y="{height + 34}">step {first:,.0f}</text>'
        f'<text x="100%" y="{height + 34}" text-anchor="end">{last:,.0f}</text></svg>'
    )


def _smoothed(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """A centred running mean; short curves are left as they are."""
    if len(points) < 40:
        return points
    reach = len(points) // 25
    smooth = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)  # the same on both sides: no lag
        window = [y for _, y in points[index - near : index + near + 1]]
        smooth.append((x, math.fsum(window) / len(window)))
    return smooth
