"""A comparison as a page, as Markdown and as CSV, from its rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from step_ray import files
from step_ray._version import __version__
from step_ray.evaluation.comparison import Gap
from step_ray.evaluation.made import Pasting
from step_ray.evaluation.statistics import Interval
from step_ray.evaluation.table import RATES, Row
from step_ray.lineage import RunError
from step_ray.report import suite_plots as plots
from step_ray.report.charts import esc

FOLDER = "report"
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem
auto;padding:0 1rem}table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{padding:.25rem
.6rem;text-align:right;border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}.wide{overflow-x:auto}.note{opacity:.7}
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a comparison shows. ``kinds``: method -> kind of error -> how many its teacher
    found; ``said``: what the figures are, in sentences."""

    title: str
    rows: Sequence[Row]
    said: Sequence[str]
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pastings: Sequence[Pasting] = ()


def write(folder: Path, found: Findings) -> Path:
    """Writes ``index.html``, ``table.md`` and ``table.csv``; returns the page's path. Raises
    RunError for a folder that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text_atomic(folder / "table.md", markdown(found))
        files.write_text_atomic(folder / "table.csv", as_csv(found.rows))
        files.write_text_atomic(folder / "index.html", page(found))
    except OSError as error:
        raise RunError(files.explain(error, folder)) from error
    return folder / "index.html"


def _interval(one: Interval, scale: float, digits: int, sign: str = "") -> str:
    value, low, high = (
        f"{scale * part:{sign}.{digits}f}" for part in (one.value, one.low, one.high)
    )
    return value if math.isnan(one.low) else f"{value} ({low} to {high})"


def _gap(row: Row, what: str, scale: float, digits: int) -> str:
    """Over seeds; of a single seed over tasks."""
    if row.versus is None:
        return ""
    one: Gap = getattr(row.versus, what)
    return _interval(one.tasks if math.isnan(one.p_seeds) else one.seeds, scale, digits, "+")


def _p(row: Row, what: str, name: str) -> str:
    """Empty where there is no test."""
    p = math.nan if row.versus is None else getattr(getattr(row.versus, what), name)
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


Column = tuple[str, Callable[[Row], str]]
_WHO: tuple[Column, ...] = (("student", lambda r: r.student), ("split", lambda r: r.split))
_RESULTS: tuple[Column, ...] = (
    *_WHO,
    ("n", lambda r: str(r.n)),
    ("success by seed, %", lambda r: " ".join(f"{100 * one:.0f}" for one in r.each.values())),
    ("success, %", lambda r: _interval(r.success, 100, 1)),
    ("minus reference", lambda r: _gap(r, "success", 100, 1)),
    ("p, seeds", lambda r: _p(r, "success", "p_seeds")),
    ("p, tasks", lambda r: _p(r, "success", "p_tasks")),
    ("average reward", lambda r: _interval(r.reward, 1, 3)),
    ("minus reference", lambda r: _gap(r, "reward", 1, 3)),
    ("p, seeds", lambda r: _p(r, "reward", "p_seeds")),
    ("p, tasks", lambda r: _p(r, "reward", "p_tasks")),
)
_BEHIND: tuple[Column, ...] = (
    *_WHO,
    ("trajectories", lambda r: f"{r.trajectories:,.0f}"),
    ("their tokens", lambda r: f"{r.cost.tokens:,.0f}"),
    ("tokens trained", lambda r: f"{r.cost.trained:,.0f}"),
    ("hours", lambda r: f"{r.cost.hours:.2f}"),
    ("CPU hours", lambda r: f"{r.cost.cpu_hours:.2f}"),
    ("GPU hours", lambda r: f"{r.cost.gpu_hours:.2f}"),
    ("errors", lambda r: f"{sum(r.kinds.values()):,}"),
    ("recovered, %", lambda r: _percent(r.rates["recovery_rate"])),
    ("episodes recovered, %", lambda r: _percent(r.rates["episode_recovery_rate"])),
    ("invalid, %", lambda r: _percent(r.rates["invalid_action_rate"])),
    ("loops, %", lambda r: _percent(r.rates["loop_rate"])),
)
_TABLES = (("", _RESULTS), ("Data, cost and errors", _BEHIND))
_PASTED = ("method", "environment", "deviations", "pasted", "not executable", "share, %")


def markdown(found: Findings) -> str:
    """Two tables for each environment, STeCa's pasted calibrations, and what the figures are."""
    parts = []
    for env in dict.fromkeys(row.env for row in found.rows):
        mine = [row for row in found.rows if row.env == env]
        for title, columns in _TABLES:
            parts += [f"**{env}**{f': {title.lower()}' if title else ''}", ""]
            heads = [name for name, _ in columns]
            parts += [*_lines(heads, [[of(row) for _, of in columns] for row in mine]), ""]
    if found.pastings:
        parts += ["**Pasted calibrations**", ""]
        parts += [*_lines(_PASTED, [_pasted(one) for one in found.pastings]), ""]
    return "\n".join([*parts, " ".join(found.said), ""])


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each row, figures in full; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    gaps = [f"{name}_gap_{over}" for name in ("success", "reward") for over in ("seeds", "tasks")]
    intervals = ("success", "reward", *gaps)
    names = [f"{name}{part}" for name in intervals for part in ("", "_low", "_high")]
    tests = [f"p_{name.replace('_gap', '')}" for name in gaps]
    costs = ("tokens", "trained", "hours", "cpu_hours", "gpu_hours")
    writer.writerow(
        ["env", "student", "split", "n", "seeds", *names, *tests, "trajectories",
         *costs, "errors", *RATES]
    )  # fmt: skip
    for row in rows:
        versus = (row.versus.success, row.versus.reward) if row.versus else ()
        figures: list[float | None] = []
        for one in (row.success, row.reward, *(i for v in versus for i in (v.seeds, v.tasks))):
            figures += [one.value, one.low, one.high]
        figures += [p for v in versus for p in (v.p_seeds, v.p_tasks)]
        if not versus:
            figures += [None] * (3 * len(gaps) + len(tests))
        figures += [row.trajectories, *(getattr(row.cost, name) for name in costs)]
        figures += [float(sum(row.kinds.values())), *(row.rates[name] for name in RATES)]
        cells = ["" if f is None or math.isnan(f) else repr(float(f)) for f in figures]
        seeds = " ".join(map(str, row.each))
        writer.writerow([row.env, row.student, row.split, row.n, seeds, *cells])
    return text.getvalue()


