"""The section of a comparison: results of several runs side by side, and what differs in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from step_ray.evaluation.comparison import Scores, paired_by_task
from step_ray.lineage import difference, flat
from step_ray.manifest import StoreError
from step_ray.progress import duration, percent
from step_ray.report.charts import esc
from step_ray.report.data import RunData, interval, number
from step_ray.report.groups import datasets_of
from step_ray.report.parts import count, figure, plain
from step_ray.schema import SchemaError

Figure = tuple[float, float, float]
Key = tuple[str, str]  # split, student
_ELSEWHERE = ("name", "output")  # differ by nature


def comparison(data: RunData) -> str:
    """This run against others; empty if there are none."""
    if not data.others:
        return ""
    runs = [data, *data.others]
    made = f"{_results(runs)}{_facts(runs)}{_config(runs)}"
    data.problems += [f"{run.name}: {what}" for run in data.others for what in run.problems]
    return made


def paired(mine: Mapping[Key, Scores], first: Mapping[Key, Scores], key: Key) -> Figure | None:
    """The mean difference over the episodes that both runs played, of the same task, data and seed,
    with a bootstrap over tasks; None unless these are all of both."""
    a, b = mine.get(key, {}), first.get(key, {})
    if not a or a.keys() != b.keys():
        return None
    found = paired_by_task(a, b)
    return found.value, found.low, found.high


def episodes(run: RunData) -> dict[Key, dict[tuple[str, int], float]]:
    """(split, student) -> (task and its data, seed) -> 1 for a success; what cannot be read is left
    out and named."""
    found: dict[Key, dict[tuple[str, int], float]] = {}
    try:
        for stage in datasets_of(run.path):
            for dataset in stage:
                if not dataset.evaluation:
                    continue
                for row in dataset.rows(["task", "split", "success", "provenance"]):
                    facts = row["provenance"]
                    episode = (f"{facts['data_hash']} {row['task']}", facts["seed"])
                    for name in dataset.student(row).split(", "):
                        of = found.setdefault((dataset.split(row), name), {})
                        of[episode] = float(row["success"])
    except (StoreError, SchemaError) as error:
        run.problems.append(str(error))
    return found


def newcombe(a: Figure, b: Figure) -> Figure:
    """a - b of two independent figures (value, low, high) with a 95 % interval: Newcombe's hybrid
    score interval for shares with Wilson intervals, MOVER in general."""
    (one, low, high), (other, below, above) = a, b
    gap = one - other
    return (
        gap,
        gap - math.hypot(one - low, above - other),
        gap + math.hypot(high - one, other - below),
    )


def _results(runs: Sequence[RunData]) -> str:
    keys = dict.fromkeys(
        (str(row.get("split", "?")), str(row.get("student", "?")))
        for run in runs
        for row in run.students
    )
    if not keys:
        return '<p class="absent">None of the runs has results yet.</p>'
    played = [episodes(run) for run in runs]
    body, split = "", ""
    for key in sorted(keys, key=lambda key: list(dict.fromkeys(k[0] for k in keys)).index(key[0])):
        if key[0] != split:
            split = key[0]
            body += (
                f'<tr class="group"><th scope=rowgroup colspan={1 + 3 * len(runs)}>'
                f"{esc(split)}</th></tr>"
            )
        cells = ""
        first: Figure | None = None
        for number_, run in enumerate(runs):
            row = _row(run, key)
            success, reward = (interval(row.get(n)) for n in ("success", "average_reward"))
            cells += (
                f'<td class="new">{figure(success, 100, 1, " %")}</td>'
                f"<td>{figure(reward, 1, 3, '')}</td>"
            )
            if number_ == 0:
                first = success
                cells += f"<td>{count(row.get('n'))}</td>"
            else:
                same = paired(played[number_], played[0], key)
                cells += f"<td>{_gap(success, first, same)}</td>"
        body += f"<tr><th scope=row>{esc(key[1])}</th>{cells}</tr>"
    names = "".join(
        f'<th scope=colgroup colspan=3 class="new">{esc(name)}</th>' for name in _names(runs)
    )
    heads = "".join(
        '<th scope=col class="new">Success</th><th scope=col>Reward</th>'
        f"<th scope=col>{'Episodes' if not number_ else 'Success minus this run'}</th>"
        for number_ in range(len(runs))
    )
    return (
        '<div class="scroll"><table class="figures compare"><thead>'
        f"<tr><th></th>{names}</tr><tr><th scope=col>Student</th>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
        '<p class="note">Under each figure its 95 % interval. Differences are in points of 1 %, '
        "paired (bootstrapped over tasks) where both runs played the very same episodes, else with "
        "Newcombe's interval for independent runs. Where all tasks differ by the same, there is "
        "nothing to bootstrap. A difference is marked if its interval is on one side of 0.</p>"
    )


def _gap(mine: Figure | None, first: Figure | None, same: Figure | None) -> str:
    if mine is None or first is None:
        return "–"
    gap, low, high = same or newcombe(mine, first)
    css = "up" if low > 0 else "down" if high < 0 else ""
    between = "no interval" if math.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"
    return (
        f'<b class="gap {css}">{100 * gap:+.1f}</b>'
        f"<small>{between}{', paired' if same else ''}</small>"
    )


def _facts(runs: Sequence[RunData]) -> str:
    """Synthesis and time of each run."""
    lines: list[tuple[str, list[str]]] = []

    def add(name: str, values: Sequence[str]) -> None:
        if any(value != "–" for value in values):
            lines.append((name, list(values)))

    def share(run: RunData, part: str, whole: str) -> str:
        a, b = number(run.synthesis.get(part)), number(run.synthesis.get(whole))
        return percent(a / b) if a is not None and b else "–"

    def each(run: RunData, part: str) -> str:
        a, b = number(run.synthesis.get(part)), number(run.synthesis.get("episodes"))
        return f"{a / b:.2f}" if a is not None and b else "–"

    add("Episodes of synthesis", [count(run.synthesis.get("episodes")) for run in runs])
    add("Errors per episode", [each(run, "errors") for run in runs])
    add("Kept for training", [share(run, "kept", "episodes") for run in runs])
    add("Corrections that recovered", [share(run, "recovered", "corrections") for run in runs])
    stages = dict.fromkeys(stage for run in runs for stage in run.seconds)
    for stage in stages:
        totals = [run.seconds.get(stage, {}).get("total") for run in runs]
        add(f"Time of {stage}", ["–" if t is None else duration(t) for t in totals])
    if not lines:
        return ""
    body = "".join(
        f"<tr><th scope=row>{esc(name)}</th>{''.join(f'<td>{esc(v)}</td>' for v in values)}</tr>"
        for name, values in lines
    )
    return f"<h3>Synthesis and time</h3>{_table(runs, 'Figure', body, 'figures')}"


def _config(runs: Sequence[RunData]) -> str:
    """The fields of the configs that are not the same in all."""
    first = _settings(runs[0])
    fields = sorted({name for run in runs[1:] for name in difference(first, _settings(run))})
    if not fields:
        return "<h3>Config</h3><p>The same, but for names and folders.</p>"
    known = [dict(flat(_settings(run))) for run in runs]
    body = ""
    for name in fields:
        cells = "".join(f"<td><code>{esc(plain(one.get(name, '–')))}</code></td>" for one in known)
        body += f"<tr><th scope=row><code>{esc(name)}</code></th>{cells}</tr>"
    return f"<h3>What differs in the config</h3>{_table(runs, 'Field', body, 'plain')}"


def _table(runs: Sequence[RunData], what: str, body: str, css: str) -> str:
    heads = "".join(f"<th scope=col>{esc(name)}</th>" for name in _names(runs))
    return (
        f'<div class="scroll"><table class="{css}"><thead><tr><th scope=col>{what}</th>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _names(runs: Sequence[RunData]) -> list[str]:
    """What the runs are called: their names, with the folder where these are not enough."""
    names = [run.name for run in runs]
    same = len(set(names)) < len(names)
    return [f"{run.name} ({run.path.resolve().name})" if same else run.name for run in runs]


def _row(run: RunData, key: tuple[str, str]) -> dict[str, Any]:
    for row in run.students:
        if (str(row.get("split", "?")), str(row.get("student", "?"))) == key:
            return row
    return {}


def _settings(run: RunData) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key not in _ELSEWHERE}
