"""A comparison as a page, as Markdown and as CSV, from its rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from step_ray import files
from step_ray._version import __version__
from step_ray.evaluation.statistics import Interval
from step_ray.evaluation.table import RATES, Row
from step_ray.report.charts import axis, bar, dot_and_interval, esc

FOLDER = "report"
_HEAD = (
    "student", "split", "n", "success, %", "average reward", "reward minus reference",
    "p (McNemar)", "p (permutation)", "trajectories", "tokens", "hours", "GPU hours",
    "recovered, %", "invalid, %", "loops, %",
)  # fmt: skip
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem
auto;padding:0 1rem}table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{padding:.25rem
.6rem;text-align:right;border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}.wide{overflow-x:auto}.grid{stroke:#8884}
.whisker{stroke:currentColor;stroke-width:2}.dot{fill:#3b82f6}.track{fill:#8883}.fill{fill:#3b82f6}
svg.plot,svg.bar{width:100%;overflow:visible}.points{width:100%;height:260px;overflow:visible}
text{fill:currentColor;font-size:12px}.label{font-size:13px}.note{opacity:.7}
"""


def write(folder: Path, title: str, rows: Sequence[Row], kinds: Kinds, said: str) -> Path:
    """Writes ``index.html``, ``table.md`` and ``table.csv``; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text_atomic(folder / "table.md", markdown(rows, said))
    files.write_text_atomic(folder / "table.csv", as_csv(rows))
    files.write_text_atomic(folder / "index.html", page(title, rows, kinds, said))
    return folder / "index.html"


Kinds = Mapping[str, Mapping[str, int]]
"""Method -> kind of error -> how many were found in synthesis."""


def markdown(rows: Sequence[Row], said: str) -> str:
    """A table for each environment, and what its figures are."""
    parts = []
    for env in dict.fromkeys(row.env for row in rows):
        parts += [f"**{env}**", "", f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
        parts += [f"| {' | '.join(_cells(row))} |" for row in rows if row.env == env]
        parts.append("")
    return "\n".join([*parts, said, ""])


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each row, figures in full; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    intervals = ("success", "reward", "versus")
    names = [f"{name}{part}" for name in intervals for part in ("", "_low", "_high")]
    costs = ("trajectories", "tokens", "hours", "gpu_hours")
    writer.writerow(
        ["env", "student", "split", "n", *names, "p_success", "p_reward", *costs, *RATES]
    )
    for row in rows:
        figures: list[float | None] = []
        for name in intervals:
            one = getattr(row, name)
            figures += [None] * 3 if one is None else [one.value, one.low, one.high]
        figures += [row.p_success, row.p_reward, *(getattr(row, name) for name in costs)]
        figures += [row.rates[name] for name in RATES]
        cells = ["" if f is None or math.isnan(f) else repr(float(f)) for f in figures]
        writer.writerow([row.env, row.student, row.split, row.n, *cells])
    return text.getvalue()


def page(title: str, rows: Sequence[Row], kinds: Kinds, said: str) -> str:
    """The page: tables, success with intervals, success over data, by type, kinds of errors."""
    body = [f"<h1>{esc(title)}</h1><p class=note>{esc(said)}</p>"]
    for env in dict.fromkeys(row.env for row in rows):
        mine = [row for row in rows if row.env == env]
        body.append(f"<h2>{esc(env)}</h2>{_table(mine)}")
        for split in dict.fromkeys(row.split for row in mine):
            here = [row for row in mine if row.split == split]
            body.append(f"<h3>{esc(split)}: success, 95 % over seeds</h3>{_dots(here)}")
            body.append("<h3>Success over the number of training trajectories</h3>")
            body.append(_over_data(here))
            body.append(f"<h3>Success by type of task</h3>{_by_type(here)}")
    if kinds:
        body.append(f"<h2>Errors that were found in synthesis, by kind</h2>{_kinds(kinds)}")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name=viewport content="width=device-width">'
        f"<title>{esc(title)}</title><style>{_STYLE}</style>{''.join(body)}"
        f"<p class=note>step-ray {esc(__version__)}</p></html>\n"
    )


def _cells(row: Row) -> list[str]:
    rates = [f"{100 * row.rates[name]:.1f}" for name in RATES]
    p = ["" if value is None else f"{value:.3f}" for value in (row.p_success, row.p_reward)]
    return [
        row.student,
        row.split,
        str(row.n),
        _interval(row.success, 100, 1),
        _interval(row.reward, 1, 3),
        "" if row.versus is None else _interval(row.versus, 1, 3, "+"),
        *p,
        f"{row.trajectories:,.0f}",
        f"{row.tokens:,.0f}",
        f"{row.hours:.2f}",
        f"{row.gpu_hours:.2f}",
        *rates,
    ]


def _interval(one: Interval, scale: float, digits: int, sign: str = "") -> str:
    value, low, high = (
        f"{scale * part:{sign}.{digits}f}" for part in (one.value, one.low, one.high)
    )
    return value if math.isnan(one.low) else f"{value} ({low} to {high})"


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{esc(name)}</th>" for name in _HEAD)
    lines = "".join(
        "<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in _cells(row)) + "</tr>" for row in rows
    )
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _dots(rows: Sequence[Row]) -> str:
    lines = ""
    for row in rows:
        one = row.success
        low, high = (one.value if math.isnan(part) else part for part in (one.low, one.high))
        said = f"{row.student}: {_interval(one, 100, 1)} %"
        plot = dot_and_interval((one.value, low, high), (0.0, 0.5, 1.0), "", said)
        lines += f"<tr><td class=label>{esc(row.student)}</td><td width='70%'>{plot}</td></tr>"
    scale = axis(["0", "25", "50", "75", "100 %"])
    return f"<table>{lines}<tr><td></td><td>{scale}</td></tr></table>"


def _over_data(rows: Sequence[Row]) -> str:
    most = max([row.trajectories for row in rows], default=0.0) or 1.0
    marks = ""
    for row in rows:
        x, y = 2 + 88 * row.trajectories / most, 230 * (1 - row.success.value)
        marks += (
            f'<circle class="dot" cx="{x:.2f}%" cy="{y:.1f}" r="5"/>'
            f'<text x="{x:.2f}%" y="{y - 9:.1f}" text-anchor="middle">{esc(row.student)}</text>'
        )
    lines = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{230 * (1 - share)}" y2="{230 * (1 - share)}"/>'
        f'<text x="100%" y="{230 * (1 - share) - 3}" text-anchor="end">{share:.0%}</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    said = esc("success over trajectories: " + ", ".join(row.student for row in rows))
    return (
        f'<svg class="points" role="img" aria-label="{said}">{lines}{marks}'
        '<text x="2%" y="250">0</text>'
        f'<text x="90%" y="250" text-anchor="middle">{most:,.0f}</text>'
        "</svg>"
    )


def _by_type(rows: Sequence[Row]) -> str:
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.by_type))
    head = "".join(f"<th>{esc(kind)}</th>" for kind in kinds)
    lines = ""
    for row in rows:
        cells = "".join(
            f"<td>{100 * row.by_type[kind]:.0f} %{bar(row.by_type[kind])}</td>"
            if kind in row.by_type
            else "<td></td>"
            for kind in kinds
        )
        lines += f"<tr><td>{esc(row.student)}</td>{cells}</tr>"
    return f"<div class=wide><table><tr><th></th>{head}</tr>{lines}</table></div>"


def _kinds(kinds: Kinds) -> str:
    names = list(dict.fromkeys(kind for counts in kinds.values() for kind in counts))
    head = "".join(f"<th>{esc(name)}</th>" for name in names)
    lines = "".join(
        f"<tr><td>{esc(method)}</td>"
        + "".join(f"<td>{counts.get(name, 0)}</td>" for name in names)
        + "</tr>"
        for method, counts in kinds.items()
    )
    return f"<div class=wide><table><tr><th></th>{head}</tr>{lines}</table></div>"
