"""The plots of a comparison, as inline SVG: see :mod:`step_ray.report.charts`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from step_ray.evaluation.table import Row
from step_ray.report.charts import axis, dot_and_interval, esc, stacked

COLOURS = ("#3b82f6", "#f97316", "#22a06b", "#a855f7", "#e11d48", "#0891b2", "#ca8a04", "#64748b")
STYLE = "".join(f".c{n}{{fill:{colour}}}" for n, colour in enumerate(COLOURS)) + (
    "svg.plot,svg.bar{width:100%;overflow:visible}.points{width:100%;height:270px;overflow:visible}"
    ".grid{stroke:#8884}.whisker{stroke:currentColor;stroke-width:2}.dot{fill:#3b82f6}"
    ".curve{stroke:#3b82f6;stroke-width:1.5;opacity:.6}.track{fill:#8883}"
    "text{fill:currentColor;font-size:12px}.key{display:inline-block;margin-right:1em}"
    ".key svg{width:.8em;height:.8em;margin-right:.3em}"
)
_HEIGHT = 230  # pixels from 0 to 1 in a plot over data
_WIDE = 86  # per cent of the width from no data to the most

Counts = Mapping[str, Mapping[str, int]]


def dots(rows: Sequence[Row], figure: str) -> str:
    """``success`` or ``reward`` of every row with its 95 % interval."""
    lines = ""
    for row in rows:
        one = getattr(row, figure)
        low, high = (one.value if math.isnan(part) else part for part in (one.low, one.high))
        said = f"{row.student}: {one.value:.3f}, from {low:.3f} to {high:.3f}"
        plot = dot_and_interval((one.value, low, high), (0.0, 0.5, 1.0), "", said)
        lines += f"<tr><td>{esc(row.student)}</td><td width='70%'>{plot}</td></tr>"
    scale = axis(["0", "0.25", "0.5", "0.75", "1"])
    return f"<table>{lines}<tr><td></td><td>{scale}</td></tr></table>"


def over_data(rows: Sequence[Row]) -> str:
    """Average reward over the number of training trajectories, with 95 % intervals; students that
    differ in the amount of data alone are joined by a line: their learning curve."""
    most = max([row.trajectories for row in rows], default=0.0) or 1.0

    def x(row: Row) -> str:
        return f"{2 + _WIDE * row.trajectories / most:.2f}%"

    def y(value: float) -> str:
        return f"{_HEIGHT * (1 - min(1.0, max(0.0, value))):.1f}"

    marks = ""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks += (
            f'<line class="grid" x1="0" x2="100%" y1="{y(share)}" y2="{y(share)}"/>'
            f'<text x="100%" y="{float(y(share)) - 3:.1f}" text-anchor="end">{share:g}</text>'
        )
    for curve in dict.fromkeys(row.curve for row in rows):
        line = sorted((r for r in rows if r.curve == curve), key=lambda row: row.trajectories)
        for a, b in itertools.pairwise(line):
            marks += (
                f'<line class="curve" x1="{x(a)}" y1="{y(a.reward.value)}" x2="{x(b)}" '
                f'y2="{y(b.reward.value)}"/>'
            )
    for row in rows:
        one = row.reward
        if not math.isnan(one.low):
            marks += (
                f'<line class="whisker" x1="{x(row)}" x2="{x(row)}" y1="{y(one.low)}" '
                f'y2="{y(one.high)}"/>'
            )
        above = float(y(one.value)) - 9
        marks += (
            f'<circle class="dot" cx="{x(row)}" cy="{y(one.value)}" r="5"/>'
            f'<text x="{x(row)}" dx="8" y="{above:.1f}">{esc(row.student)}</text>'
        )
    said = "average reward over training trajectories: " + ", ".join(
        f"{row.student} {row.reward.value:.3f} of {row.trajectories:,.0f}" for row in rows
    )
    return (
        f'<svg class="points" role="img" aria-label="{esc(said)}">{marks}'
        f'<text x="2%" y="{_HEIGHT + 20}">0</text>'
        f'<text x="{2 + _WIDE}%" y="{_HEIGHT + 20}" text-anchor="middle">{most:,.0f} '
        "trajectories</text></svg>"
    )


def by_type(rows: Sequence[Row]) -> str:
    """Average reward in each type of task: a bar for each student."""
    colours = _colours(row.student for row in rows)
    kinds = sorted({kind for row in rows for kind in row.by_type})
    lines = ""
    for kind in kinds:
        here = [row for row in rows if kind in row.by_type]
        bars = ""
        for place, row in enumerate(here):
            value = row.by_type[kind]
            width = 100 * min(1.0, max(0.0, value))
            bars += (
                f'<rect class="track" y="{14 * place}" width="90%" height="10" rx="2"/>'
                f'<rect class="{colours[row.student]}" y="{14 * place}" width="{0.9 * width:.2f}%" '
                f'height="10" rx="2"/><text x="91%" y="{14 * place + 9}">{value:.3f}</text>'
            )
        said = f"{kind}: " + ", ".join(f"{row.student} {row.by_type[kind]:.3f}" for row in here)
        lines += (
            f"<tr><td>{esc(kind.replace('_', ' '))}</td><td width='75%'><svg class='plot' "
            f'height="{14 * len(here)}" role="img" aria-label="{esc(said)}">{bars}</svg></td></tr>'
        )
    return f"{_legend(colours)}<table>{lines}</table>"


def kinds_at_test(rows: Sequence[Row]) -> str:
    """What share of each student's turns are errors, by kind; a full bar is all of its turns."""
    colours = _colours(kind for row in rows for kind in row.kinds)
    lines = ""
    for row in rows:
        parts = [(colours[kind], float(count)) for kind, count in row.kinds.items()]
        wrong = sum(row.kinds.values())
        rest = [("track", float(max(0, row.turns - wrong)))]
        said = ", ".join(f"{kind} {count:,}" for kind, count in row.kinds.items()) or "none"
        lines += (
            f"<tr><td>{esc(row.student)}</td><td width='55%'>{stacked([*parts, *rest])}</td>"
            f"<td>{wrong:,} of {row.turns:,} turns: {esc(said)}</td></tr>"
        )
    return f"{_legend(colours)}<div class=wide><table>{lines}</table></div>"


def kinds_in_synthesis(counts: Counts) -> str:
    """Of the errors that each method's teacher found, the share of each kind."""
    colours = _colours(kind for each in counts.values() for kind in each)
    lines = ""
    for method, each in counts.items():
        parts = [(colours[kind], float(count)) for kind, count in each.items()]
        said = ", ".join(f"{kind} {count:,}" for kind, count in each.items())
        lines += (
            f"<tr><td>{esc(method)}</td><td width='55%'>{stacked(parts)}</td>"
            f"<td>{sum(each.values()):,}: {esc(said)}</td></tr>"
        )
    return f"{_legend(colours)}<div class=wide><table>{lines}</table></div>"


def _colours(names: Iterable[str]) -> dict[str, str]:
    """Name -> class; names beyond the last colour begin again with the first."""
    return {name: f"c{n % len(COLOURS)}" for n, name in enumerate(dict.fromkeys(names))}


def _legend(colours: Mapping[str, str]) -> str:
    return "".join(
        f'<span class=key><svg aria-hidden="true"><rect class="{css}" width="100%" '
        f'height="100%"/></svg>{esc(name)}</span>'
        for name, css in colours.items()
    )