def page(found: Findings) -> str:
    """The page: tables, figures with intervals, reward over data and by type, kinds of errors."""
    body = [f"<h1>{esc(found.title)}</h1><p class=note>{esc(' '.join(found.said))}</p>"]
    for env in dict.fromkeys(row.env for row in found.rows):
        mine = [row for row in found.rows if row.env == env]
        body.append(f"<h2>{esc(env)}</h2>")
        for title, columns in _TABLES:
            heads = [name for name, _ in columns]
            body.append(f"<h3>{esc(title)}</h3>" if title else "")
            body.append(_html(heads, [[of(row) for _, of in columns] for row in mine]))
        for split in dict.fromkeys(row.split for row in mine):
            here = [row for row in mine if row.split == split]
            body.append(
                f"<h3>{esc(split)}: success, 95 % intervals</h3>{plots.dots(here, 'success')}"
                f"<h3>{esc(split)}: average reward, 95 % intervals</h3>"
                f"{plots.dots(here, 'reward')}"
                f"<h3>{esc(split)}: average reward over training trajectories</h3>"
                f"{plots.over_data(here)}"
                f"<h3>{esc(split)}: average reward by type of task</h3>{plots.by_type(here)}"
                f"<h3>{esc(split)}: errors at test time, by kind</h3>{plots.kinds_at_test(here)}"
            )
    if found.kinds:
        body.append("<h2>Errors that teachers found in synthesis, by kind</h2>")
        body.append(plots.kinds_in_synthesis(found.kinds))
    if found.pastings:
        body.append("<h2>Pasted calibrations</h2>")
        body.append(_html(_PASTED, [_pasted(one) for one in found.pastings]))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name=viewport content="width=device-width">'
        f"<title>{esc(found.title)}</title><style>{_STYLE}{plots.STYLE}</style>{''.join(body)}"
        f"<p class=note>step-ray {esc(__version__)}</p></html>\n"
    )


def _pasted(one: Pasting) -> list[str]:
    counts = (one.deviations, one.pasted, one.wrong)
    share = _interval(one.share, 100, 1) if one.pasted else "–"
    return [one.method, one.env, *(f"{count:,}" for count in counts), share]


def _lines(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(line)} |" for line in cells),
    ]


def _html(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{esc(name)}</th>" for name in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in line) + "</tr>" for line in cells
    )
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
